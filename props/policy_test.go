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

func init() {
	defects = append(defects,
		defect{name: "the more important packets are dropped", property: "P8", budget: budgetDefect{
			policy: func(s *datapath.Space, _ *datapath.Policy) {
				half := datapath.WordPolicies + 16*int(*s.Word(datapath.WordPolicy)&1)
				for i := range datapath.Bands / 2 { // what a band allows, without where it ends
					a, b := s.Word(half+8+i), s.Word(half+8+datapath.Bands-1-i)
					*a, *b = *a&0xffff|*b&^0xffff, *b&0xffff|*a&^0xffff
				}
			},
		}},
		defect{name: "what is more important waits behind what is less so", property: "P8", budget: budgetDefect{
			waiting: func(importance uint16, waiting uint32) uint32 {
				if uint32(importance) >= waiting {
					return datapath.NothingWaits
				}
				return 0
			},
		}},
		defect{name: "what is held does not draw from the plan", property: "P9 of the plan", budget: budgetDefect{lateDraw: true}},
		defect{name: "what the policy drops has no record", property: "P7 with policies", record: func(_ *world, r *datapath.Record) bool {
			kept := r.Frames[:0]
			for _, f := range r.Frames {
				if !f.Reason.Dropped() {
					kept = append(kept, f)
				}
			}
			r.Frames = kept
			return len(kept) > 0
		}},
		defect{name: "the rest of a dropped stream is not counted", property: "P7 with policies", counters: func(c *datapath.Counters) { c[datapath.ReasonDropStream] = 0 }},
		defect{name: "a dropped stream is sent on", property: "P7 with policies", record: func(w *world, r *datapath.Record) bool {
			for i := range r.Frames {
				if f := &r.Frames[i]; f.Reason == datapath.Forwarded && len(w.dropped[r.Client]) > 0 && !f.Datagram {
					for id := range w.dropped[r.Client] {
						f.UpstreamStream = id.stream
						r.Upstream = id.upstream
					}
				}
			}
			return true
		}},
	)
}

// drawPolicy draws a policy that is accepted, for a few kilobytes.
func drawPolicy(t *rapid.T, most uint64) datapath.Policy {
	p := datapath.Policy{Rate: rapid.SampledFrom([]uint64{0, 1000, 50_000, 1 << 20}).Draw(t, "rate of the plan"), Burst: rapid.Uint64Range(0, most).Draw(t, "burst of the plan"),
		Overflow: rapid.Uint64Range(0, most/2).Draw(t, "overflow")}
	n := rapid.IntRange(1, datapath.Bands).Draw(t, "bands")
	byGroup, overflow := rapid.Bool().Draw(t, "by group"), rapid.IntRange(0, n).Draw(t, "bands that may overflow")
	reserve, share := uint64(0), 0.0
	for i := range n {
		if rapid.IntRange(0, 2).Draw(t, "is worse off") == 0 {
			reserve += rapid.Uint64Range(0, most/4).Draw(t, "reserve")
			share += (1 - share) * rapid.SampledFrom([]float64{0, 0.1, 0.6}).Draw(t, "share")
		}
		p.Bands = append(p.Bands, datapath.Band{UpTo: uint16((i + 1) * datapath.MaxImportance / n), Reserve: reserve, Overflow: i < overflow, Drop: share,
			ByGroup: byGroup, Cut: rapid.Bool().Draw(t, "cut")})
	}
	return p
}

// offered is a packet with one media frame.
type offered struct {
	stream, size, gap int // stream 0: a datagram
	group             uint64
	subscriber, pub   uint8
}

// fate ranks what became of a frame: dropped, somebody sends it, sent.
func fate(before, after *datapath.Counters) (int, datapath.Reason) {
	for r := range after {
		if reason := datapath.Reason(r); after[r] > before[r] {
			switch {
			case reason.Dropped():
				return 0, reason
			case reason == datapath.Forwarded:
				return 2, reason
			default:
				return 1, reason
			}
		}
	}
	return -1, datapath.Forwarded
}

// TestP8: whatever policy is accepted and whatever has come before: what is more important is no worse off, at the start of a stream, in
// its midst and as a datagram. Policy, plan, cut groups, budget and what waits are those of a whole simulated datapath.
func TestP8(t *testing.T) {
	holds(t, "P8", 300, func(t *rapid.T, d *defect) error {
		packets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) offered {
			return offered{stream: rapid.IntRange(0, 6).Draw(t, "stream"), size: rapid.IntRange(0, 1000).Draw(t, "size"), gap: rapid.IntRange(0, 3).Draw(t, "gap"),
				group: rapid.Uint64Range(0, 2).Draw(t, "group"), subscriber: rapid.Byte().Draw(t, "subscriber's priority"), pub: rapid.Byte().Draw(t, "publisher's")}
		}), 1, 16).Draw(t, "packets")
		policy := drawPolicy(t, 6000)
		credit := rapid.SampledFrom([]uint64{1 << 20, 3000}).Draw(t, "credit")
		window := rapid.SampledFrom([]uint64{datapath.Unlimited, 4000}).Draw(t, "window")
		waiting := rapid.SampledFrom([]uint32{datapath.NothingWaits, datapath.NothingWaits, 1 << 14, 1 << 15}).Draw(t, "waits")
		last := packets[len(packets)-1]
		better := last
		better.subscriber = rapid.Uint8Range(0, last.subscriber).Draw(t, "more important")
		if better.subscriber == last.subscriber {
			better.pub = rapid.Uint8Range(0, last.pub).Draw(t, "more important for the publisher")
		}
		run := func(last offered) (int, datapath.Reason) {
			return runPolicy(append(packets[:len(packets)-1:len(packets)-1], last), policy, credit, window, waiting, &d.budget)
		}
		less, why := run(last)
		if more, worse := run(better); more < less {
			return fmt.Errorf("P8: %v with priorities %d and %d, and %v with %d and %d", why, last.subscriber, last.pub, worse, better.subscriber, better.pub)
		}
		return nil
	})
}

// runPolicy puts packets through a datapath with one client, and returns the fate of the last.
func runPolicy(packets []offered, policy datapath.Policy, credit, window uint64, waiting uint32, bug *budgetDefect) (rank int, why datapath.Reason) {
	s := sim.New(sim.Config{Port: 443, Send: func([]byte, int, time.Time) error { return nil }})
	relay, pub, client := hostSide(1, 443), hostSide(2, 4000), hostSide(3, 5000)
	b := datapathtest.Builder{From: pub, To: relay, CID: datapathtest.CID(1)}
	null := datapath.Protection{Version: wire.Version1}
	check(s.SetUpstream(0, &datapath.Upstream{Remote: pub.Addr, CIDs: [][]byte{b.CID}, Streams: 2, Protection: null}))
	check(s.SetTrack(0, &datapath.Track{Alias: 5, Draft: 14}))
	space, err := s.SetClient(0, &datapath.Client{Local: relay.Addr, Remote: client.Addr, MaxSize: 1200, MaxDatagram: 1200, Protection: null})
	check(err)
	space.SetDataLimit(credit)
	space.SetSendLimit(window)
	check(space.SetPolicy(&policy))
	if bug.policy != nil {
		bug.policy(space, &policy)
	}
	for i := range uint8(8) {
		space.Reserve(uint64(4*i+3), i, 1<<20)
	}
	s.ClientIngress(datapathtest.UDPFrame(client, relay, []byte{0x40}), 1, time.Now())
	at := time.Now()
	sent := make(map[int]uint64)
	for i, p := range packets {
		at = at.Add(time.Duration(p.gap) * time.Millisecond)
		check(s.SetSubscription(0, 0, &datapath.Subscription{Alias: 5, Priority: p.subscriber}))
		space.SetWaiting(waiting)
		if bug.waiting != nil {
			space.SetWaiting(bug.waiting(datapath.Importance(p.subscriber, p.pub), waiting))
		}
		frame := datapathtest.Datagram(append(datapathtest.ObjectDatagram(5, p.group, p.pub, ""), make([]byte, p.size)...))
		if p.stream > 0 {
			data := make([]byte, p.size)
			if sent[p.stream] == 0 {
				data = append(datapathtest.Subgroup(5, p.group, p.pub, ""), data...)
			}
			frame = datapathtest.Stream(uint64(4*p.stream+2), sent[p.stream], data, false)
			sent[p.stream] += uint64(len(data))
		}
		before, err := s.Counters()
		check(err)
		s.ServerIngress(b.Frame(uint64(i), frame), 1, at)
		after, err := s.Counters()
		check(err)
		rank, why = fate(&before, &after)
	}
	return rank, why
}

// TestP9Plan is P9 for the plan: when something is admitted, it and what had been drawn by then, since any moment, are at most burst +
// overflow + rate × time. Several CPUs admit, and userspace draws what it must send without asking. So an interval has at most a frame
// more for each other CPU, that is admitted at the same time.
func TestP9Plan(t *testing.T) {
	holds(t, "P9 of the plan", 400, func(t *rapid.T, d *defect) error {
		const maxSize, senders = 1452, 3
		sched := drawSchedule(t)
		policy := datapath.Policy{Rate: rapid.Uint64Range(1000, 1<<30).Draw(t, "rate"), Burst: rapid.Uint64Range(0, 1<<15).Draw(t, "burst"),
			Overflow: rapid.Uint64Range(0, 1<<14).Draw(t, "overflow"),
			Bands:    []datapath.Band{{UpTo: 9, Overflow: true}, {UpTo: datapath.MaxImportance, Reserve: rapid.Uint64Range(0, 1<<14).Draw(t, "reserve")}}}
		s := datapath.NewSpace(nil, nil)
		check(s.SetPolicy(&policy))
		s.Interleave(func() { sched.step(false) })
		now := uint64(1e9)
		type drawnThen struct {
			drawn
			had int // of the log, when it was admitted
		}
		var log []drawnThen
		charge := func(at, size uint64) {
			if !d.budget.split {
				s.ChargePlan(at, size)
				return
			}
			plan, cost := s.Word(datapath.WordPlanTime), uint64(1e9<<10)/policy.Rate
			next := datapath.PaceAfter(atomic.LoadUint64(plan), cost, at, size)
			sched.step(false)
			atomic.StoreUint64(plan, next)
		}
		for i := range senders {
			type send struct {
				gap, size  uint64
				importance uint16
				started    bool
				held       bool // the budget has no room
			}
			sends := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) send {
				return send{rapid.Uint64Range(0, 3*maxSize*1e9/policy.Rate).Draw(t, "gap"), rapid.Uint64Range(20, maxSize).Draw(t, "size"),
					rapid.Uint16Range(0, 19).Draw(t, "importance"), rapid.Bool().Draw(t, "started"), rapid.IntRange(0, 2).Draw(t, "held") == 0}
			}), 0, 12).Draw(t, "frames")
			userspace := i == senders-1
			sched.add(fmt.Sprint("sender ", i), func() {
				for _, f := range sends {
					now += f.gap / senders
					at, had := now, len(log)
					if !userspace {
						if r, _ := s.Admit(at, &datapath.Offer{Importance: f.importance, Size: f.size, Started: f.started}); r != datapath.Forwarded {
							continue
						}
					}
					if !(userspace && d.budget.noCharge) && !(f.held && d.budget.lateDraw) {
						charge(at, f.size)
					}
					log = append(log, drawnThen{drawn{at, f.size, !userspace}, had})
				}
			})
		}
		if err := sched.run(); err != nil {
			return err
		}
		for _, p := range log {
			sum := p.size
			for i := p.had - 1; i >= 0 && p.looked; i-- {
				sum += log[i].size
				took := float64(p.at) - float64(log[i].at)
				// Costs are rounded to a nanosecond per frame and per 1024 bytes.
				allowed := float64(policy.Burst+policy.Overflow) + float64(policy.Rate)*(took+float64(len(log)))/1e9
				if cost := 1e9 * 1024 / float64(policy.Rate); float64(sum) > allowed*cost/(cost-1)+1 {
					return fmt.Errorf("P9: %d bytes are drawn in %v at %d bytes/s with burst %d and overflow %d, the last of them admitted", sum,
						time.Duration(took), policy.Rate, policy.Burst, policy.Overflow)
				}
			}
		}
		return nil
	})
}
