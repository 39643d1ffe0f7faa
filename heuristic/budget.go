package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Budget is "budget": each priority has a budget of its own (thesis, 3.4.2). From the most important on, each may use a share of what those
// before it left; what it does not need is the next one's, and the last may use all that is left. Of what is beyond a budget,
// a share of the streams is dropped.
//
// Use it where the less important must not starve, as a second camera. It costs the more important: under hard overload some of
// their streams are dropped although the path could carry them.
type Budget struct {
	Share float64       // of what is left, above 0 up to 1; default 0.6
	Queue time.Duration // as of TailDrop
	plan  Planner
}

func (b *Budget) Name() string { return "budget" }

func (b *Budget) Policy(v *View) datapath.Policy {
	p, ok := b.plan.Plan(v, or(b.Queue, defaultQueue))
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{}
	}
	share := b.Share
	if !(share > 0 && share <= 1) {
		share = 0.6
	}
	left := p.Rate
	classes := bands(v)
	for i, c := range classes {
		budget := left
		if i < len(classes)-1 {
			budget = uint64(float64(left) * share)
		}
		p.Bands = append(p.Bands, datapath.Band{UpTo: c.Importance, Drop: excess(budget, c.Rate)})
		left -= min(budget, c.Rate)
	}
	return finish(monotone(p))
}
