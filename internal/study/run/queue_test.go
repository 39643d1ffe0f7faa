package run

import (
	"slices"
	"testing"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// TestLeast: what stands is the least of so many samples in a row.
func TestLeast(t *testing.T) {
	s := samples{4, 2, 7, 9, 8, 3}
	if got, want := s.least(3), (samples{2, 2, 7, 3}); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := s.least(7); len(got) != 0 {
		t.Errorf("%v of fewer samples", got)
	}
}

// TestQueueOfDefault: with the defaults the queue's 95th percentile is below 100 ms in every shipped scenario, and what stands is far below.
func TestQueueOfDefault(t *testing.T) {
	for _, name := range scenario.Names() {
		s := load(t, name)
		seeds := 10
		if s.Clients() > 1 {
			seeds = 2
		}
		queue, standing := 0.0, 0.0
		for seed := range seeds {
			r := simulate(t, Config{Scenario: s, Heuristic: heuristic.Default, Seed: uint64(seed + 1)})
			queue += r.Queue.At(95) / float64(seeds)
			standing += r.Standing.At(95) / float64(seeds)
		}
		t.Logf("%s: 95 %% below %.0f ms, standing %.0f ms", name, queue, standing)
		if queue >= 100 || standing >= 80 || standing > queue {
			t.Errorf("%s: 95 %% of the queue are below %.0f ms, of what stands %.0f ms", name, queue, standing)
		}
	}
}

// TestControlUnderOverload: a control message is late only if the path has lost it, or if it stands behind what was sent before the path's rate was
// known: in the first second, or when the rate has just fallen.
func TestControlUnderOverload(t *testing.T) {
	for _, name := range scenario.Names() {
		s := load(t, name)
		seeds := 10
		if s.Clients() > 1 {
			seeds = 1
		}
		sent, lost, early, fallen, late := 0, 0, 0, 0, 0
		for seed := range seeds {
			w, err := newWorld(Config{Scenario: s, Heuristic: heuristic.Default, Congestion: congestion.Live, Seed: uint64(seed + 1)})
			if err != nil {
				t.Fatal(err)
			}
			for w.now < w.end {
				if err := w.step(w.agenda.next()); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range w.clients {
				for i := range c.controls {
					x := &c.controls[i]
					at := x.sent - epoch
					sent++
					switch {
					case x.inTime:
					case x.lost:
						lost++
					case at < 1e9:
						early++
					case c.link.fell(at, 2*x.rtt):
						fallen++
					default:
						late++
						if seeds > 1 {
							t.Logf("%s, seed %d: sent at %d ms, smoothed RTT %d ms", name, seed+1, at/1e6, x.rtt/1e6)
						}
					}
				}
			}
		}
		t.Logf("%s: of %d messages %d late: lost %d, in the first second %d, after the rate fell %d, others %d", name, sent, lost+early+fallen+late, lost, early, fallen, late)
		if late*1000 > sent { // flows that fill the path together, and packets that are long on a slow one
			t.Errorf("%s: of %d messages %d are late without a cause", name, sent, late)
		}
	}
}

// fell says whether the rate, from 400 ms before a time until so long after it, is at some moment less than 0.7 of what it was in the second before.
func (l *link) fell(at, after int64) bool {
	passes := func(from, to int64) float64 { return l.capacity(to) - l.capacity(from) }
	const look = int64(20e6)
	high, low := 0.0, 1e18
	for t := max(at-1000e6, 0); t < at+after; t += look {
		n := passes(t, t+look)
		if t < at {
			high = max(high, n)
		}
		if t >= at-400e6 {
			low = min(low, n)
		}
	}
	return low < 0.7*high
}
