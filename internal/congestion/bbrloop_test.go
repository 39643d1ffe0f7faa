package congestion_test

import (
	"slices"
	"testing"

	"github.com/fastrelay/fastrelay/internal/congestion"
)

// watch calls f each millisecond.
func (b *bottleneck) watch(until int64, f func()) {
	for t := int64(0); t < until; t += ms {
		b.at(t, f)
	}
}

// path returns a bottleneck of 10 Mbit/s and 40 ms with a queue of as many ms.
func path(queue int64) *bottleneck {
	const rate = 10e6 / 8
	return &bottleneck{rate: func(int64) float64 { return rate }, rtt: func(int64) int64 { return 40 * ms }, limit: float64(queue) / 1e3 * rate}
}

// TestBBRStates: the states come in the order of section 5.1.1, each with its gains, and ProbeRTT every 5 s.
func TestBBRStates(t *testing.T) {
	b, cc := path(300), congestion.NewBBR(datagram, 32)
	b.join(0, cc, true)
	gains := map[string][2]float64{
		"Startup": {2.77, 2}, "Drain": {0.5, 2}, "ProbeBW_DOWN": {0.9, 2}, "ProbeBW_CRUISE": {1, 2}, "ProbeBW_REFILL": {1, 2},
		"ProbeBW_UP": {1.25, 2.25}, "ProbeRTT": {1, 0.5},
	}
	after := map[string][]string{
		"Startup": {"Drain"}, "Drain": {"ProbeBW_DOWN", "ProbeBW_CRUISE"}, "ProbeBW_DOWN": {"ProbeBW_CRUISE", "ProbeBW_REFILL", "ProbeRTT"},
		"ProbeBW_CRUISE": {"ProbeBW_REFILL", "ProbeRTT"}, "ProbeBW_REFILL": {"ProbeBW_UP", "ProbeRTT"}, "ProbeBW_UP": {"ProbeBW_DOWN", "ProbeRTT"},
		"ProbeRTT": {"ProbeBW_CRUISE"},
	}
	seen := map[string]int{}
	var probes, ends []int64
	state := cc.State()
	b.watch(30*second, func() {
		s := cc.State()
		if p, w := cc.Gains(); [2]float64{p, w} != gains[s] {
			t.Fatalf("%s has gains %v and %v", s, p, w)
		}
		if s == state {
			return
		}
		if !slices.Contains(after[state], s) {
			t.Fatalf("at %d ms %s after %s", b.now/ms, s, state)
		}
		if s == "ProbeRTT" {
			probes = append(probes, b.now)
		} else if state == "ProbeRTT" {
			ends = append(ends, b.now)
		}
		seen[s]++
		state = s
	})
	b.run(30 * second)
	if seen["ProbeBW_UP"] < 8 || seen["ProbeBW_UP"] > 20 || seen["Drain"] != 1 {
		t.Errorf("states %v in 30 s", seen)
	}
	if len(ends) < 4 {
		t.Fatalf("ProbeRTT at %v", probes)
	}
	last := int64(0)
	for i, end := range ends {
		if took := end - probes[i]; took < 200*ms || took > 450*ms {
			t.Errorf("ProbeRTT took %d ms", took/ms)
		}
		if gap := probes[i] - last; i > 0 && (gap < 4900*ms || gap > 5200*ms) {
			t.Errorf("ProbeRTT came %d ms after the last one", gap/ms)
		}
		last = end
	}
	if bw, rtt, _ := cc.Model(); bw < 0.97*10e6/8 || bw > 1.05*10e6/8 || rtt < 40*ms || rtt > 44*ms {
		t.Errorf("model: %.0f bytes per second, %d ms", bw, rtt/ms)
	}
}

// TestBBRFollowsThePath: a path that gets slower is known after two cycles, and one that gets faster sooner (section 5.5.3); one that gets longer after
// 10 s (section 5.5.7.2).
func TestBBRFollowsThePath(t *testing.T) {
	b, cc := path(100), congestion.NewBBR(datagram, 32)
	b.rate = func(now int64) float64 {
		if now > 10*second && now < 25*second {
			return 6e6 / 8
		}
		return 12e6 / 8
	}
	b.rtt = func(now int64) int64 {
		if now > 35*second {
			return 90 * ms
		}
		return 40 * ms
	}
	b.join(0, cc, true)
	check := func(at int64, mbit float64, least, most int64) {
		b.at(at, func() {
			bw, rtt, _ := cc.Model()
			if m := bw * 8 / 1e6; m < 0.9*mbit || m > 1.15*mbit || rtt < least*ms || rtt > most*ms {
				t.Errorf("at %d s: %.2f Mbit/s and %d ms, want %v and %d", at/second, m, rtt/ms, mbit, least)
			}
		})
	}
	check(9*second, 12, 40, 44)
	check(24*second, 6, 40, 60)
	check(34*second, 12, 40, 48)
	check(52*second, 12, 90, 98)
	b.run(53 * second)
}

// TestBBRKeepsWhatItKnows: the rate of an application that sends little does not take the model down, and what
// starts from idle needs no ProbeRTT (sections 5.5.4, 5.3.4.3 and 5.4.1).
func TestBBRKeepsWhatItKnows(t *testing.T) {
	b, cc := path(300), congestion.NewBBR(datagram, 32)
	f := b.join(0, cc, true)
	b.at(4*second, func() { f.bulk = false })
	for t := 5 * second; t < 30*second; t += 100 * ms {
		b.at(t, func() { f.produce(2) })
	}
	b.watch(30*second, func() {
		if cc.State() == "ProbeRTT" && b.now > 6*second {
			t.Fatalf("ProbeRTT at %d ms", b.now/ms)
		}
	})
	b.run(30 * second)
	if bw, _, _ := cc.Model(); bw < 0.95*10e6/8 {
		t.Errorf("%.2f Mbit/s of the path's 10", bw*8/1e6)
	}
}

// TestBBRShortQueue: where the queue is a fifth of a BDP, losses bound what is in flight, and few packets are lost.
func TestBBRShortQueue(t *testing.T) {
	b, cc := path(8), congestion.NewBBR(datagram, 32)
	b.warmup = 5 * second
	b.join(0, cc, true)
	b.run(30 * second)
	_, _, longterm := cc.Model()
	if most := 10e6 / 8 * 0.055; longterm > most {
		t.Errorf("%.0f bytes may be in flight, the path takes about %.0f", longterm, 10e6/8*0.048)
	}
	if o := b.outcome(10e6 / 8); o.loss > 0.01 || o.utilisation < 0.85 {
		t.Errorf("lost %.2f %%, used %.1f %%", 100*o.loss, 100*o.utilisation)
	}
}
