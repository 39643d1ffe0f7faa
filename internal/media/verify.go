package media

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
)

// Report says what is in an MP4 file.
type Report struct {
	Tracks []TrackReport `json:"tracks"`
	Notes  []string      `json:"notes,omitempty"`
}

// TrackReport is the part of a [Report] on one track.
type TrackReport struct {
	Kind       Kind          `json:"kind"`
	Codec      string        `json:"codec"`
	Samples    int           `json:"samples"`
	KeySamples int           `json:"key_samples"`
	Bytes      int           `json:"bytes"`
	Start      time.Duration `json:"start_ns"` // decode time of the first sample
	End        time.Duration `json:"end_ns"`
}

// Verify checks the structure of an MP4 file without a decoder: boxes, samples within the file, decode times that do not run
// backwards, video that starts with a key frame and whose NAL units fill its samples, and that mp4ff reads it as a whole.
// The report is about what was found, also with an error.
func Verify(path string) (Report, error) {
	var r Report
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }() // only read
	name := filepath.Base(path)
	m, err := load(f)
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	r.Notes = m.notes
	for _, s := range m.sources {
		t := TrackReport{Kind: s.kind, Codec: s.codec, Samples: len(s.samples), Bytes: s.bytes}
		t.Start, t.End = toDuration(s.samples[0].dts, s.timescale), toDuration(s.next, s.timescale)
		for i, sm := range s.samples {
			if sm.sync {
				t.KeySamples++
			}
			if _, ok := firstSlice(sm.data, s.nal); s.nal != nalNone && !ok && err == nil {
				err = fmt.Errorf("%s: sample %d of track %d holds no picture", name, i+1, s.id)
			}
		}
		if !s.samples[0].sync && err == nil {
			err = fmt.Errorf("%s: track %d does not start with a key frame", name, s.id)
		}
		r.Tracks = append(r.Tracks, t)
	}
	if err == nil {
		err = readable(f)
	}
	return r, err
}

// readable asks mp4ff's own file reader for a second opinion; it is only asked about files that [load] took.
func readable(f *os.File) (err error) {
	defer guard(&err)
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	_, err = mp4.DecodeFile(f, mp4.WithDecodeMode(mp4.DecModeLazyMdat))
	return err
}
