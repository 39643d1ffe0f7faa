package media

import "fmt"

// Layout says how the objects of a group are spread over MoQ subgroups, each of which is one QUIC stream.
type Layout int

const (
	// PerFrame is one stream per frame; the subgroup ID is the object ID. The default of [Open] and [Read].
	PerFrame Layout = iota
	// PerLayer is one stream per layer: subgroup 0 holds key and reference frames, 1 the frames that nothing refers to;
	// audio is in subgroup 0. A subgroup has one priority, so all of subgroup 0 has that of the key frame in it.
	PerLayer
)

// String returns the name that [ParseLayout] takes.
func (l Layout) String() string {
	switch l {
	case PerFrame:
		return "frame"
	case PerLayer:
		return "layer"
	}
	return fmt.Sprintf("layout(%d)", int(l))
}

// ParseLayout reads "frame" or "layer".
func ParseLayout(s string) (Layout, error) {
	for _, l := range []Layout{PerFrame, PerLayer} {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown layout %q: use frame (one stream per frame) or layer (one stream per layer)", s)
}

// SetLayout sets subgroup and priority of every object. Groups, object IDs and payloads stay.
func (c *Clip) SetLayout(l Layout) {
	for _, t := range c.Tracks {
		for i := range t.Objects {
			t.Objects[i].place(t.Kind, l)
		}
	}
}

func (o *Object) place(k Kind, l Layout) {
	switch {
	case k == KindAudio:
		o.Priority = PriorityAudio
	case o.Key:
		o.Priority = PriorityKey
	case o.Reference:
		o.Priority = PriorityReference
	default:
		o.Priority = PriorityNonReference
	}
	if l == PerFrame {
		o.Subgroup = o.ID
		return
	}
	o.Subgroup = 0
	if k != KindAudio {
		if o.Reference {
			o.Priority = PriorityKey
		} else {
			o.Subgroup = 1
		}
	}
}
