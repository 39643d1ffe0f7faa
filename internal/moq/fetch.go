package moq

import (
	"context"
	"fmt"
	"sync"

	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// Error codes of FETCH_ERROR in draft 14; the first six are those of SUBSCRIBE_ERROR. FetchRequest.Reject and FetchError
// translate them for draft 16.
const (
	FetchInternal          = SubscribeInternal
	FetchTimeout           = SubscribeTimeout
	FetchNotSupported      = SubscribeNotSupported
	FetchTrackDoesNotExist = SubscribeTrackDoesNotExist
	FetchInvalidRange      = SubscribeInvalidRange
	FetchNoObjects         = 0x6 // draft 16 answers with an empty stream
	FetchInvalidJoiningID  = 0x7
	FetchUnknownStatus     = 0x8
)

const maxFetches = 1024 // of the peer that have not ended

// FetchRequest is a FETCH of the peer. It is answered with Accept or Reject, and ended with Done.
type FetchRequest struct {
	ID        uint64
	Namespace []string
	Track     string
	Start     Location
	End       Location // of the last object, plus 1 in Object; Object 0 means the whole group
	Priority  uint8    // of the subscriber
	Order     uint8    // one of the wire.Order constants

	s         *Session
	layout    wire.Draft
	cancelled context.Context
	cancel    context.CancelFunc

	mu       sync.Mutex
	answered bool
}

// Context ends when the peer cancels the FETCH, when the session ends, and with Done.
func (r *FetchRequest) Context() context.Context { return r.cancelled }

// Limit returns the first location after a range that ends at l (see FetchRequest.End).
func (l Location) Limit() Location {
	if l.Object == 0 {
		return Location{l.Group + 1, 0}
	}
	return l
}

// onFetch takes a FETCH. The library does not get to see it: it could not end one, and uses up an alias for each.
func (s *Session) onFetch(payload []byte) error {
	m, err := wire.ParseFetch(payload, s.draft)
	if err != nil {
		return err
	}
	if err := s.onRequestID(m.RequestID); err != nil {
		return err
	}
	r := &FetchRequest{
		ID: m.RequestID, Namespace: m.Namespace, Track: string(m.Track), Priority: m.SubscriberPriority, Order: m.GroupOrder,
		Start: Location{m.StartGroup, m.StartObject}, End: Location{m.EndGroup, m.EndObject}, s: s, layout: m.Layout,
	}
	r.cancelled, r.cancel = context.WithCancel(s.conn.Context())
	s.mu.Lock()
	joined := s.requests[m.JoiningID]
	if s.closed || len(s.fetches) >= maxFetches {
		closed := s.closed
		s.mu.Unlock()
		r.cancel()
		if closed {
			return nil
		}
		return &sessionError{CodeTooManyRequests, fmt.Sprintf("more than %d fetches", maxFetches)}
	}
	s.fetches[r.ID] = r
	s.mu.Unlock()
	if m.Type != wire.FetchStandalone && joined != nil && joined.filter != FilterLargestObject {
		return &sessionError{CodeProtocolViolation, "joining FETCH of a subscription whose filter is not Largest Object"}
	}
	go func() {
		defer r.Done()
		if m.Type == wire.FetchStandalone || r.join(joined, m.Type, m.JoiningStart) {
			s.handlers.Fetch(r)
		}
		_ = r.Reject(FetchInternal, "not answered") // does nothing if it was
	}()
	return nil
}

// join gives a joining FETCH its range, once the subscription has been answered (draft-14 and draft-16, section "Joining
// Fetch Range Calculation").
func (r *FetchRequest) join(sub *Request, t wire.FetchType, start uint64) bool {
	if sub != nil {
		select {
		case <-sub.settled:
		case <-r.cancelled.Done():
			return false
		}
	}
	if sub == nil || !sub.accepted() {
		_ = r.Reject(FetchInvalidJoiningID, "no subscription has the joining request ID")
		return false
	}
	largest := sub.largest
	if largest == nil {
		_ = r.Reject(FetchInvalidRange, "track has no objects yet")
		return false
	}
	r.Namespace, r.Track = sub.Namespace, sub.Track
	r.End = Location{largest.Group, largest.Object + 1}
	switch {
	case t == wire.FetchAbsoluteJoining:
		r.Start = Location{Group: start}
	case start <= largest.Group:
		r.Start = Location{Group: largest.Group - start}
	}
	return true
}

// reply sends an answer, after SETUP.
func (r *FetchRequest) reply(msgType uint64, payload []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return ErrAnswered
	}
	r.answered = true
	select {
	case <-r.s.ctl.ours:
	case <-r.s.conn.Context().Done():
		return r.s.closedError()
	}
	return r.s.ctl.send(msgType, payload)
}

// Accept sends FETCH_OK. order is that of the groups, end the end of what is sent (see End), and endOfTrack says that it is
// the track's. Extensions of the track, in the encoding of draft 16, go to peers of that draft.
func (r *FetchRequest) Accept(order uint8, end Location, endOfTrack bool, trackExtensions []byte) error {
	ok := wire.FetchOK{
		RequestID: r.ID, GroupOrder: order, EndOfTrack: endOfTrack, EndGroup: end.Group, EndObject: end.Object,
		TrackExtensions: trackExtensions,
	}
	return r.reply(wire.MsgFetchOK, ok.Append(nil, r.layout))
}

// Reject sends FETCH_ERROR, or REQUEST_ERROR in draft 16, with one of the Fetch codes.
func (r *FetchRequest) Reject(code uint64, reason string) error {
	msgType := uint64(wire.MsgFetchError)
	if r.s.draft != wire.Draft14 {
		msgType = wire.MsgRequestError
	}
	return r.reply(msgType, r.s.requestError(r.ID, codeToDraft(code, r.s.draft), clip(reason)))
}

// Open opens the stream of the FETCH and writes its header. The writer knows the format of the objects.
func (r *FetchRequest) Open() (*quic.SendStream, wire.FetchWriter, error) {
	stream, err := r.s.OpenDataStream(r.cancelled)
	if err != nil {
		return nil, wire.FetchWriter{}, err
	}
	h := wire.FetchHeader{RequestID: r.ID}
	_, err = stream.Write(h.Append(nil))
	return stream, wire.NewFetchWriter(r.layout), err
}

// SendsStatus reports whether objects with a status other than normal are sent; in draft 16 they are not (draft-16, section
// "Object Status").
func (r *FetchRequest) SendsStatus() bool { return r.layout == wire.Draft14 }

// Done ends the FETCH.
func (r *FetchRequest) Done() {
	r.cancel()
	r.s.mu.Lock()
	delete(r.s.fetches, r.ID)
	r.s.mu.Unlock()
}

// onFetchCancel handles FETCH_CANCEL. One that crosses the end of its FETCH is no fault.
func (s *Session) onFetchCancel(payload []byte) error {
	id, n := wire.ReadVarint(payload)
	if n == 0 {
		return fmt.Errorf("FETCH_CANCEL: %w", wire.ErrMalformed)
	}
	s.mu.Lock()
	r, known := s.fetches[id], id < s.highest
	s.mu.Unlock()
	switch {
	case r != nil:
		r.cancel()
	case !known:
		return &sessionError{CodeInvalidRequestID, fmt.Sprintf("no request has the ID %d", id)}
	}
	return nil
}
