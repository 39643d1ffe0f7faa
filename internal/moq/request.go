package moq

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
	// DeliveryTimeout is the publisher's, which Accept sends to peers of draft 14; in draft 16 it is a track extension. Set it
	// before Accept; 0: none.
	DeliveryTimeout time.Duration

	s            *Session
	filter       Filter        // of the SUBSCRIBE
	settled      chan struct{} // closed when it is answered; then largest is set
	largest      *Location     // as in SUBSCRIBE_OK
	unsubscribed chan struct{}
	once         sync.Once

	mu      sync.Mutex
	opts    SubscribeOptions
	state   requestState
	held    []byte // the SUBSCRIBE, which the library gets once it is answered
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
		r.rw, r.largest = rw, largest
		var options []moqtransport.SubscribeOKOption
		if largest != nil {
			options = append(options, moqtransport.WithLargestLocation(&moqtransport.Location{Group: largest.Group, Object: largest.Object}))
		}
		if r.DeliveryTimeout > 0 && r.s.draft == wire.Draft14 {
			options = append(options, moqtransport.WithParameters(timeoutParameter(r.DeliveryTimeout)))
		}
		return rw.Accept(options...)
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
	r.s.ctl.deliver(wire.MsgSubscribe, r.held)
	r.held = nil
	r.mu.Unlock()
	defer close(r.settled)
	select {
	case err := <-r.result:
		return err
	case <-r.s.conn.Context().Done():
		return r.s.closedError()
	}
}

// accepted reports whether a request that was answered was accepted, and is not over.
func (r *Request) accepted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rw != nil && r.state == requestAnswered
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
	timeout, err := wire.DeliveryTimeout(m.Params)
	if err != nil {
		return err
	}
	if err := s.onRequestID(m.RequestID); err != nil {
		return err
	}
	r := &Request{
		ID: m.RequestID, Namespace: m.Namespace, Track: string(m.Track), s: s,
		opts: SubscribeOptions{
			Priority: m.SubscriberPriority, PrioritySet: true, Paused: !m.Forward, Filter: Filter(m.FilterType),
			Start: Location{m.StartGroup, m.StartObject}, EndGroup: m.EndGroup,
			DeliveryTimeout: milliseconds(timeout),
		},
		filter:       Filter(m.FilterType),
		held:         slices.Clone(payload),
		settled:      make(chan struct{}),
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

// onUnsubscribe ends a subscription. The library need not know: Done is the end for it.
func (s *Session) onUnsubscribe(payload []byte) error {
	id, _ := wire.ReadVarint(payload)
	r, err := s.existing(id)
	if r != nil {
		r.end()
	}
	return err
}

// existing returns the request with an ID, nil if it has ended.
func (s *Session) existing(id uint64) (*Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	if r == nil && id >= s.highest {
		return nil, &sessionError{CodeInvalidRequestID, fmt.Sprintf("no request has the ID %d", id)}
	}
	return r, nil
}

// onUpdate applies a SUBSCRIBE_UPDATE, which the library reads wrongly in draft 16: there what is not mentioned stays as
// it is. A subscription may only be narrowed (draft-14, section "SUBSCRIBE_UPDATE"); what would widen it is ignored. Draft 16
// wants REQUEST_OK for an answer; it is not sent, since moqtransport ends its session when it gets one for a subscription.
func (s *Session) onUpdate(payload []byte) error {
	m, err := wire.ParseSubscribeUpdate(payload, s.draft)
	if err != nil {
		return err
	}
	if err := s.onRequestID(m.RequestID); err != nil {
		return err
	}
	timeout, err := wire.DeliveryTimeout(m.Params)
	if err != nil {
		return err
	}
	r, err := s.existing(m.Subscription)
	if r == nil {
		return err
	}
	r.mu.Lock()
	r.opts.update(&m)
	if timeout > 0 {
		r.opts.DeliveryTimeout = milliseconds(timeout)
	}
	r.mu.Unlock()
	if s.handlers.Update != nil {
		go s.handlers.Update(r)
	}
	return nil
}

func (o *SubscribeOptions) update(m *wire.SubscribeUpdate) {
	if m.Priority != nil {
		o.Priority = *m.Priority
	}
	if m.Forward != nil {
		o.Paused = !*m.Forward
	}
	if start := (Location{m.StartGroup, m.StartObject}); m.HasStart && start != (Location{}) && o.Start.Less(start) {
		o.Start = start
		if o.Filter != FilterAbsoluteRange {
			o.Filter = FilterAbsoluteStart
		}
	}
	if m.HasEnd && (o.Filter != FilterAbsoluteRange || m.EndGroup < o.EndGroup) {
		o.Filter, o.EndGroup = FilterAbsoluteRange, m.EndGroup
	}
}

// codeToDraft translates a Subscribe code to the numbers of the draft (draft-16, section "REQUEST_ERROR").
func codeToDraft(code uint64, d wire.Draft) uint64 {
	if d == wire.Draft16 {
		switch code {
		case SubscribeTrackDoesNotExist:
			return 0x10
		case SubscribeInvalidRange, FetchNoObjects:
			return 0x11
		case FetchInvalidJoiningID:
			return 0x32
		case FetchUnknownStatus:
			return SubscribeInternal
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
		case 0x32:
			return FetchInvalidJoiningID
		}
	}
	return code
}
