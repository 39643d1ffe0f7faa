package props_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// budgetDefect is a fault in how a client's budget is used.
type budgetDefect struct {
	noLook    bool // repairs are sent whether they fit or not
	noCharge  bool // what userspace sends is not charged
	split     bool // the pace time is read, and written later
	admission func(priority uint8, n int) bool
}

func init() {
	defects = append(defects,
		defect{name: "repairs bypass pacing and congestion control", lesson: 12, property: "P9", budget: budgetDefect{noLook: true}},
		defect{name: "what userspace sends is not counted", lesson: 13, property: "P9, P9 for the window", budget: budgetDefect{noCharge: true}},
		defect{name: "the pace time is changed without atomics", lesson: 2, property: "P9", budget: budgetDefect{split: true}},
		defect{name: "the more important packets are dropped", property: "P8", budget: budgetDefect{
			admission: func(priority uint8, n int) bool { return n%3 > 0 || priority > 100 },
		}},
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

// TestP8: what is admitted does not get worse with importance, state and size being equal. Policies by priority come later; what
// there is, the budget and the stream decision, must not look at the priority at all in a way that turns it round.
func TestP8(t *testing.T) {
	holds(t, "P8", 100, func(t *rapid.T, d *defect) error {
		type packet struct {
			size, gap int
			priority  uint8
		}
		packets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) packet {
			return packet{rapid.IntRange(0, 1200).Draw(t, "size"), rapid.IntRange(0, 3).Draw(t, "gap"), rapid.Byte().Draw(t, "priority")}
		}), 1, 30).Draw(t, "packets")
		credit := rapid.Uint64Range(0, 20000).Draw(t, "credit")
		window := rapid.Uint64Range(1000, 40000).Draw(t, "window")
		raise := rapid.Uint8Range(1, 255).Draw(t, "by how much more important")
		run := func(less uint8) []bool {
			var got []bool
			sent := false
			s := sim.New(sim.Config{Port: 443, Send: func([]byte, int, time.Time) error { sent = true; return nil }})
			relay, pub, client := hostSide(1, 443), hostSide(2, 4000), hostSide(3, 5000)
			b := datapathtest.Builder{From: pub, To: relay, CID: datapathtest.CID(1)}
			null := datapath.Protection{Version: wire.Version1}
			check(s.SetUpstream(0, &datapath.Upstream{Remote: pub.Addr, CIDs: [][]byte{b.CID}, Streams: 2, Protection: null}))
			check(s.SetTrack(0, &datapath.Track{Alias: 5, Draft: 14}))
			space, err := s.SetClient(0, &datapath.Client{Local: relay.Addr, Remote: client.Addr, MaxSize: 1200, Protection: null})
			check(err)
			space.SetDataLimit(credit)
			space.SetSendLimit(window)
			check(s.SetSubscription(0, 0, &datapath.Subscription{Alias: 5}))
			s.ClientIngress(datapathtest.UDPFrame(client, relay, []byte{0x40}), 1, time.Unix(0, 0))
			at := time.Unix(1, 0)
			for i, p := range packets {
				space.Reserve(uint64(4*i+3), uint8(i), 2000)
				at = at.Add(time.Duration(p.gap) * time.Millisecond)
				priority := p.priority - min(p.priority, less)
				sent = false
				data := append(datapathtest.Subgroup(5, uint64(i), priority, ""), make([]byte, p.size)...)
				if d.budget.admission == nil || d.budget.admission(priority, i) {
					s.ServerIngress(b.Frame(uint64(i), datapathtest.Stream(uint64(4*i+2), 0, data, true)), 1, at)
				}
				got = append(got, sent)
			}
			return got
		}
		base, better := run(0), run(raise)
		for i := range base {
			if base[i] && !better[i] {
				return fmt.Errorf("P8: packet %d is admitted with priority %d, and not when it is more important", i, packets[i].priority)
			}
			if base[i] != better[i] {
				break // from here on states differ
			}
		}
		return nil
	})
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
