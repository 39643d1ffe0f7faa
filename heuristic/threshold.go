package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Threshold is "threshold": while more is offered than the path carries, what is less important than a fixed bound is dropped, all of it.
// What is not, is dropped as by TailDrop.
//
// Use it where the publisher's layers are known and the path is good for one of them or for all.
type Threshold struct {
	UpTo  uint16        // the least Importance that is kept; default: the subscriber's and the publisher's priority both at their middle, 128 and 64
	Queue time.Duration // as of TailDrop
	plan  Planner
	tight bool
}

func (t *Threshold) Name() string { return "threshold" }

func (t *Threshold) Policy(v *View) datapath.Policy {
	p, ok := t.plan.Plan(v, or(t.Queue, defaultQueue))
	if !ok {
		return p
	}
	// What is dropped is still offered, so the bound does not come and go with its effect. A tenth keeps noise from switching it.
	switch offered := v.Offered(); {
	case offered > p.Rate:
		t.tight = true
	case offered < p.Rate-p.Rate/10:
		t.tight = false
	}
	upTo := t.UpTo
	if upTo == 0 {
		upTo = datapath.Importance(128, 64)
	}
	if t.tight && upTo < datapath.MaxImportance {
		p.Bands = []datapath.Band{{UpTo: upTo}, {Drop: 1}}
	} else {
		p.Bands = []datapath.Band{{}}
	}
	return finish(p)
}
