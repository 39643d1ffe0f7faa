package sim

import (
	"maps"

	"github.com/fastrelay/fastrelay/datapath"
)

// halves changes a word of both halves of every client's policy by n while play runs.
func halves(i int, n uint64) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		was := make(map[*uint64]uint64)
		for _, space := range s.spaces {
			for _, half := range []int{0, 16} {
				if space != nil && *space.Word(datapath.WordPolicy)&2 != 0 {
					w := space.Word(datapath.WordPolicies + half + i)
					was[w] = *w
					*w += n
				}
			}
		}
		play()
		for w, v := range was {
			*w = v
		}
	}
}

// bands changes every band's word while play runs.
func bands(f func(word uint64) uint64) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		was := make(map[*uint64]uint64)
		for _, space := range s.spaces {
			for i := 0; space != nil && i < 2*datapath.Bands; i++ {
				w := space.Word(datapath.WordPolicies + 16*(i/datapath.Bands) + 8 + i%datapath.Bands)
				was[w] = *w
				*w = f(*w)
			}
		}
		play()
		for w, v := range was {
			*w = v
		}
	}
}

// cuts calls f for the cut of each subscription that was there before, with what it was, after play.
func cuts(f func(was, is uint64) uint64) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		was := maps.Clone(s.subs)
		play()
		for k, v := range was {
			if sub, ok := s.subs[k]; ok {
				sub.cut = f(v.cut, sub.cut)
				s.subs[k] = sub
			}
		}
	}
}

// droppedStreams calls f for each entry that play has marked as dropped.
func droppedStreams(f func(s *Sim, k sentKey, v sentStream, begun bool)) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		was := maps.Clone(s.sent)
		play()
		for k, v := range maps.Clone(s.sent) {
			if old, begun := was[k]; v.dropped && !old.dropped {
				f(s, k, v, begun)
			}
		}
	}
}

func frames(f func(f *datapath.RecordFrame)) func(*Sim, func()) {
	return records(func(_ *Sim, e *entry) {
		for i := range e.record.Frames {
			f(&e.record.Frames[i])
		}
	})
}

var policyMutations = []mutation{
	{name: "the cost of the plan is off by one", packet: halves(0, 1)},
	{name: "what has begun has a nanosecond more", packet: halves(1, 1)},
	{name: "a band ends one further", packet: bands(func(w uint64) uint64 {
		if w&0xffff == 0xffff {
			return w
		}
		return w + 1
	})},
	{name: "a band has 1024 ns more", packet: bands(func(w uint64) uint64 { return w + 1<<35 })},
	{name: "shares are off by the smallest step", packet: bands(func(w uint64) uint64 { return w + 1<<26 })},
	{name: "shares are never of groups", packet: bands(func(w uint64) uint64 { return w &^ (1 << 33) })},
	{name: "every band cuts", packet: bands(func(w uint64) uint64 { return w | 1<<34 })},
	{name: "the plan is drawn from once more", packet: grown(datapath.WordPlanTime, 1)},
	{name: "what waits is off by one", packet: word(datapath.WordWaiting)},
	{name: "what is held does not draw from the plan", packet: func(s *Sim, play func()) {
		before, was := s.counters, make([]uint64, len(s.spaces))
		for i, space := range s.spaces {
			if space != nil {
				was[i] = space.PlanTime()
			}
		}
		play()
		if s.counters[datapath.ReasonWaiting]+s.counters[datapath.ReasonPaced]+s.counters[datapath.ReasonCongestionWindow] > before[datapath.ReasonWaiting]+before[datapath.ReasonPaced]+before[datapath.ReasonCongestionWindow] {
			for i, space := range s.spaces {
				if space != nil {
					*space.Word(datapath.WordPlanTime) = was[i]
				}
			}
		}
	}},
	{name: "a cut is forgotten", packet: cuts(func(was, _ uint64) uint64 { return was })},
	{name: "the next group is cut", packet: cuts(func(was, is uint64) uint64 {
		if is != was {
			is++
		}
		return is
	})},
	{name: "a changed subscription loses its cut", call: cuts(func(uint64, uint64) uint64 { return 0 })},
	{name: "a stream that is dropped at its start has no entry", packet: droppedStreams(func(s *Sim, k sentKey, _ sentStream, begun bool) {
		if !begun {
			delete(s.sent, k)
		}
	})},
	{name: "a stream that is dropped at its start takes an ID", packet: droppedStreams(func(s *Sim, k sentKey, _ sentStream, begun bool) {
		if !begun && s.spaces[k.client].PoolLen() > 0 {
			*s.spaces[k.client].Word(datapath.WordPoolHead)++
		}
	})},
	{name: "a stream that was begun is dropped for a frame only", packet: droppedStreams(func(s *Sim, k sentKey, v sentStream, begun bool) {
		if v.dropped = !begun; begun {
			s.sent[k] = v
		}
	})},
	{name: "a stream that was begun and is dropped is not closed", packet: droppedStreams(func(s *Sim, k sentKey, v sentStream, begun bool) {
		if begun {
			*s.spaces[k.client].Word(datapath.WordSlots + 2*int(v.slot)) &^= datapath.StreamClosed
		}
	})},
	{name: "what is dropped has no record", packet: records(func(_ *Sim, e *entry) { e.submitted = e.submitted && !e.record.Reason.Dropped() })},
	{name: "the rest of a dropped stream is counted as slow", packet: func(s *Sim, play func()) {
		before := s.counters[datapath.ReasonDropStream]
		play()
		s.counters[datapath.ReasonSlowStream] += s.counters[datapath.ReasonDropStream] - before
		s.counters[datapath.ReasonDropStream] = before
	}},
	{name: "a record names the policy before", packet: records(func(_ *Sim, e *entry) { e.record.Policy-- })},
	{name: "a record has the plan without what was drawn", packet: frames(func(f *datapath.RecordFrame) { f.Plan++ })},
	{name: "a record has no cut", packet: frames(func(f *datapath.RecordFrame) { f.Cut = 0 })},
	{name: "a record has the publisher's priority twice", packet: frames(func(f *datapath.RecordFrame) { f.Subscriber = f.Priority })},
	{name: "a record has the next group", packet: frames(func(f *datapath.RecordFrame) { f.Group++ })},
	{name: "a record always names track 0", packet: frames(func(f *datapath.RecordFrame) { f.Track = 0 })},
}
