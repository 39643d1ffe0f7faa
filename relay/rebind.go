package relay

import (
	"errors"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// bindAfter is after what time the datapath is asked again for what it has refused, as when a table was full.
const bindAfter = time.Second

// forGood says whether what the datapath has refused need not be asked for again.
func forGood(err error) bool {
	return errors.Is(err, datapath.ErrCipher) || errors.Is(err, datapath.ErrClosed)
}

// awaitEnd waits until the track is to end. The datapath is asked again for a track that it has refused, and takes part from the next
// stream on.
func (t *track) awaitEnd(refused bool) {
	var again <-chan time.Time
	if refused {
		ticker := time.NewTicker(bindAfter)
		defer ticker.Stop()
		again = ticker.C
	}
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.sub.Done():
			return
		case <-again:
		}
		if t.bind() {
			continue
		}
		again = nil
		if t.bound.Load() {
			t.bindSubscribers()
		}
	}
}

// bindSubscribers enters the subscriptions of a track into the datapath that has become known to it while it is published. The streams that have
// begun are the slow path's: the datapath did not know what they were, and must not take a retransmission for the start of one. Those that are
// accepted after the highest here find the track bound, and are settled like any other.
func (t *track) bindSubscribers() {
	if id := t.publisher.highest.Load(); id > 0 { // the first is 2 or 3
		t.publisher.settle(uint64(id), true)
	}
	t.mu.Lock()
	subs := slices.Clone(t.subs)
	t.mu.Unlock()
	for _, s := range subs {
		select {
		case <-s.accepted:
			t.bindSubscriber(s)
		default: // it is bound when it has been accepted
		}
	}
}

// refuse counts a subscription, or a change of one, that the datapath has refused, once however often it does, and asks again in a while.
// What the datapath does not open meanwhile is the slow path's. It needs t.binding.
func (t *track) refuse(s *subscriber, reason string, err error) {
	if !s.refused {
		t.relay.counts.add(reason, 1)
		s.peer.log.Debug("not bound to the datapath", "reason", reason, "error", err)
	}
	s.refused = true
	t.mu.Lock()
	left := s.leaving
	t.mu.Unlock()
	if left || s.asking || forGood(err) {
		return
	}
	s.asking = true
	time.AfterFunc(bindAfter, func() {
		t.binding.Lock()
		s.asking = false
		t.binding.Unlock()
		t.bindSubscriber(s)
	})
}

// unbindLater has a subscription taken out of the datapath that it did not let go of when its subscriber left.
func (t *track) unbindLater(s *subscriber, err error) {
	if forGood(err) {
		return
	}
	time.AfterFunc(bindAfter, func() {
		t.binding.Lock()
		defer t.binding.Unlock()
		t.mu.Lock()
		again := slices.ContainsFunc(t.subs, func(o *subscriber) bool { return o.peer == s.peer && o.bound && !o.leaving })
		t.mu.Unlock()
		if again || t.failed() || s.peer.conn.Context().Err() != nil {
			return // another has its place, or it goes with its track or connection
		}
		if err := t.relay.cfg.Datapath.SetSubscription(t.id, s.client, nil); err != nil {
			t.unbindLater(s, err)
		}
	})
}
