package moq

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// SubscribeOptions are what a subscription asks for. The zero value means priority 128, forwarded, from the object after the largest.
type SubscribeOptions struct {
	Priority    uint8    // of the subscriber, 0–255, lower is more important
	PrioritySet bool     // otherwise Priority is taken for 128
	Paused      bool     // nothing is to be forwarded for now
	Filter      Filter   // default FilterLargestObject
	Start       Location // with FilterAbsoluteStart and FilterAbsoluteRange
	EndGroup    uint64   // with FilterAbsoluteRange: the last group
	// DeliveryTimeout is how long an object is of use after it was received, in whole milliseconds; 0: for ever (draft-14 and
	// draft-16, section "DELIVERY TIMEOUT Parameter").
	DeliveryTimeout time.Duration
}

// milliseconds returns a duration of the wire. One that is beyond a time.Duration is as good as none.
func milliseconds(ms uint64) time.Duration {
	if ms > uint64(math.MaxInt64/time.Millisecond) {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

func timeoutParameter(d time.Duration) moqtransport.KVPList {
	return moqtransport.KVPList{{Type: wire.ParamDeliveryTimeout, ValueVarInt: uint64(max(d.Milliseconds(), 1))}}
}

// SubscribeError is a refused subscription.
type SubscribeError struct {
	Code   uint64 // one of the Subscribe codes
	Reason string // of the peer
}

func (e *SubscribeError) Error() string {
	return fmt.Sprintf("subscription refused with code %d: %q", e.Code, e.Reason)
}

// Subscription is an accepted subscription to a track of the peer. Its streams and datagrams come from AcceptDataStream
// and ReceiveDatagram, perhaps before Subscribe has returned, and are told apart by Alias.
type Subscription struct {
	ID              uint64    // request ID
	Alias           uint64    // track alias in streams and datagrams
	Largest         *Location // largest object when the subscription began; nil if there was none
	DefaultPriority uint8     // of streams and datagrams that carry none
	TrackExtensions []byte    // of the track, in the encoding of draft 16 (draft-16, section "SUBSCRIBE_OK")
	// DeliveryTimeout is the publisher's: a parameter in draft 14, a track extension in draft 16; 0: none.
	DeliveryTimeout time.Duration
	// MaxCacheDuration is how long the publisher lets objects be served from a cache, carried in the same way; 0: no limit.
	MaxCacheDuration time.Duration

	s        *Session
	sent     chan struct{}
	answered chan struct{}
	done     chan struct{}

	mu        sync.Mutex
	settled   bool  // answered is closed
	ended     bool  // done is closed
	abandoned bool  // nobody waits for the answer
	err       error // of the answer
	code      uint64
	streams   uint64
	reason    string
}

// Subscribe subscribes to a track and waits for the answer. A refusal is a *SubscribeError. If ctx ends first the subscription is undone.
func (s *Session) Subscribe(ctx context.Context, namespace []string, track string, o SubscribeOptions) (*Subscription, error) {
	if !o.PrioritySet {
		o.Priority = wire.DefaultPriority
	}
	if o.Filter == 0 {
		o.Filter = FilterLargestObject
	}
	sub := &Subscription{s: s, sent: make(chan struct{}), answered: make(chan struct{}), done: make(chan struct{})}
	failed := make(chan error, 1)
	options := []moqtransport.SubscribeOption{
		moqtransport.WithSubscriberPriority(o.Priority),
		moqtransport.WithForward(!o.Paused),
		moqtransport.WithFilterType(moqtransport.FilterType(o.Filter)),
		moqtransport.WithStartLocation(moqtransport.Location{Group: o.Start.Group, Object: o.Start.Object}),
		moqtransport.WithEndGroup(o.EndGroup),
	}
	if o.DeliveryTimeout > 0 {
		options = append(options, moqtransport.WithSubscribeParameters(timeoutParameter(o.DeliveryTimeout)))
	}

	s.sending.Lock()
	s.mu.Lock()
	s.starting = sub
	s.mu.Unlock()
	go func() {
		// The library's own wait ends with onSubscribeOK, which lets it forget the request; see there.
		_, err := s.lib.Subscribe(s.conn.Context(), namespace, track, options...)
		failed <- err
	}()
	var err error
	select {
	case <-sub.sent:
	case err = <-failed:
	}
	s.mu.Lock()
	s.starting = nil
	s.mu.Unlock()
	s.sending.Unlock()
	if err != nil && !sub.wasSent() {
		return nil, fmt.Errorf("subscribe: %w", err)
	}

	select {
	case <-sub.answered:
	case <-s.conn.Context().Done():
		sub.fail(s.closedError())
	case <-ctx.Done():
		sub.mu.Lock()
		settled := sub.settled
		sub.abandoned = true
		sub.mu.Unlock()
		if settled && sub.err == nil {
			_ = sub.Unsubscribe()
		}
		return nil, context.Cause(ctx)
	}
	if sub.err != nil {
		return nil, sub.err
	}
	return sub, nil
}

func (sub *Subscription) wasSent() bool {
	select {
	case <-sub.sent:
		return true
	default:
		return false
	}
}

// onSent is called when the library is about to write a SUBSCRIBE.
func (s *Session) onSent(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.starting
	if sub == nil || s.closed {
		return
	}
	s.starting = nil
	sub.ID = id
	s.subs[id] = sub
	close(sub.sent)
}

func (s *Session) subscription(id uint64) *Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subs[id]
}

// onSubscribeOK takes the answer from the library, which would keep the track for the life of the session, and
// would not allow that its alias is used for a later subscription. It is told instead that the subscription was refused.
func (s *Session) onSubscribeOK(payload []byte) error {
	m, err := wire.ParseSubscribeOK(payload, s.draft)
	if err != nil {
		return err
	}
	if s.draft == wire.Draft16 && m.GroupOrder != 0 {
		s.mu.Lock()
		s.likeLibrary = true
		s.mu.Unlock()
	}
	sub := s.subscription(m.RequestID)
	if sub == nil {
		return &sessionError{CodeInvalidRequestID, fmt.Sprintf("SUBSCRIBE_OK for request %d, which is not pending", m.RequestID)}
	}
	sub.mu.Lock()
	if sub.settled {
		sub.mu.Unlock()
		return &sessionError{CodeProtocolViolation, "second answer to a subscription"}
	}
	timeout, err := m.DeliveryTimeout(s.draft)
	if err != nil {
		sub.mu.Unlock()
		return err
	}
	sub.DeliveryTimeout = milliseconds(timeout)
	if ms, ok := m.MaxCacheDuration(s.draft); ok {
		sub.MaxCacheDuration = max(milliseconds(ms), 1)
	}
	sub.Alias = m.TrackAlias
	sub.DefaultPriority = m.DefaultPriority
	sub.TrackExtensions = slices.Clone(m.TrackExtensions)
	if m.ContentExists {
		sub.Largest = &Location{m.LargestGroup, m.LargestObject}
	}
	sub.settled = true
	close(sub.answered)
	abandoned := sub.abandoned
	sub.mu.Unlock()
	s.ctl.deliver(wire.MsgRequestError, s.requestError(m.RequestID, SubscribeInternal, ""))
	if abandoned {
		go func() { _ = sub.Unsubscribe() }()
	}
	return nil
}

// onRequestError notes a refusal. The library gets the message too.
func (s *Session) onRequestError(payload []byte) {
	id, n := wire.ReadVarint(payload)
	code, k := wire.ReadVarint(payload[n:])
	n += k
	if s.draft != wire.Draft14 {
		_, k = wire.ReadVarint(payload[n:])
		n += k
	}
	_, k = wire.ReadVarint(payload[n:])
	if sub := s.subscription(id); sub != nil {
		sub.fail(&SubscribeError{Code: codeFromDraft(code, s.draft), Reason: string(payload[n+k:])})
	}
}

// onPublishDone ends a subscription of ours, of which the library knows nothing.
func (s *Session) onPublishDone(payload []byte) error {
	m, err := wire.ParsePublishDone(payload, s.draft)
	if err != nil {
		return err
	}
	if sub := s.subscription(m.RequestID); sub != nil {
		sub.finish(m.StatusCode, m.StreamCount, m.Reason)
	}
	return nil // otherwise it crossed our UNSUBSCRIBE
}

// fail ends a subscription that was not answered, or whose session ended.
func (sub *Subscription) fail(err error) {
	sub.mu.Lock()
	if !sub.settled {
		sub.settled, sub.err = true, err
		close(sub.answered)
	}
	sub.mu.Unlock()
	sub.finish(DoneInternal, wire.UnknownStreamCount, err.Error())
}

func (sub *Subscription) finish(code, streams uint64, reason string) {
	sub.mu.Lock()
	if !sub.ended {
		sub.ended, sub.code, sub.streams, sub.reason = true, code, streams, reason
		close(sub.done)
	}
	sub.mu.Unlock()
	sub.s.mu.Lock()
	delete(sub.s.subs, sub.ID)
	sub.s.mu.Unlock()
}

// Done is closed when the publisher has ended the subscription, or the session has. Streams may still be coming.
func (sub *Subscription) Done() <-chan struct{} { return sub.done }

// Result returns how the subscription ended: a Done code, the number of streams that the publisher opened for it or
// wire.UnknownStreamCount, and the publisher's words. It is valid once Done is closed.
func (sub *Subscription) Result() (code, streams uint64, reason string) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.code, sub.streams, sub.reason
}

// Unsubscribe ends the subscription and closes Done. A subscription that has ended already is left alone.
func (sub *Subscription) Unsubscribe() error {
	sub.mu.Lock()
	ended := sub.ended
	sub.mu.Unlock()
	if ended {
		return nil
	}
	sub.finish(DoneSubscriptionEnded, wire.UnknownStreamCount, "unsubscribed")
	return sub.s.ctl.send(wire.MsgUnsubscribe, wire.AppendVarint(nil, sub.ID))
}
