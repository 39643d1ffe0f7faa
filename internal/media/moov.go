package media

import (
	"errors"
	"fmt"

	"github.com/Eyevinn/mp4ff/mp4"
)

// readMoov finds the tracks, and the samples of those that have a sample table (progressive files).
// Children that are of no use here (udta, meta) are not decoded, so they cannot fail either.
func (m *movie) readMoov(b box) error {
	children, err := boxes(b.payload(), b.pos+b.header)
	if err != nil {
		return err
	}
	movieScale := uint32(0)
	trex := map[uint32]*mp4.TrexBox{}
	for _, c := range children {
		switch c.kind {
		case "mvhd":
			mvhd, err := decode[*mp4.MvhdBox](c)
			if err != nil {
				return err
			}
			movieScale = mvhd.Timescale
		case "mvex":
			mvex, err := decode[*mp4.MvexBox](c)
			if err != nil {
				return err
			}
			for _, t := range mvex.Trexs {
				trex[t.TrackID] = t
			}
		}
	}
	seen := map[uint32]bool{}
	for _, c := range children {
		if c.kind != "trak" {
			continue
		}
		if len(seen) == maxTracks {
			return fmt.Errorf("it has more than %d tracks", maxTracks)
		}
		trak, err := decode[*mp4.TrakBox](c)
		if err != nil {
			return err
		}
		s, note, err := newSource(trak, movieScale)
		if err != nil {
			return err
		}
		if seen[trak.Tkhd.TrackID] {
			return fmt.Errorf("two tracks have the number %d", trak.Tkhd.TrackID)
		}
		seen[trak.Tkhd.TrackID] = true
		if note != "" {
			m.notes = append(m.notes, fmt.Sprintf("track %d %s", trak.Tkhd.TrackID, note))
		}
		if s == nil {
			continue
		}
		s.trex = trex[s.id]
		if err := m.readTable(s); err != nil {
			return err
		}
		m.sources = append(m.sources, s)
	}
	return nil
}

// newSource returns nil and a note for a track that is skipped.
func newSource(trak *mp4.TrakBox, movieScale uint32) (s *source, note string, err error) {
	if trak.Tkhd == nil || trak.Mdia == nil || trak.Mdia.Hdlr == nil || trak.Mdia.Mdhd == nil ||
		trak.Mdia.Minf == nil || trak.Mdia.Minf.Stbl == nil || trak.Mdia.Minf.Stbl.Stsd == nil {
		return nil, "", errors.New("a track misses boxes that it must have")
	}
	s = &source{id: trak.Tkhd.TrackID, trak: trak, timescale: trak.Mdia.Mdhd.Timescale}
	switch h := trak.Mdia.Hdlr.HandlerType; h {
	case "vide":
		s.kind = KindVideo
	case "soun":
		s.kind = KindAudio
	default:
		return nil, fmt.Sprintf("is skipped: it is neither video nor audio but %q", h), nil
	}
	stsd := trak.Mdia.Minf.Stbl.Stsd
	if s.timescale == 0 || len(stsd.Children) == 0 {
		return nil, "", fmt.Errorf("track %d has no timescale or no codec", s.id)
	}
	if stsd.Encv != nil || stsd.Enca != nil {
		return nil, "is skipped: it is encrypted", nil
	}
	s.codec, s.nal = codecOf(stsd)
	if trak.Edts != nil && len(trak.Edts.Elst) > 0 {
		note = s.edit(trak.Edts.Elst[0].Entries, movieScale)
	}
	return s, note, nil
}

// edit takes over what nearly all edit lists say: start later (an empty edit), start inside of the media (to hide the delay
// of B-frames or an audio encoder's priming).
func (s *source) edit(list []mp4.ElstEntry, movieScale uint32) (note string) {
	if len(list) > 0 && list[0].MediaTime == -1 {
		if movieScale > 0 && list[0].SegmentDuration/uint64(movieScale) <= maxSeconds {
			s.start = scale(list[0].SegmentDuration, uint64(movieScale), uint64(s.timescale))
		}
		list = list[1:]
	}
	if len(list) > 0 && list[0].MediaTime > 0 && uint64(list[0].MediaTime)/uint64(s.timescale) <= maxSeconds {
		s.mediaTime = list[0].MediaTime
	}
	if len(list) > 1 {
		return "has more than one edit: those after the first are ignored"
	}
	return ""
}

// readTable expands the sample table (ISO/IEC 14496-12, section 8.6 and 8.7). It bounds all counts by the samples that there
// are bytes for, whatever the boxes claim.
func (m *movie) readTable(s *source) error {
	t := s.trak.Mdia.Minf.Stbl
	if t.Stsz == nil || t.Stsz.SampleNumber == 0 {
		return nil // fragmented
	}
	if t.Stts == nil || t.Stsc == nil || len(t.Stsc.Entries) == 0 || t.Stco == nil && t.Co64 == nil {
		return fmt.Errorf("the sample table of track %d is incomplete", s.id)
	}
	var sync map[uint32]bool // nil: all are
	if t.Stss != nil {
		sync = make(map[uint32]bool, len(t.Stss.SampleNumber))
		for _, n := range t.Stss.SampleNumber {
			sync[n] = true
		}
	}
	n := t.Stsz.SampleNumber
	durations := runs{counts: t.Stts.SampleCount}
	var offsets runs
	if t.Ctts != nil {
		for i := range t.Ctts.SampleOffset {
			offsets.counts = append(offsets.counts, t.Ctts.EndSampleNr[i+1]-t.Ctts.EndSampleNr[i])
		}
	}
	number, dts, entry := uint32(1), s.start, 0
	for chunk := uint32(1); number <= n; chunk++ {
		off, ok := chunkOffset(t, chunk)
		if !ok {
			return fmt.Errorf("track %d promises %d samples and has %d", s.id, n, number-1)
		}
		for entry+1 < len(t.Stsc.Entries) && t.Stsc.Entries[entry+1].FirstChunk <= chunk {
			entry++
		}
		if t.Stsc.GetSampleDescriptionID(entry+1) != 1 {
			return errCodecChange(s.id)
		}
		for range t.Stsc.Entries[entry].SamplesPerChunk {
			if number > n {
				break
			}
			sm := sample{dts: dts, sync: sync == nil || sync[number]}
			if i, ok := durations.next(); ok {
				sm.dur = t.Stts.SampleTimeDelta[i]
			}
			if i, ok := offsets.next(); ok {
				sm.cto = t.Ctts.SampleOffset[i]
			}
			size := t.Stsz.GetSampleSize(int(number))
			if err := m.add(s, sm, m.data, off, size); err != nil {
				return err
			}
			off, dts, number = off+uint64(size), dts+uint64(sm.dur), number+1
		}
	}
	return nil
}

func errCodecChange(id uint32) error {
	return fmt.Errorf("track %d changes its codec settings in the middle: encode it again, for example with ffmpeg", id)
}

func chunkOffset(t *mp4.StblBox, n uint32) (uint64, bool) {
	switch {
	case t.Stco != nil && uint64(n) <= uint64(len(t.Stco.ChunkOffset)):
		return uint64(t.Stco.ChunkOffset[n-1]), true
	case t.Stco == nil && uint64(n) <= uint64(len(t.Co64.ChunkOffset)):
		return t.Co64.ChunkOffset[n-1], true
	}
	return 0, false
}

// runs walks a run-length table: next returns the index of the run that the next sample belongs to.
type runs struct {
	counts []uint32
	i      int
	used   uint32
}

func (r *runs) next() (int, bool) {
	for r.i < len(r.counts) && r.used >= r.counts[r.i] {
		r.i, r.used = r.i+1, 0
	}
	r.used++
	return r.i, r.i < len(r.counts)
}
