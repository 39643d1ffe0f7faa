package endpoint

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/internal/media"
)

// event is one object at its time.
type event struct {
	track *media.Track
	index int           // in track.Objects
	time  time.Duration // when to send it, since the start of the clip; below 0 for the first catalog
	last  bool          // of its subgroup
	size  int           // objects of its subgroup from here on
}

func (e *event) object() *media.Object { return &e.track.Objects[e.index] }

// schedule returns the objects of all tracks in the order in which they are sent, the catalog's lead before their time: who
// subscribes to the rest when the catalog comes then gets the group that it announces. With a limit above 0, objects from
// that time on are left out.
func schedule(tracks []*media.Track, lead, limit time.Duration) []event {
	var events []event
	for _, t := range tracks {
		type key struct{ group, subgroup uint64 }
		left := make(map[key]int)
		first := len(events)
		for i := range t.Objects {
			o := &t.Objects[i]
			if limit > 0 && o.Time >= limit {
				continue
			}
			e := event{track: t, index: i, time: o.Time}
			if t.Kind == media.KindCatalog {
				e.time -= lead
			}
			events = append(events, e)
		}
		for i := len(events) - 1; i >= first; i-- {
			k := key{events[i].object().Group, events[i].object().Subgroup}
			left[k]++
			events[i].last, events[i].size = left[k] == 1, left[k]
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.time, b.time) })
	return events
}

// round is one pass over a clip: what its objects are shifted by when it is played again.
type round struct {
	time  time.Duration
	group uint64
}

// payload returns the object's payload with its decode time (tfdt, ISO/IEC 14496-12, section 8.8.12) moved by the round's
// time, so that a receiver sees one continuous clip. Without a shift it is the object's own payload.
func (r round) payload(t *media.Track, o *media.Object) []byte {
	if r.time == 0 || t.Kind == media.KindCatalog {
		return o.Payload
	}
	// Rounded up, so that a round does not start before the previous one ends; on the whole, not per round, so that the
	// tracks do not drift apart.
	const second = uint64(time.Second)
	units := uint64(r.time)/second*uint64(t.Timescale) + (uint64(r.time)%second*uint64(t.Timescale)+second-1)/second
	b := slices.Clone(o.Payload)
	shiftDecodeTime(b, units)
	return b
}

// shiftDecodeTime adds to the times in all tfdt boxes of a chunk.
func shiftDecodeTime(b []byte, units uint64) {
	for len(b) >= 8 {
		size := uint64(binary.BigEndian.Uint32(b))
		if size < 8 || size > uint64(len(b)) {
			return
		}
		body := b[8:size]
		switch string(b[4:8]) {
		case "moof", "traf":
			shiftDecodeTime(body, units)
		case "tfdt":
			switch {
			case len(body) >= 12 && body[0] == 1:
				binary.BigEndian.PutUint64(body[4:], binary.BigEndian.Uint64(body[4:])+units)
			case len(body) >= 8 && body[0] == 0:
				binary.BigEndian.PutUint32(body[4:], binary.BigEndian.Uint32(body[4:])+uint32(units))
			}
		}
		b = b[size:]
	}
}
