package datapath_test

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
)

// TestBudgetBounds is P9 for one sender that looks before it sends: in any interval at most burst + rate × interval.
func TestBudgetBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Uint64Range(1000, 1<<32).Draw(t, "rate")
		burst := rapid.Uint64Range(1500, 1<<20).Draw(t, "burst")
		s := datapath.NewSpace(nil, nil)
		s.SetSendLimit(datapath.Unlimited)
		s.SetPace(rate, burst)
		now := uint64(1e9)
		type sent struct{ at, size uint64 }
		var log []sent
		for range rapid.IntRange(1, 100).Draw(t, "packets") {
			now += rapid.Uint64Range(0, 5*1500*1e9/rate).Draw(t, "gap")
			size := rapid.Uint64Range(20, 1452).Draw(t, "size")
			if s.Budget(now, size) != datapath.Forwarded {
				continue
			}
			s.ChargeBudget(now, size)
			log = append(log, sent{now, size})
		}
		for i := range log {
			sum := uint64(0)
			for _, p := range log[i:] {
				sum += p.size
				// Costs are rounded to a nanosecond per packet and per 1024 bytes.
				allowed := float64(burst) + float64(rate)*float64(p.at-log[i].at+uint64(len(log)))/1e9
				if cost := 1e9 * 1024 / float64(rate); float64(sum) > allowed*cost/(cost-1)+1 {
					t.Fatalf("%d bytes in %v at %d bytes/s with burst %d", sum, time.Duration(p.at-log[i].at), rate, burst)
				}
			}
		}
	})
}

func TestBudgetReasons(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	if r := s.Budget(0, 1); r != datapath.ReasonCongestionWindow {
		t.Errorf("with a limit of 0: %v", r)
	}
	s.SetSendLimit(3000)
	s.SetPace(1<<20, 2000)
	s.ChargeBudget(5, 1000)
	for _, c := range []struct {
		now, size uint64
		want      datapath.Reason
	}{
		{5, 990, datapath.Forwarded}, {5, 1010, datapath.ReasonPaced}, {5, 2001, datapath.ReasonCongestionWindow},
		{5 + 1e9, 1990, datapath.Forwarded},
	} {
		if r := s.Budget(c.now, c.size); r != c.want {
			t.Errorf("%d bytes at %d: %v, want %v", c.size, c.now, r, c.want)
		}
	}
	s.ChargeBudget(5, 5000) // without looking
	if r := s.Budget(5+1e9, 10); r != datapath.ReasonCongestionWindow || s.Sent() != 6000 {
		t.Errorf("%v after %d bytes", r, s.Sent())
	}
	s.SetSendLimit(datapath.Unlimited)
	if r := s.Budget(5, 10); r != datapath.ReasonPaced {
		t.Errorf("overdrawn: %v", r)
	}
	s.SetPace(0, 0)
	if r := s.Budget(5, 1400); r != datapath.Forwarded {
		t.Errorf("unlimited: %v", r)
	}
}

// TestBudgetUnderRaces charges from many goroutines: nothing is lost.
func TestBudgetUnderRaces(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	s.SetPace(1e9, 0) // 1024 ns per KiB
	const n, each = 8, 10000
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range each {
				s.ChargeBudget(0, 1024)
			}
		})
	}
	wg.Wait()
	if pace := *s.Word(datapath.WordPaceTime); pace != n*each*1024 || s.Sent() != n*each*1024 {
		t.Errorf("pace time %d, sent %d, want %d", pace, s.Sent(), n*each*1024)
	}
}

// TestPaceDelay: at the time that it names a packet fits, and a nanosecond before it does not.
// TestDrawWraps: where a time is at the end of its 64 bits drawing wraps around, as rules.md says and the kernel does; found by seed 7528 of
// the traces.
func TestDrawWraps(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	if err := s.SetPolicy(&datapath.Policy{Rate: 50_000, Burst: 130, Bands: []datapath.Band{{UpTo: datapath.MaxImportance}}}); err != nil {
		t.Fatal(err)
	}
	s.SetPace(50_000, 130)
	for _, word := range []int{datapath.WordPlanTime, datapath.WordPaceTime} {
		*s.Word(word) = 1<<64 - 1
	}
	s.ChargePlan(1000, 1024)
	s.ChargeBudget(1000, 1024)
	const cost = 1024 * 1e9 / 50_000
	if plan, pace := s.PlanTime(), *s.Word(datapath.WordPaceTime); plan != cost-1 || pace != cost-1 {
		t.Errorf("plan's time %d, pace's %d, want %d", plan, pace, uint64(cost-1))
	}
}

func TestPaceDelay(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	s.SetSendLimit(datapath.Unlimited)
	if d := s.PaceDelay(5, 1400); d != 0 {
		t.Errorf("delay %d without pacing", d)
	}
	s.SetPace(1<<20, 2000)
	now := uint64(1e6)
	s.ChargeBudget(now, 2000)
	d := s.PaceDelay(now, 1400)
	if s.Budget(now+d, 1400) != datapath.Forwarded || s.Budget(now+d-1, 1400) != datapath.ReasonPaced {
		t.Errorf("delay %d: %v then, %v before", d, s.Budget(now+d, 1400), s.Budget(now+d-1, 1400))
	}
	if d := s.PaceDelay(now+d, 1400); d != 0 {
		t.Errorf("delay %d when the packet fits", d)
	}
}

// TestOwnPacketsLeaveRoom: whatever is sent without looking, one who looks waits no longer than a packet takes at the pace; what is sent
// within the pace is charged as by those who look.
func TestOwnPacketsLeaveRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 1200
		rate := rapid.Uint64Range(10_000, 1<<30).Draw(t, "rate")
		burst := rapid.Uint64Range(size, 1<<17).Draw(t, "burst")
		s, looked := datapath.NewSpace(nil, nil), datapath.NewSpace(nil, nil)
		for _, s := range []*datapath.Space{s, looked} {
			s.SetMaxSize(size)
			s.SetSendLimit(datapath.Unlimited)
			s.SetPace(rate, burst)
		}
		now := uint64(1e9)
		within := true
		for range rapid.IntRange(1, 100).Draw(t, "packets") {
			now += rapid.Uint64Range(0, 2*size*1e9/rate).Draw(t, "gap")
			n := rapid.Uint64Range(20, size).Draw(t, "size")
			within = within && looked.Budget(now, n+size+1) == datapath.Forwarded
			before := s.PaceDelay(now, size)
			s.ChargeOwn(now, n)
			looked.ChargeBudget(now, n)
			if after := s.PaceDelay(now, size); after < before {
				t.Fatalf("a packet that waited %d ns waits %d", before, after)
			}
			if a, b := s.PaceDelay(now, size), looked.PaceDelay(now, size); within && a != b {
				t.Fatalf("%d ns instead of %d within the pace", a, b)
			}
			if d := s.PaceDelay(now, size); d > max(before, 1) {
				t.Fatalf("a packet waits %d ns at %d bytes/s", d, rate)
			}
			if s.Budget(now, size) == datapath.Forwarded && rapid.Bool().Draw(t, "other") {
				s.ChargeBudget(now, size)
				looked.ChargeBudget(now, size)
			}
		}
		if s.Sent() != looked.Sent() {
			t.Fatalf("%d bytes are sent, %d were", s.Sent(), looked.Sent())
		}
	})
}
