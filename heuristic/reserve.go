package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Reserve is "reserve": room is kept in the plan, so that what is more important can be sent without delay whenever it comes, and the most
// important may overflow it for a while (thesis, 3.4.2). The reserve of a priority is the sum of the largest streams of those above it, so a key
// frame finds room that reference frames have left.
//
// With Cut it is "group": once a stream is dropped, what begins later in its group goes too. What nothing depends on, audio and the least
// important, cuts nothing.
//
// Use reserve where frames are independent, as in intra-only video; group where they depend on what came before them in their group.
type Reserve struct {
	Queue time.Duration // as of TailDrop; Overflow is half of it
	Cut   bool
	plan  Planner
}

func (r *Reserve) Name() string {
	if r.Cut {
		return "group"
	}
	return "reserve"
}

func (r *Reserve) Policy(v *View) datapath.Policy {
	queue := or(r.Queue, defaultQueue)
	p, ok := r.plan.Plan(v, queue)
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{}
	}
	classes := bands(v)
	reserve, most := uint64(0), carried(&p, queue)*0.8 // the least important have a fifth of the queue, however large a key frame is
	for i := range classes {
		c, least := &classes[i], i == len(classes)-1 && i > 0
		p.Bands = append(p.Bands, datapath.Band{
			UpTo: c.Importance, Reserve: min(reserve, uint64(most)), Overflow: i == 0, Cut: r.Cut && !least && !independent(classes, i),
		})
		reserve += min(c.Peak, maxRate)
	}
	p.Overflow = uint64(carried(&p, queue/2))
	return finish(p)
}

// independent says whether frames of a class do not need each other, as far as can be seen: they are of about the same size, several in a group, and
// nothing in their track is more important.
func independent(classes []Class, i int) bool {
	c := &classes[i]
	for _, above := range classes[:i] {
		if above.Track == c.Track {
			return false
		}
	}
	return c.Streams > 1 && c.even()
}
