package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Reserve is "reserve": room is kept in the plan, so that what is more important can be sent without delay whenever it comes, and the most
// important may overflow it for a while (thesis, 3.4.2). The reserve of a priority is the sum of the largest streams of those above it, so a key
// frame finds room that reference frames have left.
//
// With Cut it is "group": once a stream is dropped, what begins later in its group goes too. What nothing depends on, the least
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
	for i, c := range classes {
		p.Bands = append(p.Bands, datapath.Band{UpTo: c.Importance, Reserve: min(reserve, uint64(most)), Overflow: i == 0, Cut: r.Cut && (i < len(classes)-1 || i == 0)})
		reserve += min(c.Peak, maxRate)
	}
	p.Overflow = uint64(carried(&p, queue/2))
	return finish(p)
}
