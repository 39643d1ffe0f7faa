// Heuristic is the command fastrelay with a drop heuristic of its own, for modules of one's own too. It can be compared with the
// others and run in a relay:
//
//	go run ./examples/heuristic study --scenario half-rate --heuristic stairs,live
//	go run ./examples/heuristic demo --rate 300kbit -n 1 --heuristic stairs
package main

import (
	"log"
	"os"
	"time"

	"github.com/fastrelay/fastrelay/command"
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
)

// stairs leaves out one importance more when half a second of media waits, and one less when nothing has waited for a second.
type stairs struct {
	plan    heuristic.Planner
	out     int           // importances that are left out, from the least
	changed time.Duration // when
}

func (s *stairs) Name() string { return "stairs" }

func (s *stairs) Policy(v *heuristic.View) datapath.Policy {
	p, ok := s.plan.Plan(v, time.Second) // up to a second of media may wait
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{} // nothing is known yet: everything is sent
	}
	last := len(v.Classes) - 1
	switch since := v.Now - s.changed; {
	case v.Backlog > p.Rate/2 && s.out < last && since > 200*time.Millisecond:
		s.out, s.changed = s.out+1, v.Now
	case v.Backlog == 0 && s.out > 0 && since > time.Second:
		s.out, s.changed = s.out-1, v.Now
	}
	if s.out = min(s.out, last); s.out > 0 {
		p.Bands = []datapath.Band{{UpTo: v.Classes[last-s.out].Importance}}
	}
	p.Bands = append(p.Bands, datapath.Band{UpTo: datapath.MaxImportance, Drop: float64(min(s.out, 1))})
	return p
}

func main() {
	if err := heuristic.Register("stairs", func() heuristic.Heuristic { return &stairs{} }); err != nil {
		log.Fatal(err)
	}
	os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr))
}
