package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// TailDrop is "none": what a queue does that knows nothing of its packets. Whatever comes while a queue's worth of bytes is
// ahead is dropped, a stream in its middle too.
//
// It is the baseline. Use it to see what a heuristic gains.
type TailDrop struct {
	Queue time.Duration // how much may be ahead, at the path's rate; default 500 ms
	plan  Planner
}

func (t *TailDrop) Name() string { return "none" }

func (t *TailDrop) Policy(v *View) datapath.Policy {
	p, ok := t.plan.Plan(v, or(t.Queue, defaultQueue))
	if ok {
		p.Bands = []datapath.Band{{UpTo: datapath.MaxImportance}}
	}
	return p
}
