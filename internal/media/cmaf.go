package media

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/Eyevinn/mp4ff/mp4"
)

// maxInit bounds an initialization segment: parameter sets and the like.
const maxInit = 64 << 10

// initSegment makes a CMAF header (ISO/IEC 23000-19, section 7.3) for one track from the track of the input.
func initSegment(s *source, id uint32) ([]byte, error) {
	return encodeInit([]*mp4.TrakBox{emptyTrak(s.trak, id, s.mediaTime)})
}

// emptyTrak copies what describes a track and leaves out its samples.
func emptyTrak(from *mp4.TrakBox, id uint32, mediaTime int64) *mp4.TrakBox {
	tkhd, mdhd, minf := *from.Tkhd, *from.Mdia.Mdhd, from.Mdia.Minf
	tkhd.TrackID, tkhd.Duration, mdhd.Duration = id, 0, 0
	tkhd.CreationTime, tkhd.ModificationTime, mdhd.CreationTime, mdhd.ModificationTime = 0, 0, 0, 0

	stbl := mp4.NewStblBox()
	for _, b := range []mp4.Box{minf.Stbl.Stsd, &mp4.SttsBox{}, &mp4.StscBox{}, &mp4.StszBox{}, &mp4.StcoBox{}} {
		stbl.AddChild(b)
	}
	newMinf := mp4.NewMinfBox()
	for _, b := range minf.Children {
		if b.Type() != "stbl" {
			newMinf.AddChild(b)
		}
	}
	newMinf.AddChild(stbl)
	mdia := mp4.NewMdiaBox()
	for _, b := range []mp4.Box{&mdhd, from.Mdia.Hdlr, newMinf} {
		mdia.AddChild(b)
	}
	trak := mp4.NewTrakBox()
	trak.AddChild(&tkhd)
	if mediaTime > 0 {
		edts, elst := &mp4.EdtsBox{}, &mp4.ElstBox{Version: 1}
		elst.Entries = []mp4.ElstEntry{{MediaTime: mediaTime, MediaRateInteger: 1}} // duration 0: all of the fragments
		edts.AddChild(elst)
		trak.AddChild(edts)
	}
	trak.AddChild(mdia)
	return trak
}

func encodeInit(traks []*mp4.TrakBox) ([]byte, error) {
	init := mp4.NewMP4Init()
	init.AddChild(mp4.NewFtyp("iso6", 0, []string{"iso6", "cmfc", "mp41"}))
	moov, mvhd, mvex := mp4.NewMoovBox(), mp4.CreateMvhd(), mp4.NewMvexBox()
	mvhd.CreationTime, mvhd.ModificationTime, mvhd.Duration = 0, 0, 0
	mvhd.NextTrackID = uint32(len(traks) + 1)
	moov.AddChild(mvhd)
	for _, t := range traks {
		moov.AddChild(t)
		mvex.AddChild(mp4.CreateTrex(t.Tkhd.TrackID))
	}
	moov.AddChild(mvex)
	init.AddChild(moov)
	var out bytes.Buffer
	if err := init.Encode(&out); err != nil {
		return nil, err
	}
	if out.Len() > maxInit*len(traks) {
		return nil, fmt.Errorf("its description has %d bytes, more than %d", out.Len(), maxInit)
	}
	return out.Bytes(), nil
}

// readInit reads what initSegment made, from whoever claims to have made it.
func readInit(init []byte) (s *source, err error) {
	defer guard(&err)
	if len(init) > maxInit {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(init), maxInit)
	}
	top, err := boxes(init, 0)
	if err != nil {
		return nil, err
	}
	m := &movie{data: init}
	for _, b := range top {
		if b.kind == "moov" {
			if err := m.readMoov(b); err != nil {
				return nil, err
			}
		}
	}
	if len(m.sources) != 1 || m.samples > 0 {
		return nil, errors.New("it does not describe one track")
	}
	return m.sources[0], nil
}

// chunk makes a CMAF chunk (ISO/IEC 23000-19, section 7.3.3.2) of one sample.
func chunk(seq, id uint32, sm sample) ([]byte, error) {
	f, err := fragment(seq, id, []sample{sm})
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, f.Size()))
	if err := f.Encode(out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func fragment(seq, id uint32, samples []sample) (*mp4.Fragment, error) {
	f, err := mp4.CreateFragment(seq, id)
	if err != nil {
		return nil, err
	}
	for _, sm := range samples {
		f.AddFullSample(mp4.FullSample{
			Sample:     mp4.Sample{Flags: sm.flags(), Dur: sm.dur, Size: uint32(len(sm.data)), CompositionTimeOffset: sm.cto},
			DecodeTime: sm.dts,
			Data:       sm.data,
		})
	}
	return f, nil
}

// flags are the sample flags of ISO/IEC 14496-12, section 8.8.3.1.
func (sm sample) flags() uint32 {
	f := mp4.SampleFlags{SampleDependsOn: 2, SampleIsDependedOn: 1}
	if !sm.sync {
		f.SampleDependsOn, f.SampleIsNonSync = 1, true
	}
	if sm.disposable {
		f.SampleIsDependedOn = 2
	}
	return f.Encode()
}

// readChunk returns the samples of a CMAF chunk of the track that s describes.
func readChunk(s *source, payload []byte) (out []sample, err error) {
	defer guard(&err)
	top, err := boxes(payload, 0)
	if err != nil {
		return nil, err
	}
	scratch := *s
	scratch.samples, scratch.next, scratch.bytes = nil, 0, 0
	var m movie
	for _, b := range top {
		if b.kind != "moof" {
			continue
		}
		for traf, err := range trafs(b) {
			if err != nil {
				return nil, err
			}
			if traf.Tfhd.TrackID != s.id {
				return nil, fmt.Errorf("it belongs to track %d, not %d", traf.Tfhd.TrackID, s.id)
			}
			if err := m.readTraf(&scratch, traf.TrafBox, payload, traf.base); err != nil {
				return nil, err
			}
		}
	}
	if len(scratch.samples) == 0 {
		return nil, errors.New("it holds no sample")
	}
	return scratch.samples, nil
}
