package endpoint

import (
	"reflect"
	"testing"

	"github.com/fastrelay/fastrelay/internal/media"
)

// TestLayers: a missing reference frame takes what follows in its group along, a missing non-reference frame and missing audio do not.
func TestLayers(t *testing.T) {
	const a, k, r, n = media.PriorityAudio, media.PriorityKey, media.PriorityReference, media.PriorityNonReference
	p := &Published{}
	add := func(track string, group uint64, priorities ...uint8) {
		for id, priority := range priorities {
			p.Objects = append(p.Objects, Object{Track: track, Group: group, ID: uint64(id), Priority: priority, SHA256: "x"})
		}
	}
	add("video", 1, k, r) // before the subscriber's first group
	add("video", 2, k, r, n, r, n)
	add("video", 3, k, n, r)
	add("audio", 2, a, a, a)
	received := &Received{Tracks: []TrackStart{{Track: "video", FirstGroup: 2}, {Track: "audio", FirstGroup: 2}}}
	missing := map[objectKey]bool{{"video", 2, 3}: true, {"video", 3, 1}: true, {"audio", 2, 0}: true}
	for _, o := range p.Objects {
		if !missing[objectKey{o.Track, o.Group, o.ID}] {
			received.Objects = append(received.Objects, o)
		}
	}
	want := []Layer{{a, 3, 2, 2}, {k, 2, 2, 2}, {r, 3, 2, 2}, {n, 3, 2, 1}}
	if got := Layers(p, []*Received{received}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
