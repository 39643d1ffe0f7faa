package endpoint

import (
	"slices"

	"github.com/fastrelay/fastrelay/internal/media"
)

// Layer says what became of the objects of one priority, of all subscribers together.
type Layer struct {
	Priority  uint8 `json:"priority"`
	Expected  int   `json:"expected"`
	Delivered int   `json:"delivered"`
	// Decodable is how many of the delivered ones are of use: everything that they refer to was delivered too. A frame of a group refers
	// to the group's earlier frames that others refer to, by the priorities of package media; audio refers to nothing.
	Decodable int `json:"decodable"`
}

// Layers counts by priority, the most important first.
func Layers(p *Published, rs []*Received) []Layer {
	of := make(map[uint8]*Layer)
	for _, r := range rs {
		got := make(map[objectKey]string, len(r.Objects))
		for i := range r.Objects {
			o := &r.Objects[i]
			got[objectKey{o.Track, o.Group, o.ID}] = o.SHA256
		}
		first := make(map[string]uint64, len(r.Tracks))
		for _, t := range r.Tracks {
			first[t.Track] = t.FirstGroup
		}
		type group struct {
			track  string
			number uint64
		}
		broken := make(map[group]bool) // a frame that others refer to is missing
		for i := range p.Objects {
			o := &p.Objects[i]
			start, subscribed := first[o.Track]
			if !subscribed || o.Group < start {
				continue
			}
			l := of[o.Priority]
			if l == nil {
				l = &Layer{Priority: o.Priority}
				of[o.Priority] = l
			}
			l.Expected++
			delivered := got[objectKey{o.Track, o.Group, o.ID}] == o.SHA256
			g := group{o.Track, o.Group}
			video := o.Priority >= media.PriorityKey
			if delivered {
				l.Delivered++
				if !video || !broken[g] {
					l.Decodable++
				}
			} else if video && o.Priority < media.PriorityNonReference {
				broken[g] = true
			}
		}
	}
	layers := make([]Layer, 0, len(of))
	for _, l := range of {
		layers = append(layers, *l)
	}
	slices.SortFunc(layers, func(a, b Layer) int { return int(a.Priority) - int(b.Priority) })
	return layers
}
