package run

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

func newTestLink(t testing.TB, l scenario.Link, seed uint64) *link {
	t.Helper()
	d := scenario.Duration(10 * time.Millisecond)
	l.Delay = &d
	if l.LossBurst == 0 {
		l.LossBurst = 1
	}
	return newLink(&l, time.Hour, seed, 0)
}

// TestServe: what has passed by the time that serve names is what the link's capacity is until then. Rates are told by the time since a run began.
func TestServe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tr scenario.Trace
		tr.Kind = "steps"
		at := scenario.Duration(0)
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			tr.Steps = append(tr.Steps, scenario.Step{At: at, Rate: scenario.Rate(rapid.IntRange(0, 10).Draw(rt, "Mbit/s")) * 1e6})
			at += scenario.Duration(rapid.Int64Range(int64(10*time.Millisecond), int64(time.Second)).Draw(rt, "length"))
		}
		tr.Steps[0].Rate += 1e6
		if rapid.Bool().Draw(rt, "repeats") {
			tr.Repeat = at
		} else {
			tr.Steps[len(tr.Steps)-1].Rate += 1e6
		}
		l := newTestLink(t, scenario.Link{Trace: tr}, 1)
		now := epoch
		for range rapid.IntRange(1, 20).Draw(rt, "packets") {
			now += rapid.Int64Range(0, int64(2*time.Second)).Draw(rt, "gap")
			size := float64(rapid.IntRange(1, 100_000).Draw(rt, "size"))
			end := l.serve(now, size)
			if got := l.capacity(end-epoch) - l.capacity(now-epoch); math.Abs(got-size) > 1+size*1e-6 {
				rt.Fatalf("%v bytes from %v to %v, the link passes %v in that time", size, now, end, got)
			}
			now = end
		}
	})
}

// TestQueue: packets that come together leave one after the other, and what is beyond the depth is dropped.
func TestQueue(t *testing.T) {
	for _, tc := range []struct {
		queue scenario.Queue
		taken int
	}{
		{scenario.Queue{Bytes: 10_500}, 10},
		{scenario.Queue{Time: scenario.Duration(10 * time.Millisecond)}, 11}, // what finds up to 10 ms before it
	} {
		l := newTestLink(t, scenario.Link{Rate: 8e6, Queue: tc.queue}, 1) // 1 ms for 1000 bytes
		taken := 0
		for i := range 20 {
			at, ok := l.send(epoch, 1000)
			if !ok {
				continue
			}
			taken++
			if want := epoch + int64(i+1)*1e6 + 10e6; at != want {
				t.Errorf("packet %d is there after %v, want %v", i, at-epoch, want-epoch)
			}
		}
		if taken != tc.taken || l.dropped != uint64(20-tc.taken) {
			t.Errorf("a queue of %v takes %d, want %d; %d dropped", tc.queue, taken, tc.taken, l.dropped)
		}
		if _, ok := l.send(epoch+5e6, 1000); !ok {
			t.Errorf("a queue of %v has no room after half of it has left", tc.queue)
		}
	}
}

// TestLoss: the share that is lost, and how many in a row, are what was asked for.
func TestLoss(t *testing.T) {
	for _, burst := range []float64{1, 4} {
		l := newTestLink(t, scenario.Link{Rate: 1e9, Queue: scenario.Queue{Bytes: 1e6}, Loss: 0.05, LossBurst: burst}, 1)
		const n = 200_000
		lost, runs, losing := 0.0, 0.0, false
		for i := range n {
			_, ok := l.send(epoch+int64(i)*1e6, 1000)
			if !ok {
				lost++
				if !losing {
					runs++
				}
			}
			losing = !ok
		}
		if share := lost / n; math.Abs(share-0.05) > 0.004 {
			t.Errorf("bursts of %v: %.4f are lost, want 0.05", burst, share)
		}
		if mean := lost / runs; math.Abs(mean-burst) > 0.1*burst+0.06 {
			t.Errorf("%.2f are lost in a row, want %v", mean, burst)
		}
	}
}
