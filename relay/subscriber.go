package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Error codes of streams that are reset (draft-16, section "Closing Subgroup Streams"; draft 14 has the first four).
const (
	codeInternal        = 0x0
	codeCancelled       = 0x1
	codeDeliveryTimeout = 0x2
)

var (
	errLeft     = errors.New("subscriber has left")
	errUnwanted = errors.New("subscriber does not want it any more")
)

// subscriber is one peer's subscription to a track.
type subscriber struct {
	track  *track
	peer   *peer
	req    *moq.Request
	ctx    context.Context // ends when the peer has left
	cancel context.CancelCauseFunc

	accepted chan struct{} // closed when SUBSCRIBE_OK was sent; then alias is set
	alias    uint64

	senders sync.WaitGroup  // of slow streams
	sending context.Context // of slow streams; ends with ctx or a pause; guarded by track.mu
	halt    context.CancelCauseFunc
	backlog atomic.Int64 // bytes that wait in them
	waiting atomic.Int32 // their number

	priority atomic.Uint32 // changed with track.mu

	// Guarded by track.mu.
	start   moq.Location
	hasEnd  bool
	last    uint64        // group, with hasEnd
	timeout time.Duration // of delivery; 0: none
	paused  bool
	leaving bool
	bound   bool // the datapath was asked to serve it
	client  datapath.ClientID

	told uint8 // priority that the datapath was told; guarded by track.binding

	refused, asking bool // by the datapath, and it is asked again soon; guarded by track.binding

	ledger ledger
	cut    atomic.Uint64 // 1 + the newest group of which the policy wants no more sent

	opened, fast, slow, bytes, datagrams, forwarded, lost atomic.Uint64 // see SubscriberStats
}

// serve accepts a subscription and serves it until it ends.
func (t *track) serve(p *peer, req *moq.Request) {
	s := &subscriber{track: t, peer: p, req: req, accepted: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(p.conn.Context())
	defer s.cancel(nil)
	s.sending, s.halt = context.WithCancelCause(s.ctx)
	largest := t.join(s)
	req.TrackExtensions, req.DeliveryTimeout = t.extensionsFor(p.draft), t.sub.DeliveryTimeout
	var err error
	if s.alias, err = req.Accept(largest); err != nil {
		s.leave()
		return
	}
	close(s.accepted)
	t.bindSubscriber(s)
	p.log.Info("subscribed", "track", t.name, "alias", s.alias)

	code, reason := uint64(moq.DoneSubscriptionEnded), "unsubscribed"
	select {
	case <-req.Unsubscribed():
		s.leave()
	case <-t.over:
		code, reason = t.code, t.reason
		done := make(chan struct{})
		go func() { s.senders.Wait(); close(done) }()
		select {
		case <-done:
		case <-req.Unsubscribed():
		}
		s.leave()
	}
	s.senders.Wait()
	_ = req.Done(code, s.opened.Load(), reason) // fails only with the session
	p.log.Info("subscription ended", "track", t.name, "reason", reason)
}

// extensionsFor returns the track's extension headers for a peer. Draft 14 has none; what it has in their place is made one.
func (t *track) extensionsFor(d wire.Draft) []byte {
	switch {
	case d == wire.Draft14:
		return nil
	case t.publisher.draft == wire.Draft14 && t.sub.DeliveryTimeout > 0:
		timeout := wire.ExtensionHeader{Type: wire.ExtDeliveryTimeout, Value: uint64(t.sub.DeliveryTimeout.Milliseconds())}
		return wire.AppendExtensions(nil, []wire.ExtensionHeader{timeout}, d)
	}
	return t.sub.TrackExtensions
}

// join enters s into the track's subscribers and returns the largest object. Objects that begin afterwards are larger, or
// belong to those that s has not asked for.
func (t *track) join(s *subscriber) *moq.Location {
	t.mu.Lock()
	defer t.mu.Unlock()
	var largest *moq.Location
	if t.content {
		l := t.largest
		largest = &l
	}
	s.filter(s.req.Options(), largest)
	t.subs = append(t.subs, s)
	for st := range t.streams {
		t.attach(s, st, false)
	}
	return largest
}

// filter sets what s wants (draft-14, section "Filter Types").
func (s *subscriber) filter(o moq.SubscribeOptions, largest *moq.Location) {
	s.paused = o.Paused
	s.priority.Store(uint32(o.Priority))
	s.setTimeout(o.DeliveryTimeout)
	switch o.Filter {
	case moq.FilterAbsoluteStart, moq.FilterAbsoluteRange:
		s.start = o.Start
		s.hasEnd, s.last = o.Filter == moq.FilterAbsoluteRange, o.EndGroup
	case moq.FilterNextGroup:
		if largest != nil {
			s.start = moq.Location{Group: largest.Group + 1}
		}
	default:
		if largest != nil {
			s.start = moq.Location{Group: largest.Group, Object: largest.Object + 1}
		}
	}
}

// setTimeout sets the delivery timeout: the smaller of the subscriber's and the publisher's counts. It needs track.mu.
func (s *subscriber) setTimeout(d time.Duration) {
	if p := s.track.sub.DeliveryTimeout; d == 0 || p > 0 && p < d {
		d = p
	}
	s.timeout = d
}

// wants reports whether s wants objects of a group, wantsAll whether it wants all of them. Both need track.mu.
func (s *subscriber) wants(group uint64) bool {
	return !s.paused && group >= s.start.Group && (!s.hasEnd || group <= s.last)
}

func (s *subscriber) wantsAll(group uint64) bool {
	return s.wants(group) && (group > s.start.Group || s.start.Object == 0)
}

// update applies a SUBSCRIBE_UPDATE. A pause and what is left of a narrowed subscription end streams in progress at once. A
// subscription that is resumed goes on like one that joins at the largest object: with objects that begin from now on, those
// of streams in progress by the slow path.
func (r *Relay) update(p *peer, req *moq.Request) {
	r.mu.Lock()
	t := r.tracks[trackKey(req.Namespace, req.Track)]
	r.mu.Unlock()
	if t == nil {
		return
	}
	t.mu.Lock()
	i := slices.IndexFunc(t.subs, func(s *subscriber) bool { return s.req == req })
	if i < 0 {
		t.mu.Unlock()
		return
	}
	s := t.subs[i]
	o := req.Options()
	paused, resumed := o.Paused && !s.paused, !o.Paused && s.paused
	s.paused = o.Paused
	s.priority.Store(uint32(o.Priority))
	s.setTimeout(o.DeliveryTimeout)
	if o.Filter >= moq.FilterAbsoluteStart && s.start.Less(o.Start) {
		s.start = o.Start
	}
	if o.Filter == moq.FilterAbsoluteRange && (!s.hasEnd || o.EndGroup < s.last) {
		s.hasEnd, s.last = true, o.EndGroup
	}
	if next := (moq.Location{Group: t.largest.Group, Object: t.largest.Object + 1}); resumed && t.content && s.start.Less(next) {
		s.start = next
	}
	if paused {
		s.halt(errUnwanted)
		s.sending, s.halt = context.WithCancelCause(s.ctx)
	}
	var unwanted []fastSender
	for st := range t.streams {
		switch {
		case resumed:
			t.attach(s, st, false)
		case !s.wants(st.header.Group):
			unwanted = append(unwanted, st.drop(s)...) // under the lock: the next update may attach it again
		}
	}
	t.mu.Unlock()
	cancelFast(unwanted)
	select {
	case <-s.accepted:
		t.bindSubscriber(s)
	default: // it is bound later, with what was set here
	}
}

// leave ends what is sent to s, first in the datapath.
func (s *subscriber) leave() {
	t := s.track
	t.unbindSubscriber(s)
	s.cancel(errLeft)
	s.ledger.merge(&s.peer.ledger)
	t.mu.Lock()
	streams := make([]*stream, 0, len(t.streams))
	for st := range t.streams {
		streams = append(streams, st)
	}
	t.mu.Unlock()
	for _, st := range streams {
		cancelFast(st.drop(s))
	}
	s.remove()
}

// remove takes s out of the track's subscribers, and binds another subscription of its peer that waited for that.
func (s *subscriber) remove() {
	t := s.track
	t.mu.Lock()
	t.subs = slices.DeleteFunc(t.subs, func(o *subscriber) bool { return o == s })
	var next *subscriber
	for _, o := range t.subs {
		if o.peer == s.peer && !o.leaving {
			next = o
		}
	}
	was := s.bound
	t.mu.Unlock()
	if next != nil && was {
		select {
		case <-next.accepted:
			t.bindSubscriber(next)
		default:
		}
	}
}
