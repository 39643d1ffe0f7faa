package sim_test

import (
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
)

// newStage returns a fresh simulator for a trace.
func newStage(limits datapath.Limits) (*datapathtest.SimStage[sim.Dumper], *sim.Sim) {
	st := datapathtest.NewSimStage(func(d *datapathtest.Dump) sim.Dumper { return d })
	s := sim.New(sim.Config{Limits: limits, Port: datapathtest.TracePort, Now: st.Now, Send: st.Send, HasInterface: st.HasInterface})
	st.Use(s)
	return st, s
}

// unreachable are the reasons that a trace cannot bring about, and why.
var unreachable = map[datapath.Reason]string{
	datapath.ReasonGSO:       "a frame of a trace is never a super-packet",
	datapath.ReasonContended: "a trace has one CPU",
}

// TestTraces: the same seed makes the same trace with the same result on two simulators, and some hundred traces come to each
// reason.
func TestTraces(t *testing.T) {
	var total datapath.Counters
	steps := 0
	for seed := range uint64(300) {
		tr := datapathtest.Generate(seed)
		if again := datapathtest.Generate(seed); seed < 10 && tr.String() != again.String() {
			t.Fatalf("seed %d makes two traces", seed)
		}
		a, s := newStage(tr.Limits)
		b, _ := newStage(tr.Limits)
		if d := datapathtest.Compare(a, b, tr.Steps, 4, nil); d != nil {
			t.Fatalf("seed %d, step %d:\n%s", seed, d.Step, strings.Join(d.Lines, "\n"))
		}
		c, err := s.Counters()
		must(t, err)
		for r, n := range c {
			total[r] += n
		}
		steps += len(tr.Steps)
	}
	t.Logf("%d steps: %v", steps, total.Map())
	for r, n := range total {
		why, not := unreachable[datapath.Reason(r)]
		if n == 0 && !not {
			t.Errorf("no trace comes to %v", datapath.Reason(r))
		}
		if n > 0 && not {
			t.Errorf("%v is reached, but: %s", datapath.Reason(r), why)
		}
	}
}
