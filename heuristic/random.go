package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Random is "random": of what is more than the path carries, a share of all streams is dropped at their first byte, whatever they are
// worth, and the rest as by TailDrop. It is random early detection (Floyd and Jacobson 1993) with rates instead of the length of a queue.
//
// It is a baseline too: what dropping streams as wholes gains, without knowing what they are worth.
type Random struct {
	Queue time.Duration // as of TailDrop
	plan  Planner
}

func (r *Random) Name() string { return "random" }

func (r *Random) Policy(v *View) datapath.Policy {
	p, ok := r.plan.Plan(v, or(r.Queue, defaultQueue))
	if ok {
		p.Bands = []datapath.Band{{UpTo: datapath.MaxImportance, Drop: excess(p.Rate, v.Offered())}}
	}
	return p
}

// excess returns the share of what is offered that a rate does not carry.
func excess(carries, offered uint64) float64 {
	if offered <= carries {
		return 0
	}
	return 1 - float64(carries)/float64(offered)
}
