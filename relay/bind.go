package relay

import (
	"fmt"

	"github.com/fastrelay/fastrelay/datapath"
)

// bindUpstream makes the peer known to the datapath as a publisher, if it is not yet.
func (p *peer) bindUpstream() error {
	p.upstreamMu.Lock()
	defer p.upstreamMu.Unlock()
	if p.known.Load() {
		return nil
	}
	up, err := p.fast.Upstream()
	if err != nil {
		if !p.refused {
			p.relay.counts.add("upstream_not_bound", 1)
			p.log.Warn("publisher not bound to the datapath", "error", err)
		}
		p.refused = true
		return err
	}
	p.upstream = up
	p.known.Store(true)
	return nil
}

// bind makes the track known to the datapath. What cannot be bound goes the slow path; it returns true if the datapath is to be asked again.
func (t *track) bind() (again bool) {
	if !t.publisher.named {
		return false
	}
	if err := t.publisher.bindUpstream(); err != nil {
		return !forGood(err)
	}
	err := t.enter()
	if err == nil {
		return false
	}
	if !t.refused {
		t.relay.counts.add("track_not_bound", 1)
		t.log.Warn("track not bound to the datapath", "error", err)
	}
	t.refused = true
	return !forGood(err)
}

// enter gives the track an ID, and the datapath the track.
func (t *track) enter() error {
	r, up := t.relay, t.publisher.upstream
	r.mu.Lock()
	id, ok := r.trackIDs.take()
	r.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: it has %d tracks", datapath.ErrFull, r.trackIDs.limit)
	}
	err := r.cfg.Datapath.SetTrack(datapath.TrackID(id), &datapath.Track{
		Upstream: up, Alias: t.sub.Alias, Draft: uint8(t.publisher.draft), DefaultPriority: t.sub.DefaultPriority,
	})
	if err != nil {
		r.mu.Lock()
		r.trackIDs.give(id)
		r.mu.Unlock()
		return err
	}
	t.id, t.upstream = datapath.TrackID(id), up
	t.bound.Store(true)
	return nil
}

// unbind takes the track out of the datapath, with its subscriptions.
func (t *track) unbind() {
	if !t.bound.Load() {
		return
	}
	t.binding.Lock()
	err := t.relay.cfg.Datapath.SetTrack(t.id, nil)
	t.binding.Unlock()
	t.endUnclaimed() // while the ID is this track's
	if err != nil {
		// The ID is lost; a track under it would mix with this one.
		t.relay.counts.add("track_not_unbound", 1)
		t.log.Warn("track not taken out of the datapath", "error", err)
		return
	}
	t.relay.mu.Lock()
	t.relay.trackIDs.give(uint32(t.id))
	t.relay.mu.Unlock()
}

// bindSubscriber enters a subscription into the datapath, or changes it. s is in t.subs already, so that every stream
// which the datapath opens for it finds it there.
func (t *track) bindSubscriber(s *subscriber) {
	if !t.bound.Load() || s.peer.fast == nil || s.peer.draft != t.publisher.draft {
		return
	}
	t.binding.Lock()
	defer t.binding.Unlock()
	if t.failed() {
		return
	}
	t.mu.Lock()
	sub, ok := s.datapathSubscription()
	for _, other := range t.subs {
		// The datapath knows one subscription per client and track. When the other one has left, this one follows.
		ok = ok && (other == s || other.peer != s.peer || !other.bound)
	}
	was := s.bound
	t.mu.Unlock()
	if !ok && !was {
		return
	}
	client, err := s.peer.fast.Client()
	if err != nil {
		t.refuse(s, "client_not_bound", err)
		return
	}
	t.mu.Lock()
	if s.leaving {
		t.mu.Unlock()
		return
	}
	s.bound, s.client = true, client
	t.mu.Unlock()
	s.peer.regulate()
	set := &sub
	if !ok { // paused meanwhile
		set = nil
	}
	if err := t.relay.cfg.Datapath.SetSubscription(t.id, client, set); err != nil {
		t.refuse(s, "subscription_not_bound", err)
		return
	}
	s.refused = false
	if set == nil {
		return
	}
	if was && s.told != sub.Priority {
		s.peer.fast.Reprioritize(t.upstream, t.id, sub.Priority)
	}
	s.told = sub.Priority
}

// datapathSubscription returns the subscription as the datapath needs it; ok is false if it cannot serve it. The alias must be known.
func (s *subscriber) datapathSubscription() (sub datapath.Subscription, ok bool) {
	first := s.start.Group
	if s.start.Object > 0 {
		first++ // the datapath knows whole groups only
	}
	sub = datapath.Subscription{Alias: s.alias, FirstGroup: first, Priority: uint8(s.priority.Load())}
	if s.hasEnd {
		if sub.LastGroup = s.last; s.last == 0 {
			return sub, false // it would mean that there is no end
		}
	}
	return sub, !s.leaving && !s.paused
}

// unbindSubscriber takes a subscriber that leaves out of the datapath, before its streams are ended.
func (t *track) unbindSubscriber(s *subscriber) {
	t.binding.Lock()
	defer t.binding.Unlock()
	t.mu.Lock()
	s.leaving = true
	bound := s.bound
	t.mu.Unlock()
	if !bound || t.failed() {
		return
	}
	if err := t.relay.cfg.Datapath.SetSubscription(t.id, s.client, nil); err != nil {
		t.relay.counts.add("subscription_not_unbound", 1)
		t.log.Debug("subscription not taken out of the datapath", "error", err)
		t.unbindLater(s, err)
	}
	s.endUnclaimed(codeCancelled)
}
