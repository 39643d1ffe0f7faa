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
	c, err := congestion.New(name, datagram, 32)
	if err != nil {
		t.Fatal(err)
	}
	return c
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
	{"live, 80 %, in bursts", 5, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.burst = true
		b.join(0, cc(), false).media(0, length, 0.8*5e6/8, 0)
	}},
	{"two bulk, in bursts", 10, 40, 300, func(b *bottleneck, cc func() congestion.Controller) {
		b.burst = true
		b.join(0, cc(), true)
		b.join(3*second, cc(), true)
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

// bound is what an outcome must keep to. The one for live media is held to the most: the queue's 95th percentile is below 100 ms on every path.
type bound struct {
	controller, scenario string // "" for all
	utilisation          float64
	p95, loss, fairness  float64 // 0: any
}

var bounds = []bound{
	{"newreno", "bulk", 0.95, 0, 0.01, 0},
	{"newreno", "bulk, short queue", 0.90, 0, 0.01, 0},
	{"newreno", "two bulk", 0.95, 0, 0.01, 0.6},
	{"cubic", "bulk", 0.95, 0, 0.01, 0},
	{"cubic", "bulk, short queue", 0.95, 0, 0.01, 0},
	{"cubic", "bulk, 1 % lost", 0.15, 0, 0, 0},
	{"cubic", "two bulk", 0.95, 0, 0.01, 0.5},
	{"bbr", "bulk", 0.93, 40, 0.001, 0},
	{"bbr", "bulk, short queue", 0.93, 0, 0.01, 0},
	{"bbr", "bulk, 1 % lost", 0.25, 20, 0, 0},
	{"bbr", "two bulk", 0.93, 100, 0.01, 0.5},
	{"bbr", "live, 80 %", 0.79, 50, 0, 0},
	{"scream", "", 0, 60, 0.015, 0.75},
	{"scream", "bulk", 0.95, 50, 0.0001, 0},
	{"scream", "bulk, short queue", 0.95, 0, 0.005, 0},
	{"scream", "bulk, 1 % lost", 0.35, 0, 0, 0},
	{"scream", "two bulk", 0.95, 50, 0.0001, 0.8},
	{"scream", "live, 80 %", 0.79, 60, 0.0001, 0},
	{"scream", "two live, 45 % each", 0.89, 50, 0.0001, 0.95},
	{"scream", "two live, 80 % each", 0.95, 50, 0.0001, 0.8},
	{"", "on and off", 0.45, 20, 0.001, 0},
}

// TestClosedLoop runs every controller over one bottleneck, and prints the table of docs/recovery.md.
func TestClosedLoop(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "\n| path and traffic | controller | utilisation | queue p50, ms | queue p95, ms | lost | smaller / larger flow | wait at the sender p95, ms |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range scenarios {
		for _, name := range controllers {
			o := s.run(t, name)
			fmt.Fprintf(&table, "| %s | %s | %.1f %% | %.0f | %.0f | %.2f %% | %.2f | %.0f |\n", s.name, name,
				100*o.utilisation, o.p50, o.p95, 100*o.loss, o.fairness, o.waited)
			for _, b := range bounds {
				if b.controller != "" && b.controller != name || b.scenario != "" && b.scenario != s.name {
					continue
				}
				if o.utilisation < b.utilisation || b.p95 > 0 && o.p95 > b.p95 || b.loss > 0 && o.loss > b.loss || o.fairness < b.fairness {
					t.Errorf("%s, %s: %+v, want %+v", name, s.name, o, b)
				}
			}
		}
	}
	t.Log(table.String())
}

// later is a controller whose clock is ahead.
type later struct {
	congestion.Controller
	by int64
}

func (c later) packet(p congestion.Packet) congestion.Packet {
	p.Sent += c.by
	return p
}
func (c later) OnSent(p congestion.Packet, n uint64) { c.Controller.OnSent(c.packet(p), n) }
func (c later) OnAcked(now int64, p congestion.Packet, n uint64) {
	c.Controller.OnAcked(now+c.by, c.packet(p), n)
}
func (c later) OnLost(now int64, p congestion.Packet) { c.Controller.OnLost(now+c.by, c.packet(p)) }
func (c later) OnPersistentCongestion(now int64)      { c.Controller.OnPersistentCongestion(now + c.by) }
func (c later) OnAck(now int64, s congestion.Sample) {
	s.Newest = c.packet(s.Newest)
	c.Controller.OnAck(now+c.by, s)
}

// TestClockHasNoOrigin: controllers do the same for a connection that begins when the clock is at an hour. BBR draws from the time when it
// probes, so it does nearly the same.
func TestClockHasNoOrigin(t *testing.T) {
	for _, name := range controllers {
		var got [2]outcome
		for i, by := range []int64{0, 3600 * second} {
			b := path(300)
			b.warmup = 0
			b.join(0, later{controller(t, name), by}, true)
			b.join(0, later{controller(t, name), by}, false).media(0, 4*second, 3e6/8, 0)
			b.run(4 * second)
			got[i] = b.outcome(10e6 / 8)
		}
		if d := got[0].utilisation - got[1].utilisation; got[0] != got[1] && (name != "bbr" || d > 0.02 || d < -0.02) {
			t.Errorf("%s: %+v, and at one hour %+v", name, got[0], got[1])
		}
	}
}

// TestClosedLoopOfScream runs the controller for live media on many paths: up to four flows, live and bulk, keep the queue below 100 ms at the 95th percentile and
// use the path, and none of them starves.
func TestClosedLoopOfScream(t *testing.T) {
	for _, mbit := range []float64{5, 10, 50} {
		for _, rtt := range []int64{10, 40, 150} {
			for _, n := range []int{1, 4} {
				for _, live := range []bool{true, false} {
					s := scenario{rate: mbit, rtt: rtt, queue: 500, start: func(b *bottleneck, cc func() congestion.Controller) {
						b.burst = true
						for i := range n {
							at := int64(i) * 1700 * ms
							f := b.join(at, cc(), !live)
							if live {
								f.media(at, length, 0.9/float64(n)*mbit*1e6/8, 5*i)
							}
						}
					}}
					o := s.run(t, congestion.Live)
					fair, used := 0.3, 0.94
					if live {
						fair, used = 0.8, 0.89
					}
					if o.p95 > 100 || o.utilisation < used || o.fairness < fair || o.loss > 0.001 {
						t.Errorf("%v Mbit/s, %d ms, %d flows, live %v: %+v", mbit, rtt, n, live, o)
					}
				}
			}
		}
	}
}

// TestBesideCubic: what is left to live media of 4 Mbit/s beside a bulk flow with CUBIC that fills a queue of 300 ms: not much for those that keep
// queues short, and something.
func TestBesideCubic(t *testing.T) {
	for _, name := range controllers {
		b := path(300)
		b.warmup = warmup
		live := b.join(0, controller(t, name), false)
		live.media(0, length, 4e6/8, 0)
		b.join(2*second, controller(t, "cubic"), true)
		b.run(length)
		got := float64(live.delivered-live.since) * 8 / float64((length-warmup)/second) / 1e6
		t.Logf("%s: %.1f of 4 Mbit/s, queue p95 %.0f ms", name, got, b.percentile(0.95))
		if got < 0.3 {
			t.Errorf("%s starves: %.2f Mbit/s", name, got)
		}
	}
}

// TestScreamOtherClocks: flows whose clocks differ make their gaps at other times, and take each other's queue for a part of the path. It is
// longer then, and bounded.
func TestScreamOtherClocks(t *testing.T) {
	for _, apart := range []int64{0, 1300 * ms, 2500 * ms} {
		s := scenario{rate: 10, rtt: 10, queue: 500, start: func(b *bottleneck, cc func() congestion.Controller) {
			for i := range int64(4) {
				b.join(i*1700*ms, later{cc(), i * apart}, true)
			}
		}}
		o := s.run(t, "scream")
		t.Logf("clocks %d ms apart: queue p95 %.0f ms, smaller / larger flow %.2f", apart/ms, o.p95, o.fairness)
		if o.p95 > 160 || o.fairness < 0.4 {
			t.Errorf("clocks %d ms apart: %+v", apart/ms, o)
		}
	}
}
