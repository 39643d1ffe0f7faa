package props_test

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// subscribe is one subscriber, from joining to the end, or to leaving in the middle.
func (s *system) subscribe(i int, over <-chan struct{}) {
	limit := int64(100)
	if s.fails == failPool {
		limit = 3
	}
	session, err := s.session(moq.Handlers{}, limit)
	if err != nil {
		s.violate("P12", "subscriber %d: %v", i, err)
		return
	}
	defer func() { _ = session.Close(0, "") }()
	options := moq.SubscribeOptions{Filter: moq.FilterNextGroup}
	if i == 1 && s.filter > 0 {
		options = moq.SubscribeOptions{Filter: s.filter, Start: s.from, EndGroup: s.to}
	}
	sub, err := session.Subscribe(s.ctx, []string{"live"}, "video", options)
	if err != nil {
		return // it came too late
	}
	var mu sync.Mutex
	got := make(map[[2]uint64]int)
	left := time.Time{}
	var readers sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			rs, err := session.AcceptDataStream(s.ctx)
			if err != nil {
				return
			}
			at := time.Now()
			readers.Go(func() {
				b, err := io.ReadAll(rs)
				h, herr := wire.ParseSubgroupHeader(b, s.draft)
				if (herr != nil || s.fails == failRecords) && err != nil {
					return // an idle reserved stream, at the end of the connection; or one that was opened unseen
				}
				mu.Lock()
				defer mu.Unlock()
				if !left.IsZero() {
					if at.After(left.Add(400 * time.Millisecond)) {
						s.violate("P10", "subscriber %d, which has left, gets group %d", i, h.Group)
					}
					return
				}
				s.mu.Lock()
				want := s.streams[[2]uint64{h.Group, h.Subgroup}] // all of it: the stream has ended
				s.mu.Unlock()
				head, err2 := wire.ParseSubgroupHeader(want, s.draft)
				if herr != nil || err2 != nil {
					s.violate("P2", "subscriber %d: stream of %d bytes: %v %v", i, len(b), herr, err2)
					return
				}
				want = append(wire.RewriteAlias(nil, want[:head.Len], &head, sub.Alias), want[head.Len:]...)
				if err != nil || !bytes.Equal(b, want) {
					s.violate("P2", "subscriber %d: stream %d/%d has %d bytes of %d, or others: %v", i, h.Group, h.Subgroup, len(b), len(want), err)
				}
				got[[2]uint64{h.Group, h.Subgroup}]++
			})
		}
	}()
	if i == 1 && s.leaves {
		time.Sleep(150 * time.Millisecond)
		mu.Lock()
		left = time.Now()
		mu.Unlock()
		_ = sub.Unsubscribe()
	}
	<-over
	mu.Lock()
	gone := !left.IsZero()
	for k, n := range got {
		if n > 1 && s.fails != failRecords {
			s.violate("P12", "subscriber %d got stream %v %d times", i, k, n)
		}
	}
	if !gone {
		s.complete(i, &options, sub.Largest, got)
	}
	mu.Unlock()
	_ = session.Close(0, "")
	<-accepting
	readers.Wait()
}

// selects says what a subscription of a filter gets, by the largest object when it began: objects are frames.
func (s *system) selects(o *moq.SubscribeOptions, largest *moq.Location, g, f uint64) bool {
	at := moq.Location{Group: g, Object: f}
	switch {
	case o.Filter == moq.FilterNextGroup:
		return largest == nil || g > largest.Group
	case largest != nil && !largest.Less(at):
		return false // it is past: live subscriptions do not reach back
	case o.Filter >= moq.FilterAbsoluteStart:
		return absolute(o, at)
	}
	return true
}

// past says whether an absolute filter selects what was there before the subscription: of that it gets what the relay still
// has in hand, as the stream that the largest object is on.
func (s *system) past(o *moq.SubscribeOptions, largest *moq.Location, g, f uint64) bool {
	at := moq.Location{Group: g, Object: f}
	return o.Filter >= moq.FilterAbsoluteStart && largest != nil && !largest.Less(at) && absolute(o, at)
}

// absolute says whether an absolute filter covers an object.
func absolute(o *moq.SubscribeOptions, at moq.Location) bool {
	return !at.Less(o.Start) && (o.Filter == moq.FilterAbsoluteStart || at.Group <= o.EndGroup)
}

// complete checks that a subscriber got what its filter selects, and nothing else.
func (s *system) complete(i int, o *moq.SubscribeOptions, largest *moq.Location, got map[[2]uint64]int) {
	missing, more := 0, 0
	for g := range uint64(s.groups) {
		for f := range uint64(s.perGroup()) {
			switch n := got[[2]uint64{g, f}]; {
			case n == 0 && s.selects(o, largest, g, f):
				missing++
			case n > 0 && !s.selects(o, largest, g, f) && !s.past(o, largest, g, f):
				more++
			}
		}
	}
	if missing > 0 || more > 0 {
		for _, name := range []string{"P2", "P10", "P12"} {
			s.violate(name, "subscriber %d, filter %d from %v, largest %v: misses %d streams, gets %d too many", i, o.Filter, o.Start, largest, missing, more)
		}
	}
}
