package moq

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Request is a subscription that the peer asks for. It is answered with Accept or Reject, and one that was accepted is
// ended with Done, also after the peer has unsubscribed: until then the session remembers it.
type Request struct {
	ID        uint64
	Namespace []string
	Track     string
	// TrackExtensions are extension headers of the track, in the encoding of draft 16, that Accept sends to peers of
	// that draft (draft-16, section "SUBSCRIBE_OK"). Set it before Accept.
	TrackExtensions []byte

	s            *Session
	unsubscribed chan struct{}
	once         sync.Once

	mu      sync.Mutex
	opts    SubscribeOptions
	state   requestState
	held    []message // what the library gets once the request is answered; the SUBSCRIBE first
	answer  func(*moqtransport.SubscribeResponseWriter) error
	rw      *moqtransport.SubscribeResponseWriter
	alias   uint64 // set while the library writes SUBSCRIBE_OK
	streams uint64 // for PUBLISH_DONE
	result  chan error
}

type requestState uint8

const (
	requestOpen requestState = iota
	requestAnswered
	requestDone
)

type message struct {
	msgType uint64
	payload []byte
}

// Options returns what the subscription asks for now; SUBSCRIBE_UPDATE may have changed it.
func (r *Request) Options() SubscribeOptions {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opts
}

// Unsubscribed is closed when the peer unsubscribes or the session ends.
func (r *Request) Unsubscribed() <-chan struct{} { return r.unsubscribed }

func (r *Request) end() { r.once.Do(func() { close(r.unsubscribed) }) }

// Accept sends SUBSCRIBE_OK with the largest location of the track, nil if it has none yet, and returns the track alias
// under which the peer expects it. It returns when the message has been handed to QUIC.
func (r *Request) Accept(largest *Location) (alias uint64, err error) {
	err = r.settle(func(rw *moqtransport.SubscribeResponseWriter) error {
		r.rw = rw
		if largest == nil {
			return rw.Accept()
		}
		return rw.Accept(moqtransport.WithLargestLocation(&moqtransport.Location{Group: largest.Group, Object: largest.Object}))
	})
	return r.alias, err
}

// Reject sends SUBSCRIBE_ERROR with one of the Subscribe codes.
func (r *Request) Reject(code uint64, reason string) error {
	err := r.settle(func(rw *moqtransport.SubscribeResponseWriter) error {
		return rw.Reject(moqtransport.ErrorCodeSubscribe(codeToDraft(code, r.s.draft)), clip(reason))
	})
	if !errors.Is(err, ErrAnswered) {
		r.s.forget(r)
	}
	return err
}

// Done ends the subscription: it sends PUBLISH_DONE with a Done code and the number of data streams that were opened for
// it, or wire.UnknownStreamCount.
func (r *Request) Done(code, streams uint64, reason string) error {
	r.mu.Lock()
	if r.state != requestAnswered || r.rw == nil {
		r.mu.Unlock()
		return ErrAnswered
	}
	r.state = requestDone
	r.streams = streams
	r.mu.Unlock()
	defer r.s.forget(r)
	if r.s.conn.Context().Err() != nil {
		return r.s.closedError()
	}
	return r.rw.CloseWithError(code, clip(reason))
}

// settle gives the library the SUBSCRIBE that was held back, together with the answer to it, and waits for the latter.
func (r *Request) settle(answer func(*moqtransport.SubscribeResponseWriter) error) error {
	r.mu.Lock()
	if r.state != requestOpen {
		r.mu.Unlock()
		return ErrAnswered
	}
	r.state = requestAnswered
	r.answer = answer
	for _, m := range r.held {
		r.s.ctl.deliver(m.msgType, m.payload)
	}
	r.held = nil
	r.mu.Unlock()
	select {
	case err := <-r.result:
		return err
	case <-r.s.conn.Context().Done():
		return r.s.closedError()
	}
}

func (s *Session) request(id uint64) *Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[id]
}

func (s *Session) forget(r *Request) {
	r.end()
	s.mu.Lock()
	delete(s.requests, r.ID)
	s.mu.Unlock()
}

// onSubscribe holds a SUBSCRIBE back and asks the handler.
func (s *Session) onSubscribe(payload []byte) error {
	m, err := wire.ParseSubscribe(payload, s.draft)
	if err != nil {
		return err
	}
	if len(m.Namespace) == 0 {
		return fmt.Errorf("SUBSCRIBE without a namespace: %w", wire.ErrMalformed)
	}
	if err := s.onRequestID(m.RequestID); err != nil {
		return err
	}
	r := &Request{
		ID: m.RequestID, Namespace: m.Namespace, Track: string(m.Track), s: s,
		opts: SubscribeOptions{
			Priority: m.SubscriberPriority, PrioritySet: true, Paused: !m.Forward, Filter: Filter(m.FilterType),
			Start: Location{m.StartGroup, m.StartObject}, EndGroup: m.EndGroup,
		},
		held:         []message{{wire.MsgSubscribe, slices.Clone(payload)}},
		unsubscribed: make(chan struct{}),
		result:       make(chan error, 1),
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	if len(s.requests) >= maxRequests {
		s.mu.Unlock()
		return &sessionError{CodeTooManyRequests, fmt.Sprintf("more than %d subscriptions", maxRequests)}
	}
	s.requests[r.ID] = r
	s.mu.Unlock()
	go func() {
		if s.handlers.Subscribe == nil {
			_ = r.Reject(SubscribeNotSupported, "nothing is published here")
			return
		}
		s.handlers.Subscribe(r)
		_ = r.Reject(SubscribeInternal, "not answered") // does nothing if it was
	}()
	return nil
}

// answer is called by the library for a SUBSCRIBE that settle has given to it.
func (s *Session) answer(rw *moqtransport.SubscribeResponseWriter, m *moqtransport.SubscribeMessage) {
	r := s.request(m.RequestID)
	if r == nil {
		return // the session has ended meanwhile
	}
	r.result <- r.answer(rw)
}

// onAbout handles UNSUBSCRIBE and SUBSCRIBE_UPDATE.
func (s *Session) onAbout(msgType uint64, payload []byte) error {
	id, n := wire.ReadVarint(payload)
	if msgType == wire.MsgSubscribeUpdate {
		if err := s.onRequestID(id); err != nil {
			return err
		}
		id, _ = wire.ReadVarint(payload[n:])
	}
	s.mu.Lock()
	r, known := s.requests[id], id < s.highest
	s.mu.Unlock()
	if r == nil {
		if !known {
			return &sessionError{CodeInvalidRequestID, fmt.Sprintf("no request has the ID %d", id)}
		}
		return nil // it crossed the end of the subscription; the library would end the session
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state == requestOpen && len(r.held) >= maxHeldMessages:
		return &sessionError{CodeTooManyRequests, "too many updates of a subscription"}
	case r.state == requestOpen:
		r.held = append(r.held, message{msgType, slices.Clone(payload)})
	case msgType == wire.MsgSubscribeUpdate && r.state == requestAnswered:
		s.ctl.deliver(msgType, payload)
	}
	// The library need not know of UNSUBSCRIBE; Done is the end for it.
	if msgType == wire.MsgUnsubscribe {
		r.held = slices.DeleteFunc(r.held, func(m message) bool { return m.msgType == msgType })
		r.end()
	}
	return nil
}

// update is called by the library for a SUBSCRIBE_UPDATE. A subscription may only be narrowed (draft-14, section
// "SUBSCRIBE_UPDATE"); what would widen it is ignored.
func (s *Session) update(m *moqtransport.SubscribeUpdateMessage) {
	r := s.request(m.SubscriptionRequestID)
	if r == nil {
		return
	}
	last := m.EndGroup
	if s.draft == wire.Draft14 && last > 0 {
		last-- // it is the last group plus one there
	}
	r.mu.Lock()
	o := &r.opts
	o.Priority = m.SubscriberPriority
	o.Paused = m.Forward == 0
	if start := (Location{m.StartLocation.Group, m.StartLocation.Object}); start != (Location{}) && o.Start.Less(start) {
		o.Start = start
		if o.Filter != FilterAbsoluteRange {
			o.Filter = FilterAbsoluteStart
		}
	}
	if m.EndGroup > 0 && (o.Filter != FilterAbsoluteRange || last < o.EndGroup) {
		o.Filter, o.EndGroup = FilterAbsoluteRange, last
	}
	r.mu.Unlock()
	if s.handlers.Update != nil {
		go s.handlers.Update(r)
	}
}

// codeToDraft translates a Subscribe code to the numbers of the draft (draft-16, section "REQUEST_ERROR").
func codeToDraft(code uint64, d wire.Draft) uint64 {
	if d == wire.Draft16 {
		switch code {
		case SubscribeTrackDoesNotExist:
			return 0x10
		case SubscribeInvalidRange:
			return 0x11
		}
	}
	return code
}

// codeFromDraft is the inverse of codeToDraft. moqtransport sends the codes of draft 14 in draft 16 too, where 4 and 5 are about
// tokens that nobody here sends.
func codeFromDraft(code uint64, d wire.Draft) uint64 {
	if d == wire.Draft16 {
		switch code {
		case 0x10:
			return SubscribeTrackDoesNotExist
		case 0x11:
			return SubscribeInvalidRange
		}
	}
	return code
}
