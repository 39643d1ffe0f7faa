package media

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
)

const samplePath = "sample/sample.mp4"

func sampleBytes(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readSample(t testing.TB) *Clip {
	t.Helper()
	c, err := Open(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fragmentedSample is the first groups of the sample as a fragmented MP4, made by mp4ff and not by [Writer]:
// two fragments per group, several samples and two tracks in each; times are counted from start, in seconds.
func fragmentedSample(t testing.TB, groups, start uint64) []byte {
	t.Helper()
	m, err := parse(sampleBytes(t))
	if err != nil {
		t.Fatal(err)
	}
	traks := make([]*mp4.TrakBox, len(m.sources))
	for i, s := range m.sources {
		traks[i] = emptyTrak(s.trak, uint32(10+i), s.mediaTime)
	}
	init, err := encodeInit(traks)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.NewBuffer(init)
	next := make([]int, len(m.sources))
	for half := uint64(1); half <= 2*groups; half++ {
		f, err := mp4.CreateMultiTrackFragment(uint32(half), []uint32{10, 11})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range m.sources {
			for ; next[i] < len(s.samples) && s.samples[next[i]].dts < half*uint64(s.timescale)/2; next[i]++ {
				sm := s.samples[next[i]]
				full := mp4.FullSample{DecodeTime: start*uint64(s.timescale) + sm.dts, Data: sm.data, Sample: mp4.Sample{
					Flags: sm.flags(), Dur: sm.dur, Size: uint32(len(sm.data)), CompositionTimeOffset: sm.cto,
				}}
				if err := f.AddFullSampleToTrack(full, uint32(10+i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := f.Encode(out); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func parsedCatalog(t testing.TB, c *Clip) *Catalog {
	t.Helper()
	cat, err := ParseCatalog(c.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

// received is an object as it comes out of a track's stream.
type received struct {
	track   string
	group   uint64
	id      uint64
	payload []byte
}

// all returns the objects of all tracks for which keep says so (nil: all), group by group.
func all(c *Clip, keep func(*Track, *Object) bool) (out []received) {
	for _, t := range c.Tracks {
		for i := range t.Objects {
			if o := &t.Objects[i]; keep == nil || keep(t, o) {
				out = append(out, received{t.Name, o.Group, o.ID, o.Payload})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b received) int { return cmp.Compare(a.group, b.group) })
	return out
}

// write returns what a Writer makes of objects in this order.
func write(t testing.TB, cat *Catalog, opt WriterOptions, objects []received) ([]byte, WriterStats) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, cat, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if err := w.Add(o.track, o.group, o.id, o.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), w.Stats()
}

// decodes checks a file with Verify and, where it is installed, by decoding it with ffmpeg.
func decodes(t testing.TB, file []byte) Report {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.mp4")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(path)
	if err != nil {
		t.Fatal(err)
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Log("not decoded: ffmpeg is not installed")
		return r
	}
	msg, err := exec.Command(ffmpeg, "-v", "error", "-threads", "1", "-i", path, "-f", "null", "-").CombinedOutput()
	if err != nil || len(msg) > 0 {
		t.Fatalf("ffmpeg: %v: %s", err, msg)
	}
	return r
}
