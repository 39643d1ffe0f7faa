package media

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWriterRestoresTheClip(t *testing.T) {
	c := readSample(t)
	file, stats := write(t, parsedCatalog(t, c), WriterOptions{}, all(c, nil))
	if want := (WriterStats{Written: 720}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
	r := decodes(t, file)
	if len(r.Tracks) != 2 || r.Tracks[0].Samples != 250 || r.Tracks[0].KeySamples != 10 || r.Tracks[1].Samples != 470 {
		t.Errorf("report %+v", r)
	}
	again, err := Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for i, tr := range again.Tracks {
		if !bytes.Equal(tr.Init, c.Tracks[i].Init) {
			t.Errorf("%s: initialization segment differs", tr.Name)
		}
		for j := range tr.Objects {
			if tr.Objects[j].Hash() != c.Tracks[i].Objects[j].Hash() {
				t.Fatalf("%s object %d differs", tr.Name, j)
			}
		}
	}
}

func TestWriterWithPartOfTheObjects(t *testing.T) {
	c := readSample(t)
	for _, tt := range []struct {
		name         string
		opt          WriterOptions
		keep         func(*Track, *Object) bool
		video, audio int
		undecodable  int
		length       time.Duration
	}{
		{
			name: "joined late", video: 175, audio: 329, length: 7 * time.Second,
			keep: func(_ *Track, o *Object) bool { return o.Group >= 3 },
		},
		{
			name: "non-reference frames dropped", video: 90, audio: 470, length: 10 * time.Second,
			keep: func(_ *Track, o *Object) bool { return o.Reference },
		},
		{
			name: "a key frame lost", video: 225, audio: 470, undecodable: 24, length: 10 * time.Second,
			keep: func(tr *Track, o *Object) bool { return tr.Kind != KindVideo || o.Group != 4 || o.ID != 0 },
		},
		{
			name: "audio alone", opt: WriterOptions{Tracks: []string{"audio"}}, audio: 470, length: 10 * time.Second,
			keep: func(tr *Track, _ *Object) bool { return tr.Kind == KindAudio },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, stats := write(t, parsedCatalog(t, c), tt.opt, all(c, tt.keep))
			if want := (WriterStats{Written: tt.video + tt.audio, Undecodable: tt.undecodable}); stats != want {
				t.Errorf("stats %+v, want %+v", stats, want)
			}
			r := decodes(t, file)
			start := time.Hour
			for _, tr := range r.Tracks {
				want := tt.audio
				if tr.Kind == KindVideo {
					want = tt.video
				}
				if tr.Samples != want {
					t.Errorf("%s: %d samples, want %d", tr.Kind, tr.Samples, want)
				}
				if tr.End < tt.length-200*time.Millisecond || tr.End > tt.length+100*time.Millisecond {
					t.Errorf("%s ends at %v, want about %v", tr.Kind, tr.End, tt.length)
				}
				start = min(start, tr.Start)
			}
			if start != 0 {
				t.Errorf("the file starts at %v", start)
			}
		})
	}
}

// The order of arrival, across streams and tracks, and duplicates make no difference.
func TestAnyOrderGivesTheSameFile(t *testing.T) {
	c := readSample(t)
	cat := parsedCatalog(t, c)
	objects := all(c, func(_ *Track, o *Object) bool { return o.Group < 3 })
	want, _ := write(t, cat, WriterOptions{}, objects)
	rapid.Check(t, func(rt *rapid.T) {
		mixed := rapid.Permutation(objects).Draw(rt, "order")
		twice := rapid.SliceOfN(rapid.SampledFrom(objects), 0, 20).Draw(rt, "twice")
		got, stats := write(t, cat, WriterOptions{}, append(mixed, twice...))
		if !bytes.Equal(got, want) {
			rt.Fatal("the file differs")
		}
		if stats.Written != len(objects) || stats.Duplicate != len(twice) {
			rt.Fatalf("stats %+v", stats)
		}
	})
}

// Whatever arrives is either in the file or counted, within bounded memory.
func TestEveryObjectIsAccountedFor(t *testing.T) {
	c := readSample(t)
	cat := parsedCatalog(t, c)
	objects := all(c, nil)
	rapid.Check(t, func(rt *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom(objects), 1, 60).Draw(rt, "objects")
		opt := WriterOptions{
			Hold:     time.Duration(rapid.IntRange(1, 3000).Draw(rt, "hold")) * time.Millisecond,
			MaxBytes: rapid.IntRange(1, 30000).Draw(rt, "bytes"),
		}
		var out bytes.Buffer
		w, err := NewWriter(&out, cat, opt)
		if err != nil {
			rt.Fatal(err)
		}
		for _, o := range some {
			if err := w.Add(o.track, o.group, o.id, o.payload); err != nil {
				rt.Fatal(err)
			}
			held := 0
			for _, g := range w.groups {
				for _, o := range g.objects {
					held += len(o) * objectOverhead
				}
			}
			if w.bytes > opt.MaxBytes || held > w.bytes {
				rt.Fatalf("%d bytes are held back", w.bytes)
			}
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		s := w.Stats()
		if n := s.Written + s.Late + s.Duplicate + s.Backwards + s.Undecodable + s.Broken; n != len(some) {
			rt.Fatalf("%d of %d objects are accounted for: %+v", n, len(some), s)
		}
		if s.Written == 0 {
			return
		}
		again, err := Read(bytes.NewReader(out.Bytes()))
		if err != nil {
			rt.Fatal(err)
		}
		n := 0
		for _, tr := range again.Tracks {
			n += len(tr.Objects)
		}
		if n != s.Written {
			rt.Fatalf("%d samples in the file, %d counted", n, s.Written)
		}
	})
}

func TestWriterRefusesBadObjects(t *testing.T) {
	c := readSample(t)
	var out bytes.Buffer
	w, err := NewWriter(&out, parsedCatalog(t, c), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	good := c.Tracks[0].Objects[0].Payload
	for _, bad := range []received{
		{"video", 0, 1, nil},
		{"video", 0, 1, []byte("not a chunk")},
		{"video", 0, 1, good[:len(good)-1]},
		{"video", 0, 1, good[:120]},
		{"video", 0, 1, c.Tracks[1].Objects[0].Payload},
		{"video3", 0, 1, good},
	} {
		if err := w.Add(bad.track, bad.group, bad.id, bad.payload); !errors.Is(err, ErrBadObject) {
			t.Errorf("%.20q: %v", bad.payload, err)
		}
	}
	if err := w.Add("video", 0, 0, good); err != nil {
		t.Errorf("a good one after bad ones: %v", err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if err := w.Add("video", 0, 0, good); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if s := w.Stats(); s.Broken != 6 || s.Written != 1 {
		t.Errorf("stats %+v", s)
	}
	if _, err := NewWriter(&out, parsedCatalog(t, c), WriterOptions{Tracks: []string{"text"}}); err == nil {
		t.Error("a Writer without tracks is made")
	}
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

func TestWriterReportsAFailedOutput(t *testing.T) {
	c := readSample(t)
	for after := range 3 {
		w, err := NewWriter(&failing{after}, parsedCatalog(t, c), WriterOptions{Hold: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all(c, nil) {
			err = errors.Join(err, w.Add(o.track, o.group, o.id, o.payload))
		}
		if err == nil || errors.Is(err, ErrBadObject) || w.Close() == nil {
			t.Errorf("after %d writes: %v", after, err)
		}
	}
}

func TestCreateAndVerify(t *testing.T) {
	c := readSample(t)
	path := filepath.Join(t.TempDir(), "out.mp4")
	w, err := Create(path, parsedCatalog(t, c), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all(c, nil) {
		if err := w.Add(o.track, o.group, o.id, o.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(path); err != nil || len(r.Tracks) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(path); err == nil {
		t.Error("a file that is cut short passes")
	}
	if _, err := Create(filepath.Join(path, "x"), parsedCatalog(t, c), WriterOptions{}); err == nil {
		t.Error("a file inside of a file is created")
	}
}

func TestStretch(t *testing.T) {
	for _, tt := range []struct {
		name      string
		dts, want []uint32
	}{
		{"one", []uint32{5}, []uint32{10}},
		{"as they are", []uint32{0, 10, 20}, []uint32{10, 10, 10}},
		{"a hole", []uint32{0, 30, 40}, []uint32{30, 10, 10}},
		{"equal times", []uint32{0, 20, 20, 40}, []uint32{20, 1, 19, 10}},
	} {
		var run []sample
		for _, dts := range tt.dts {
			run = append(run, sample{dts: uint64(dts), dur: 10})
		}
		stretch(run)
		for i := range run {
			if run[i].dur != tt.want[i] {
				t.Errorf("%s: duration %d is %d, want %d", tt.name, i, run[i].dur, tt.want[i])
			}
		}
	}
}
