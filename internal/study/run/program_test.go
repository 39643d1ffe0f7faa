package run

import (
	"math"
	"testing"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/media"
)

// TestModel: groups, classes and sizes of the half-rate model are as its scenario says.
func TestModel(t *testing.T) {
	s := load(t, "half-rate")
	p := newProgram(s, 1)
	var bytes [Classes]float64
	var count [Classes]int
	total := 0.0
	for i, o := range p.objects {
		bytes[o.class] += float64(o.size)
		count[o.class]++
		total += float64(o.size)
		if o.needs >= 0 {
			n := p.objects[o.needs]
			if n.group != o.group || n.class == NonReference || n.class == Audio || int(o.needs) >= i || n.at >= o.at {
				t.Fatalf("object %d, %+v, needs %+v", i, o, n)
			}
		} else if o.class == Reference || o.class == NonReference {
			t.Fatalf("object %d, %+v, needs nothing", i, o)
		}
	}
	if count != [Classes]int{1500, 30, 570, 300} {
		t.Errorf("there are %v objects", count)
	}
	unit := bytes[Reference] / float64(count[Reference])
	for class, want := range map[Class]float64{Key: 6, NonReference: 0.5} {
		if got := bytes[class] / float64(count[class]) / unit; math.Abs(got-want) > 0.1*want {
			t.Errorf("%v are %.2f times a reference frame, want %v", class, got, want)
		}
	}
	if share := bytes[Audio] / total; math.Abs(share-0.05) > 0.005 {
		t.Errorf("audio is %.3f of the bytes", share)
	}
	if rate := total * 8 / 30; math.Abs(rate-2.5e6) > 0.05*2.5e6 {
		t.Errorf("the media have %.0f bit/s", rate)
	}
}

// TestLayers: of four frames the third needs the first, the second and the fourth the one before; each layer of a group is a stream.
func TestLayers(t *testing.T) {
	p := newProgram(load(t, "layers"), 1)
	var video []object
	index := map[int32]int{}
	for i, o := range p.objects {
		if o.track == trackVideo && o.group == 1 {
			index[int32(i)] = len(video)
			video = append(video, o)
		}
	}
	if len(video) != 32 {
		t.Fatalf("a group has %d frames", len(video))
	}
	streams := map[int32]bool{}
	for i, o := range video {
		streams[o.stream] = true
		needs, layer, class := i-4, 0, Reference
		switch i % 4 {
		case 0:
		case 2:
			needs, layer = i-2, 1
		default:
			needs, layer, class = i-1, 2, NonReference
		}
		if i == 0 {
			class, needs = Key, -1
		}
		got := -1
		if o.needs >= 0 {
			got = index[o.needs]
		}
		if got != needs || int(o.layer) != layer || o.class != class {
			t.Errorf("frame %d: a %v frame of layer %d that needs frame %d; want %v, %d, %d", i, o.class, o.layer, got, class, layer, needs)
		}
	}
	if len(streams) != 3 {
		t.Errorf("a group has %d streams", len(streams))
	}
}

// TestFile: a file is played again and again, with its own frames.
func TestFile(t *testing.T) {
	s := parse(t, `
duration = "15s"
[media]
file = "sample"
bitrate = "2Mbit"
[[link]]
rate = "10Mbit"
`)
	clip, err := media.Sample()
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, track := range clip.Tracks {
		for i := range track.Objects {
			if at := track.Objects[i].Time; at.Seconds() < 15 {
				want++
				if at.Seconds()+clip.Duration.Seconds() < 15 {
					want++
				}
			}
		}
	}
	r := simulate(t, Config{Scenario: s, Heuristic: heuristic.Default, Seed: 1})
	got := 0
	for class, f := range r.Classes {
		got += f.Published
		if f.Published == 0 || f.Decodable != f.Published {
			t.Errorf("%v: %+v; the link has room for all", Class(class), f)
		}
	}
	if got != want {
		t.Errorf("%d objects, want %d", got, want)
	}
	if rate := float64(r.Arrived) * 8 / 15; math.Abs(rate-2e6) > 0.2e6 {
		t.Errorf("%.0f bit/s", rate)
	}
}

// TestTwoLinks: subscribers have what their own link gives them.
func TestTwoLinks(t *testing.T) {
	s := parse(t, `
duration = "10s"
[media]
bitrate = "2Mbit"
[[link]]
name = "wide"
rate = "10Mbit"
[[link]]
name = "narrow"
rate = "1Mbit"
[[subscribers]]
link = "wide"
[[subscribers]]
link = "narrow"
priority = 3
`)
	w, err := newWorld(Config{Scenario: s, Heuristic: heuristic.Default, Congestion: "scream", Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for w.now < w.end {
		if err := w.step(w.agenda.next()); err != nil {
			t.Fatal(err)
		}
	}
	wide, narrow := w.clients[0], w.clients[1]
	if wide.receiver.bytes < 2_300_000 || narrow.receiver.bytes > 1_250_000 || narrow.receiver.bytes < 600_000 {
		t.Errorf("%d and %d bytes", wide.receiver.bytes, narrow.receiver.bytes)
	}
	if got := narrow.importance(trackVideo, 64); got != 3<<8|64 {
		t.Errorf("importance %d", got)
	}
	r, err := w.result()
	if err != nil {
		t.Fatal(err)
	}
	if r.Fairness > 0.95 || r.Fairness < 0.5 {
		t.Errorf("fairness %v", r.Fairness)
	}
}
