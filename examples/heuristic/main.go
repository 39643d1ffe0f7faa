// Heuristic is a drop heuristic of one's own, compared with tail drop and the default in a scenario of fastrelay study.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
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

// compare runs half-rate with tail drop, with stairs and with the default.
func compare(w io.Writer) error {
	if err := heuristic.Register("stairs", func() heuristic.Heuristic { return &stairs{} }); err != nil {
		return err
	}
	s, err := scenario.Load("half-rate")
	for _, name := range []string{"none", "stairs", heuristic.Default} {
		var r *run.Result
		if err == nil {
			r, err = run.Run(run.Config{Scenario: s, Heuristic: name, Congestion: "scream", Seed: 1})
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-8s%5.2f decodable frames/s\n", name, r.DecodableFPS())
	}
	return nil
}

func main() {
	if err := compare(os.Stdout); err != nil {
		log.Fatal(err)
	}
}
