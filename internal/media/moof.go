package media

import (
	"encoding/binary"
	"fmt"

	"github.com/Eyevinn/mp4ff/mp4"
)

// readMoof adds the samples of one movie fragment.
func (m *movie) readMoof(b box) error {
	for traf, err := range trafs(b) {
		if err != nil {
			return err
		}
		for _, s := range m.sources {
			if s.id == traf.Tfhd.TrackID {
				if err := m.readTraf(s, traf.TrafBox, m.data, traf.base); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

type trackFragment struct {
	*mp4.TrafBox
	base uint64 // what data offsets count from
}

// trafs decodes a moof and yields its track fragments.
func trafs(b box) func(yield func(trackFragment, error) bool) {
	return func(yield func(trackFragment, error) bool) {
		if n := claimedSamples(b.payload(), 0); n > MaxSamples {
			yield(trackFragment{}, fmt.Errorf("a fragment claims %d samples", n))
			return
		}
		moof, err := decode[*mp4.MoofBox](b)
		if err != nil {
			yield(trackFragment{}, err)
			return
		}
		for _, traf := range moof.Trafs {
			if traf.Tfhd == nil {
				yield(trackFragment{}, fmt.Errorf("the fragment at byte %d misses a tfhd box", b.pos))
				return
			}
			f := trackFragment{TrafBox: traf, base: uint64(b.pos)}
			if traf.Tfhd.HasBaseDataOffset() {
				f.base = traf.Tfhd.BaseDataOffset
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

// claimedSamples adds up the sample counts of the truns below, before mp4ff allocates for them: a trun of 16 bytes may claim
// a thousand samples.
func claimedSamples(data []byte, depth int) (n uint64) {
	children, _ := boxes(data, 0) // what is malformed is for mp4ff to refuse
	for _, c := range children {
		switch p := c.payload(); {
		case c.kind == "traf" && depth < 2:
			n += claimedSamples(p, depth+1)
		case c.kind == "trun" && len(p) >= 8:
			n += uint64(binary.BigEndian.Uint32(p[4:]))
		}
	}
	return n
}

// readTraf adds the samples of a track fragment (ISO/IEC 14496-12, section 8.8), which lie in data.
func (m *movie) readTraf(s *source, traf *mp4.TrafBox, data []byte, base uint64) error {
	description := uint32(1)
	if traf.Tfhd.HasSampleDescriptionIndex() {
		description = traf.Tfhd.SampleDescriptionIndex
	} else if s.trex != nil {
		description = s.trex.DefaultSampleDescriptionIndex
	}
	if description != 1 {
		return errCodecChange(s.id)
	}
	dts := s.next
	if traf.Tfdt != nil {
		dts = traf.Tfdt.BaseMediaDecodeTime()
		if dts/uint64(s.timescale) > maxSeconds {
			return fmt.Errorf("the times of track %d are out of range", s.id)
		}
		dts += s.start
	}
	off := base
	for _, trun := range traf.Truns {
		if trun.HasDataOffset() {
			off = base + uint64(int64(trun.DataOffset)) // wraps to a huge number if negative, which add refuses
		}
		trun.AddSampleDefaultValues(traf.Tfhd, s.trex)
		for _, t := range trun.Samples {
			f := mp4.DecodeSampleFlags(t.Flags)
			sm := sample{
				dts: dts, dur: t.Dur, cto: t.CompositionTimeOffset,
				sync: !f.SampleIsNonSync, disposable: f.SampleIsDependedOn == 2,
			}
			if err := m.add(s, sm, data, off, t.Size); err != nil {
				return err
			}
			off, dts = off+uint64(t.Size), dts+uint64(t.Dur)
		}
	}
	return nil
}
