package congestion_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/internal/congestion"
)

// controllers are those that are compared.
var controllers = []string{"newreno", "cubic", "bbr", "scream"}

func controller(t testing.TB, name string) congestion.Controller {
	switch name {
	case "newreno":
		return congestion.NewNewReno(datagram, 32)
	case "bbr":
		return congestion.NewBBR(datagram, 32)
	case "scream":
		return congestion.NewScream(datagram, 32)
	case "cubic":
		return congestion.NewCubic(datagram, 32)
	}
	t.Fatal(name)
	return nil
}

// outcome is what a run of the model yields.
type outcome struct {
	utilisation float64 // of the link
	p50, p95    float64 // of the queueing delay, ms
	loss        float64 // share of packets
	fairness    float64 // the smaller flow's share of the larger one's bytes
	waited      float64 // 95th percentile of how long packets waited at the sender, ms
}

const warmup, length = 10 * second, 40 * second

// scenario is one run. rtt is in milliseconds, rate in Mbit/s, and queue in milliseconds at that rate.
type scenario struct {
	name  string
	rate  float64
	rtt   int64
	queue float64
	start func(b *bottleneck, new func() congestion.Controller)
}

var scenarios = []scenario{
	{"bulk", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) { b.join(0, cc(), true) }},
	{"bulk, short queue", 10, 40, 30, func(b *bottleneck, cc func() congestion.Controller) { b.join(0, cc(), true) }},
	{"bulk, 1 % lost", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.loss = func(n uint64) bool { return n*2654435761>>7%100 == 0 }
		b.join(0, cc(), true)
	}},
	{"two bulk", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.join(0, cc(), true)
		b.join(3*second, cc(), true)
	}},
	{"live, 80 %", 5, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.join(0, cc(), false).media(0, length, 0.8*5e6/8, 0)
	}},
	{"two live, 45 % each", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.join(0, cc(), false).media(0, length, 0.45*10e6/8, 0)
		b.join(0, cc(), false).media(7*ms, length, 0.45*10e6/8, 11)
	}},
	{"two live, 80 % each", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.join(0, cc(), false).media(0, length, 0.8*10e6/8, 0)
		b.join(3*second, cc(), false).media(3*second+7*ms, length, 0.8*10e6/8, 11)
	}},
	{"on and off", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		f := b.join(0, cc(), false)
		for t := int64(0); t < length; t += 2 * second { // a second at the link's rate, and a second of nothing
			for i := range int64(1000) {
				b.at(t+i*ms, func() { f.produce(1) })
			}
		}
	}},
}

func (s *scenario) run(t testing.TB, name string) (o outcome) {
	rate := s.rate * 1e6 / 8
	b := &bottleneck{
		rate: func(int64) float64 { return rate }, rtt: func(int64) int64 { return s.rtt * ms }, limit: s.queue / 1e3 * rate, warmup: warmup,
	}
	s.start(b, func() congestion.Controller { return controller(t, name) })
	b.run(length)
	return b.outcome(rate)
}

func (b *bottleneck) outcome(rate float64) (o outcome) {
	total, least, most := 0.0, 1e18, 0.0
	var waited []int64
	for _, f := range b.flows {
		n := float64(f.delivered - f.since)
		total, least, most = total+n, min(least, n), max(most, n)
		waited = append(waited, f.waited...)
	}
	o.utilisation = total / (rate * float64(b.now-b.warmup) / 1e9)
	o.p50, o.p95 = b.percentile(0.5), b.percentile(0.95)
	o.loss = float64(b.dropped) / float64(max(b.offered, 1))
	o.fairness = least / most
	if len(waited) > 0 {
		slices.Sort(waited)
		o.waited = float64(waited[len(waited)*95/100]) / 1e6
	}
	return o
}

// TestClosedLoop runs every controller over one bottleneck.
func TestClosedLoop(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "\n| controller | path and traffic | utilisation | queue p50 ms | queue p95 ms | lost | smaller / larger flow | wait at the sender p95 ms |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range scenarios {
		for _, name := range controllers {
			o := s.run(t, name)
			fmt.Fprintf(&table, "| %s | %s | %.1f %% | %.0f | %.0f | %.2f %% | %.2f | %.0f |\n", name, s.name,
				100*o.utilisation, o.p50, o.p95, 100*o.loss, o.fairness, o.waited)
		}
	}
	t.Log(table.String())
}
