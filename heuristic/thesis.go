package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Thesis is "thesis", the example of the thesis (3.4.2): everything below some priority is dropped, and a share of what has that priority.
// Which priority and share follows from the rates: as much as the path carries, from the most important on.
//
// Use it where streams of one importance do not depend on each other, as layers of one stream each. Where they do, as reference
// frames, a share of them leaves little that can be decoded.
type Thesis struct {
	Queue time.Duration // as of TailDrop
	plan  Planner
}

func (t *Thesis) Name() string { return "thesis" }

func (t *Thesis) Policy(v *View) datapath.Policy {
	p, ok := t.plan.Plan(v, or(t.Queue, defaultQueue))
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{}
	}
	left := p.Rate
	for _, c := range bands(v) {
		p.Bands = append(p.Bands, datapath.Band{UpTo: c.Importance, Drop: excess(left, c.Rate)})
		left -= min(left, c.Rate)
	}
	return finish(monotone(p))
}

// monotone raises the shares of less important bands to those of the more important.
func monotone(p datapath.Policy) datapath.Policy {
	for i := 1; i < len(p.Bands); i++ {
		p.Bands[i].Drop = max(p.Bands[i].Drop, p.Bands[i-1].Drop)
	}
	return p
}
