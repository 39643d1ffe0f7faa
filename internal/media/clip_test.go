package media

import (
	"bytes"
	"testing"
	"time"
)

func TestSample(t *testing.T) {
	c := readSample(t)
	if len(c.Tracks) != 2 || len(c.Groups) != 10 || len(c.Notes) != 0 {
		t.Fatalf("%d tracks, %d groups, notes %q", len(c.Tracks), len(c.Groups), c.Notes)
	}
	for _, tt := range []struct {
		name, codec string
		objects     int
		priorities  map[uint8]int
	}{
		{"video", "avc1.64001E", 250, map[uint8]int{PriorityKey: 10, PriorityReference: 80, PriorityNonReference: 160}},
		{"audio", "mp4a.40.2", 470, map[uint8]int{PriorityAudio: 470}},
	} {
		tr := c.Track(tt.name)
		if tr == nil || tr.Codec != tt.codec || len(tr.Objects) != tt.objects {
			t.Fatalf("%s: got %+v", tt.name, tr)
		}
		got := map[uint8]int{}
		for _, o := range tr.Objects {
			got[o.Priority]++
		}
		for p, n := range tt.priorities {
			if got[p] != n {
				t.Errorf("%s: priority %d: %d objects, want %d", tt.name, p, got[p], n)
			}
		}
	}
	if c.Duration < 10*time.Second || c.Duration > 10100*time.Millisecond {
		t.Errorf("duration %v", c.Duration)
	}
}

func TestBothKindsOfFileGiveTheSameObjects(t *testing.T) {
	const groups = 2
	whole := readSample(t)
	part, err := Read(bytes.NewReader(fragmentedSample(t, groups, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if len(part.Groups) != groups {
		t.Fatalf("%d groups", len(part.Groups))
	}
	for i, tr := range part.Tracks {
		full := whole.Tracks[i]
		if tr.Codec != full.Codec || !bytes.Equal(tr.Init, full.Init) {
			t.Errorf("%s: description differs", tr.Name)
		}
		for j := range tr.Objects {
			got, want := tr.Objects[j], full.Objects[j]
			if got.Hash() != want.Hash() || got.Time != want.Time || got.Group != want.Group || got.ID != want.ID ||
				got.Priority != want.Priority || got.Key != want.Key {
				t.Fatalf("%s object %d differs", tr.Name, j)
			}
		}
	}
}

func TestGroupsLineUp(t *testing.T) {
	c := readSample(t)
	if got := len(c.CatalogTrack().Objects); got != len(c.Groups) {
		t.Errorf("%d catalog objects, want one per group", got)
	}
	for _, tr := range append(c.Tracks, c.CatalogTrack()) {
		group, id, last := uint64(0), uint64(0), time.Duration(-1)
		for i, o := range tr.Objects {
			if o.Group != group {
				if o.Group != group+1 {
					t.Fatalf("%s: group %d follows %d", tr.Name, o.Group, group)
				}
				group, id = o.Group, 0
			}
			if o.ID != id {
				t.Fatalf("%s object %d: ID %d, want %d", tr.Name, i, o.ID, id)
			}
			id++
			if o.Time < last {
				t.Fatalf("%s object %d: time runs backwards", tr.Name, i)
			}
			last = o.Time
			if o.Time < c.Groups[group] || int(group)+1 < len(c.Groups) && o.Time >= c.Groups[group+1] {
				t.Fatalf("%s object %d at %v is in group %d", tr.Name, i, o.Time, group)
			}
			if tr.Kind == KindVideo && o.Key != (o.ID == 0) {
				t.Fatalf("object %d of group %d: key %v", o.ID, o.Group, o.Key)
			}
		}
		if int(group)+1 != len(c.Groups) {
			t.Errorf("%s ends in group %d", tr.Name, group)
		}
	}
}

func TestAudioAloneHasGroupsOfOneSecond(t *testing.T) {
	c := readSample(t)
	c.Tracks, c.Groups = c.Tracks[1:], nil
	c.group()
	for _, o := range c.Tracks[0].Objects {
		if want := uint64(o.Time / time.Second); o.Group != want {
			t.Fatalf("object at %v is in group %d, want %d", o.Time, o.Group, want)
		}
	}
}

func TestLayouts(t *testing.T) {
	c := readSample(t)
	for _, tr := range c.Tracks {
		for _, o := range tr.Objects {
			if o.Subgroup != o.ID {
				t.Fatalf("per frame: subgroup %d of object %d", o.Subgroup, o.ID)
			}
		}
	}
	c.SetLayout(PerLayer)
	type stream struct {
		track           string
		group, subgroup uint64
	}
	priorities := map[stream]uint8{}
	for _, tr := range c.Tracks {
		for _, o := range tr.Objects {
			s := stream{tr.Name, o.Group, o.Subgroup}
			if p, ok := priorities[s]; ok && p != o.Priority {
				t.Fatalf("%v has priorities %d and %d", s, p, o.Priority)
			}
			priorities[s] = o.Priority
			if want := !o.Reference; (o.Subgroup == 1) != want {
				t.Fatalf("%s: reference %v is in subgroup %d", tr.Name, o.Reference, o.Subgroup)
			}
		}
	}
	if want := 10*2 + 10; len(priorities) != want {
		t.Errorf("%d streams, want %d", len(priorities), want)
	}
	for _, l := range []Layout{PerFrame, PerLayer} {
		if got, err := ParseLayout(l.String()); err != nil || got != l {
			t.Errorf("ParseLayout(%q) = %v, %v", l, got, err)
		}
	}
	if _, err := ParseLayout("slice"); err == nil {
		t.Error("an unknown layout is taken")
	}
}

func TestInitSegmentAndChunksMakeAPlayableTrack(t *testing.T) {
	c := readSample(t)
	for _, tr := range c.Tracks {
		file := bytes.Clone(tr.Init)
		for _, o := range tr.Objects[:50] {
			file = append(file, o.Payload...)
		}
		if r := decodes(t, file); len(r.Tracks) != 1 || r.Tracks[0].Samples != 50 {
			t.Errorf("%s: %+v", tr.Name, r)
		}
	}
}
