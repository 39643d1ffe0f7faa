package moq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// FetchOptions are what a FETCH asks for. The zero value of Priority without PrioritySet means 128.
type FetchOptions struct {
	Priority    uint8
	PrioritySet bool
	Order       uint8    // one of the wire.Order constants
	Start, End  Location // see FetchRequest; of a standalone FETCH
	// Joining makes it a joining FETCH of everything up to the largest object of a subscription, from JoiningStart groups before it,
	// or with Absolute from that group.
	Joining      *Subscription
	JoiningStart uint64
	Absolute     bool
}

// FetchError is a refused FETCH.
type FetchError struct {
	Code   uint64 // one of the Fetch codes
	Reason string // of the peer
}

func (e *FetchError) Error() string {
	return fmt.Sprintf("fetch refused with code %d: %q", e.Code, e.Reason)
}

// Fetch is an accepted FETCH. Its objects are read with Next and Read by one goroutine, which Close by another one ends.
type Fetch struct {
	ID              uint64
	Order           uint8 // of the groups, in draft 14
	EndOfTrack      bool
	End             Location // see FetchRequest.Accept
	TrackExtensions []byte
	// Patience is how long Next and Read wait for the next bytes of the stream, after which they fail with a timeout; 0: as long as
	// the session lasts. It is set before the first call of Next.
	Patience time.Duration

	s       *Session
	message wire.Fetch
	sent    chan struct{}
	settled chan struct{}
	once    sync.Once
	err     error
	streams chan fetchStream
	// Guarded by s.mu: the peer's answer has come; Close was called.
	answered, closed bool

	stream *quic.ReceiveStream // set by the reader, under s.mu since Close looks at it
	reader wire.FetchReader
	buf    []byte // read from the stream, not taken
	skip   uint64 // of the payload that was not read
}

type fetchStream struct {
	rs  *quic.ReceiveStream
	buf []byte
}

// settle notes the answer, and makes the library forget the FETCH. It returns false if there was an answer already.
func (f *Fetch) settle(err error) (first bool) {
	f.once.Do(func() {
		first = true
		f.err = err
		close(f.settled)
		b := wire.AppendVarint(wire.AppendVarint(nil, f.ID), FetchInternal)
		f.s.ctl.deliver(wire.MsgFetchError, wire.AppendVarint(b, 0))
	})
	return first
}

// Fetch asks for objects and waits for the answer. A refusal is a *FetchError. Whoever accepts the session's data streams
// hands the stream of the FETCH to DeliverFetch. A FETCH is ended with Close.
func (s *Session) Fetch(ctx context.Context, namespace []string, track string, o FetchOptions) (*Fetch, error) {
	if !o.PrioritySet {
		o.Priority = wire.DefaultPriority
	}
	f := &Fetch{s: s, sent: make(chan struct{}), settled: make(chan struct{}), streams: make(chan fetchStream, 1)}
	f.message = wire.Fetch{
		Layout: s.draft, SubscriberPriority: o.Priority, GroupOrder: o.Order, Type: wire.FetchStandalone, Namespace: namespace, Track: []byte(track),
		StartGroup: o.Start.Group, StartObject: o.Start.Object, EndGroup: o.End.Group, EndObject: o.End.Object,
	}
	if o.Joining != nil {
		f.message.Type, f.message.JoiningID, f.message.JoiningStart = wire.FetchRelativeJoining, o.Joining.ID, o.JoiningStart
		if o.Absolute {
			f.message.Type = wire.FetchAbsoluteJoining
		}
	}
	failed := make(chan error, 1)
	s.sending.Lock()
	s.mu.Lock()
	if s.likeLibrary {
		f.message.Layout = wire.Draft14
	}
	s.fetching = f
	s.mu.Unlock()
	go func() {
		// For the request ID alone: outgoing replaces the message, and onFetchOK tells the library that it was refused.
		_, err := s.lib.Fetch(s.conn.Context(), []string{"fetch"}, "")
		failed <- err
	}()
	var err error
	select {
	case <-f.sent:
	case err = <-failed:
	}
	s.mu.Lock()
	s.fetching = nil
	s.mu.Unlock()
	s.sending.Unlock()
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	select {
	case <-f.settled:
		err = f.err
	case <-s.conn.Context().Done():
		err = s.closedError()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		var refused *FetchError
		if errors.As(err, &refused) {
			s.forgetFetch(f)
		} else {
			_ = f.Close()
		}
		return nil, err
	}
	return f, nil
}

// onFetchSent returns the payload that is sent in place of the library's FETCH.
func (s *Session) onFetchSent(id uint64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fetching
	if f == nil || s.closed {
		return nil
	}
	s.fetching = nil
	f.ID, f.message.RequestID = id, id
	s.fetched[id] = f
	s.fetchesTo = max(s.fetchesTo, id+1)
	close(f.sent)
	return f.message.Append(nil)
}

func (s *Session) fetch(id uint64) *Fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched[id]
}

func (s *Session) forgetFetch(f *Fetch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.fetched, f.ID)
}

// onFetchOK takes the answer from the library; see onSubscribeOK.
func (s *Session) onFetchOK(payload []byte) error {
	id, _ := wire.ReadVarint(payload)
	f := s.fetch(id)
	if f == nil {
		return &sessionError{CodeInvalidRequestID, fmt.Sprintf("FETCH_OK for request %d, which is not pending", id)}
	}
	m, err := wire.ParseFetchOK(payload, f.message.Layout)
	if err != nil {
		return err
	}
	if again, closed := s.onFetchAnswer(f); again {
		return &sessionError{CodeProtocolViolation, "second answer to a FETCH"}
	} else if closed {
		return nil
	}
	f.Order, f.EndOfTrack, f.End = m.GroupOrder, m.EndOfTrack, Location{m.EndGroup, m.EndObject}
	f.TrackExtensions = slices.Clone(m.TrackExtensions)
	f.settle(nil)
	return nil
}

// onFetchAnswer notes that there is an answer, and reports whether it is not the first one, and whether nobody waits for it.
func (s *Session) onFetchAnswer(f *Fetch) (again, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again, f.answered = f.answered, true
	if f.closed {
		delete(s.fetched, f.ID)
	}
	return again, f.closed
}

// onFetchError notes a refusal. It returns false if it is not about a FETCH.
func (s *Session) onFetchError(payload []byte, retry bool) (bool, error) {
	m, err := wire.ParseFetchError(payload, retry)
	if err != nil {
		return false, err
	}
	f := s.fetch(m.RequestID)
	if f == nil {
		return false, nil
	}
	s.onFetchAnswer(f)
	code := codeFromDraft(m.Code, s.draft)
	if !retry {
		code = m.Code
	}
	f.settle(&FetchError{Code: code, Reason: m.Reason})
	return true, nil
}

// DeliverFetch takes over a stream of the peer that answers a FETCH. b is what has been read of it. ErrShort means that more is
// needed to tell, and ErrStreamType that it is no such stream.
func (s *Session) DeliverFetch(rs *quic.ReceiveStream, b []byte) error {
	h, err := wire.ParseFetchHeader(b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	f := s.fetched[h.RequestID]
	unknown := h.RequestID >= s.fetchesTo
	closed, second := f == nil || f.closed, false
	if !closed && !unknown {
		select { // under mu: Close takes what is there
		case f.streams <- fetchStream{rs, slices.Clone(b[h.Len:])}:
		default:
			second = true
		}
	}
	s.mu.Unlock()
	switch {
	case unknown:
		return fmt.Errorf("%w: no FETCH has the request ID %d", wire.ErrMalformed, h.RequestID)
	case closed:
		rs.CancelRead(0x1) // CANCELLED
	case second:
		return fmt.Errorf("%w: second stream for a FETCH", wire.ErrMalformed)
	}
	return nil
}

// Next returns the next object, without its payload. io.EOF is the end of the stream, a *quic.StreamError one that was reset.
// Extensions are valid until the next call. ctx bounds the wait for the stream alone.
func (f *Fetch) Next(ctx context.Context) (wire.FetchObject, error) {
	if f.stream == nil {
		select {
		case st := <-f.streams:
			f.buf, f.reader = st.buf, wire.NewFetchReader(f.message.Layout)
			f.s.mu.Lock()
			f.stream = st.rs
			closed := f.closed
			f.s.mu.Unlock()
			if closed { // it did not see the stream
				st.rs.CancelRead(0x1)
			}
		case <-f.s.conn.Context().Done():
			return wire.FetchObject{}, f.s.closedError()
		case <-ctx.Done():
			return wire.FetchObject{}, context.Cause(ctx)
		}
	}
	for f.skip > 0 {
		if _, err := f.Read(make([]byte, min(f.skip, 4096))); err != nil {
			return wire.FetchObject{}, err
		}
	}
	for {
		var o wire.FetchObject
		n, err := f.reader.ParseHeader(f.buf, &o)
		if err == nil {
			f.buf, f.skip = f.buf[n:], o.PayloadLen
			return o, nil
		}
		if !errors.Is(err, wire.ErrShort) {
			return o, err
		}
		b := make([]byte, 2048)
		n, err = f.read(b)
		f.buf = append(f.buf[:len(f.buf):len(f.buf)], b[:n]...)
		if n == 0 && err != nil {
			if len(f.buf) > 0 && errors.Is(err, io.EOF) {
				return o, fmt.Errorf("%w: fetch stream ends inside an object", wire.ErrMalformed)
			}
			return o, err
		}
	}
}

// Read reads from the payload of the object that Next has returned; io.EOF is its end.
func (f *Fetch) Read(p []byte) (n int, err error) {
	if f.skip == 0 {
		return 0, io.EOF
	}
	p = p[:min(uint64(len(p)), f.skip)]
	if len(f.buf) > 0 {
		n = copy(p, f.buf)
		f.buf = f.buf[n:]
	} else if n, err = f.read(p); n == 0 && errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%w: fetch stream ends inside an object", wire.ErrMalformed)
	} else if n > 0 {
		err = nil
	}
	f.skip -= uint64(n)
	return n, err
}

func (f *Fetch) read(p []byte) (int, error) {
	if f.Patience > 0 {
		_ = f.stream.SetReadDeadline(time.Now().Add(f.Patience))
	}
	return f.stream.Read(p)
}

// Close ends the FETCH, with FETCH_CANCEL, which the peer ignores if it has ended already.
func (f *Fetch) Close() error {
	f.s.mu.Lock()
	_, open := f.s.fetched[f.ID]
	open = open && !f.closed
	f.closed = true
	if f.answered { // otherwise the answer is still to come
		delete(f.s.fetched, f.ID)
	}
	stream := f.stream
	f.s.mu.Unlock()
	if !open {
		return nil
	}
	f.settle(ErrClosed)
	select {
	case st := <-f.streams:
		st.rs.CancelRead(0x1)
	default:
	}
	if stream != nil {
		stream.CancelRead(0x1) // does nothing after its end
	}
	return f.s.ctl.send(wire.MsgFetchCancel, wire.AppendVarint(nil, f.ID))
}
