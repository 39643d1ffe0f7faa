package datapathtest

import (
	"fmt"
	"slices"

	"github.com/fastrelay/fastrelay/datapath"
)

// Policy makes a policy, mostly one that is accepted.
func (r Random) Policy() datapath.Policy {
	p := datapath.Policy{Rate: Pick(r, uint64(0), 1000, 50_000, 976_562, 1_000_000, 1<<34), Burst: Pick(r, uint64(0), r.Uint64N(200), r.Uint64N(3000), 1<<40),
		Overflow: Pick(r, uint64(0), r.Uint64N(200), r.Uint64N(3000))}
	n := 1 + r.IntN(datapath.Bands)
	var ends []uint16
	for range n - 1 {
		ends = append(ends, Pick(r, r.importance(), r.importance(), uint16(r.IntN(1<<16))))
	}
	slices.Sort(ends)
	ends = append(slices.Compact(ends), datapath.MaxImportance)
	reserve, drop, byGroup, overflow := uint64(0), 0.0, r.OneIn(2), r.IntN(len(ends)+1)
	for i, end := range ends {
		if r.OneIn(3) {
			reserve += Pick(r, r.Uint64N(20), r.Uint64N(2000))
		}
		if r.OneIn(4) {
			drop += (1 - drop) * Pick(r, 0.1, 0.5, 1, 1)
		}
		p.Bands = append(p.Bands, datapath.Band{UpTo: end, Reserve: reserve, Overflow: i < overflow, Drop: drop, ByGroup: byGroup, Cut: r.OneIn(2)})
	}
	switch b := &p.Bands[r.IntN(len(p.Bands))]; r.IntN(30) {
	case 0:
		b.UpTo = 7
	case 1:
		b.Reserve = r.Uint64N(100)
	case 2:
		b.Drop = 2
	case 3:
		p.Bands = nil
	}
	return p
}

// setPolicy gives a client a policy, and sometimes something to wait behind.
func (g *generator) setPolicy(i int) {
	p := g.Policy()
	g.on(i, fmt.Sprintf("policy %+v", p), func(_ *player, s *datapath.Space) string {
		if err := s.SetPolicy(&p); err != nil {
			return "refused"
		}
		return fmt.Sprint(s.PolicyVersion())
	})
}

func (g *generator) setWaiting(i int, importance uint32) {
	g.on(i, fmt.Sprintf("importance %d waits", importance), func(_ *player, s *datapath.Space) string { s.SetWaiting(importance); return "" })
}

// policyWord makes an operation of userspace's on what a client's policy goes by.
func (g *generator) policyWord(i int) {
	now := g.clock
	switch g.IntN(10) {
	case 0, 1, 2:
		g.setPolicy(i)
	case 3, 8, 9:
		waiting := Pick(g.Random, uint32(g.importance()), uint32(g.importance()), g.Uint32N(1<<16))
		for i := range g.clients {
			g.setWaiting(i, waiting)
		}
		for range 4 {
			g.media()
		}
		for i := range g.clients {
			g.setWaiting(i, datapath.NothingWaits)
		}
	case 4:
		size := g.Uint64N(3000)
		g.on(i, fmt.Sprintf("%d bytes of the plan at %d ns", size, now), func(_ *player, s *datapath.Space) string {
			s.ChargePlan(now, size)
			return fmt.Sprint(s.PlanTime())
		})
	case 5: // at the edge of what has begun
		less := g.Uint64N(2)
		g.setPolicy(i)
		g.on(i, fmt.Sprintf("the plan holds what has begun and 10 bytes, less %d ns", less), func(_ *player, s *datapath.Space) string {
			at := datapath.WordPolicies + 16*int(*s.Word(datapath.WordPolicy)&1)
			*s.Word(datapath.WordPlanTime) = now + *s.Word(at + 1) - 10**s.Word(at)>>10 + less
			return ""
		})
		for range 3 {
			g.media()
		}
	case 6:
		g.on(i, "the plan is full", func(_ *player, s *datapath.Space) string { *s.Word(datapath.WordPlanTime) = 0; return "" })
	case 7: // the words need not be a policy's
		at, v := datapath.WordPlanTime+g.IntN(datapath.WordSlots-datapath.WordPlanTime), Pick(g.Random, g.Number(), g.Uint64(), ^uint64(0))
		g.on(i, fmt.Sprintf("word %d is %#x", at, v), func(_ *player, s *datapath.Space) string { *s.Word(at) = v; return "" })
		for range 2 {
			g.media()
		}
		g.on(i, "no policy, nothing waits, the plan is full", func(_ *player, s *datapath.Space) string {
			s.SetWaiting(datapath.NothingWaits)
			*s.Word(datapath.WordPlanTime) = 0
			return outcome(s.SetPolicy(&datapath.Policy{}))
		})
	}
}
