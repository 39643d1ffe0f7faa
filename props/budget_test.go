package props_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
)

// budgetDefect is a fault in how a client's budget is used.
type budgetDefect struct {
	noLook   bool                                                    // repairs are sent whether they fit or not
	noCharge bool                                                    // what userspace sends is not charged
	split    bool                                                    // the pace time is read, and written later
	lateDraw bool                                                    // what is held is not drawn from the plan
	policy   func(s *datapath.Space, p *datapath.Policy)             // after it was set
	waiting  func(importance uint16, waiting uint32) (behind uint32) // what waits, for a frame
}

func init() {
	defects = append(defects,
		defect{name: "repairs bypass pacing and congestion control", lesson: 12, property: "P9", budget: budgetDefect{noLook: true}},
		defect{name: "what userspace sends is not counted", lesson: 13, property: "P9, P9 for the window, P9 of the plan", budget: budgetDefect{noCharge: true}},
		defect{name: "the pace time is changed without atomics", lesson: 2, property: "P9, P9 of the plan", budget: budgetDefect{split: true}},
	)
}

// draw is a packet that was charged to a budget.
type drawn struct {
	at, size uint64
	looked   bool
}

// TestP9: bytes sent to a client in any interval are at most burst + rate × time and one packet for each other sender, with
// several CPUs and userspace drawing from the same words; the window is exceeded by no more than that either.
func TestP9(t *testing.T) {
	holds(t, "P9", 400, func(t *rapid.T, d *defect) error {
		const maxSize, senders = 1452, 3
		sched := drawSchedule(t)
		rate := rapid.Uint64Range(1000, 1<<30).Draw(t, "rate")
		burst := rapid.Uint64Range(maxSize, 1<<15).Draw(t, "burst")
		window := rapid.SampledFrom([]uint64{datapath.Unlimited, 1 << 14}).Draw(t, "window")
		s := datapath.NewSpace(nil, nil)
		s.Interleave(func() { sched.step(false) })
		s.SetSendLimit(window)
		s.SetPace(rate, burst)
		now := uint64(1e9)
		var log []drawn
		charge := func(at, size uint64) {
			if !d.budget.split {
				s.ChargeBudget(at, size)
				return
			}
			pace, cost := s.Word(datapath.WordPaceTime), atomic.LoadUint64(s.Word(datapath.WordPaceCost))
			atomic.AddUint64(s.Word(datapath.WordSent), size)
			next := datapath.PaceAfter(atomic.LoadUint64(pace), cost, at, size)
			sched.step(false)
			atomic.StoreUint64(pace, next)
		}
		for i := range senders {
			type send struct{ gap, size uint64 }
			sends := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) send {
				return send{rapid.Uint64Range(0, 3*maxSize*1e9/rate).Draw(t, "gap"), rapid.Uint64Range(20, maxSize).Draw(t, "size")}
			}), 0, 12).Draw(t, "packets")
			userspace := i == senders-1
			sched.add(fmt.Sprint("sender ", i), func() {
				for k, p := range sends {
					now += p.gap / senders
					at, ack := now, userspace && k%4 == 3 // acknowledgments must go out
					if !ack && !(userspace && d.budget.noLook) && s.Budget(at, p.size) != datapath.Forwarded {
						continue
					}
					if !(userspace && d.budget.noCharge) {
						charge(at, p.size)
					}
					log = append(log, drawn{at, p.size, !ack})
				}
			})
		}
		if err := sched.run(); err != nil {
			return err
		}
		overflow := uint64((senders - 1) * maxSize)
		total := uint64(0)
		for i := range log {
			first, last, sum := log[i].at, log[i].at, uint64(0)
			for _, p := range log[i:] {
				first, last = min(first, p.at), max(last, p.at)
				if !p.looked {
					continue // it is charged, and delays what comes after, but does not ask
				}
				sum += p.size
				// Costs are rounded to a nanosecond per packet and per 1024 bytes.
				allowed := float64(burst+overflow) + float64(rate)*float64(last-first+uint64(len(log)))/1e9
				if cost := 1e9 * 1024 / float64(rate); float64(sum) > allowed*cost/(cost-1)+1 {
					return fmt.Errorf("P9: %d bytes in %v at %d bytes/s with burst %d", sum, time.Duration(last-first), rate, burst)
				}
			}
			if total += log[i].size; window != datapath.Unlimited && log[i].looked && total > window+overflow+total/4 {
				return fmt.Errorf("P9: %d bytes with a window of %d", total, window)
			}
		}
		return nil
	})
}

// TestP9Window is P9 for the congestion window, with the datapath's egress on several CPUs.
func TestP9Window(t *testing.T) {
	holds(t, "P9 for the window", 200, of("P9", profile{packets: 20, ops: 40, anyCPU: true, failing: true, window: 200, kinds: []int{opOwn, opOwn, opRead}}))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
