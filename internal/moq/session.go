package moq

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// QUIC is what a session needs of a connection. *quic.Conn has it, and so has a connection of package quicadapt.
type QUIC interface {
	AcceptStream(context.Context) (*quic.Stream, error)
	OpenStreamSync(context.Context) (*quic.Stream, error)
	AcceptUniStream(context.Context) (*quic.ReceiveStream, error)
	OpenUniStream() (*quic.SendStream, error)
	OpenUniStreamSync(context.Context) (*quic.SendStream, error)
	SendDatagram([]byte) error
	ConnectionState() quic.ConnectionState
	CloseWithError(quic.ApplicationErrorCode, string) error
	Context() context.Context
}

// Session error codes (draft-14, section "Termination"; the same in draft-16).
const (
	CodeNoError           = 0x0
	CodeInternal          = 0x1
	CodeProtocolViolation = 0x3
	CodeInvalidRequestID  = 0x4
	CodeDuplicateAlias    = 0x5
	CodeTooManyRequests   = 0x7
	CodeControlTimeout    = 0x11
)

// Error codes of SUBSCRIBE_ERROR in draft 14. Draft 16 numbers some differently; Request.Reject and SubscribeError translate.
const (
	SubscribeInternal          = 0x0
	SubscribeUnauthorized      = 0x1
	SubscribeTimeout           = 0x2
	SubscribeNotSupported      = 0x3
	SubscribeTrackDoesNotExist = 0x4
	SubscribeInvalidRange      = 0x5
)

// Status codes of PUBLISH_DONE (draft-14, section "PUBLISH_DONE").
const (
	DoneInternal          = 0x0
	DoneUnauthorized      = 0x1
	DoneTrackEnded        = 0x2
	DoneSubscriptionEnded = 0x3
	DoneGoingAway         = 0x4
	DoneExpired           = 0x5
	DoneTooFarBehind      = 0x6
	DoneMalformedTrack    = 0x7
)

// Errors of sessions.
var (
	// ErrClosed is returned when the session has ended; the connection's cause is wrapped with it.
	ErrClosed = errors.New("MoQ session is closed")
	// ErrAnswered is returned for a second answer to a request.
	ErrAnswered = errors.New("request was answered already")
)

// Location is a position in a track: a group and an object in it.
type Location struct{ Group, Object uint64 }

// Less reports whether l comes before m.
func (l Location) Less(m Location) bool {
	return l.Group < m.Group || l.Group == m.Group && l.Object < m.Object
}

// Filter says where a subscription starts and ends (draft-14, section "Filter Types").
type Filter uint64

// The filters, with their numbers of the wire.
const (
	FilterNextGroup     Filter = 0x1 // from the start of the next group
	FilterLargestObject Filter = 0x2 // from the object after the largest
	FilterAbsoluteStart Filter = 0x3 // from SubscribeOptions.Start
	FilterAbsoluteRange Filter = 0x4 // from Start to the end of EndGroup
)

// Handlers are called for what the peer asks. Announce and Unannounce are called in order on the goroutine that reads the
// control stream: they must return soon. The others are called on a goroutine of their own. Handlers that are
// nil refuse. No lock of the session is held.
type Handlers struct {
	// Announce is called for a namespace that the peer publishes. An error refuses it, and its text is sent to the peer.
	Announce func(namespace []string) error
	// Unannounce is called when the peer withdraws a namespace. It is not called when the session ends.
	Unannounce func(namespace []string)
	// Subscribe is called for a subscription; it answers with Request.Accept or Request.Reject, or the session does with
	// an internal error after it has returned.
	Subscribe func(*Request)
	// Update is called after a SUBSCRIBE_UPDATE has changed the fields of a request; see Request.Filter.
	Update func(*Request)
	// Fetch is called for a FETCH; it answers with FetchRequest.Accept or Reject, and the FETCH ends when it returns.
	Fetch func(*FetchRequest)
}

// Connect starts a session as the client of conn, whose ALPN value names the draft, and waits for the setup exchange. ctx
// bounds the setup alone. If it fails, conn is closed.
func Connect(ctx context.Context, conn QUIC, h Handlers) (*Session, error) {
	return start(ctx, conn, h, moqtransport.PerspectiveClient)
}

// Accept starts a session as the server of conn; see Connect.
func Accept(ctx context.Context, conn QUIC, h Handlers) (*Session, error) {
	return start(ctx, conn, h, moqtransport.PerspectiveServer)
}

// Session is a MoQ session. Its methods may be called from any goroutine.
type Session struct {
	conn     QUIC
	draft    wire.Draft
	handlers Handlers
	lib      *moqtransport.Session
	ctl      *control

	sending sync.Mutex // held while a SUBSCRIBE is being sent; orders before mu

	mu        sync.Mutex
	requests  map[uint64]*Request      // of the peer, from SUBSCRIBE to rejection or Done
	subs      map[uint64]*Subscription // ours, from SUBSCRIBE to its end
	starting  *Subscription            // the one whose SUBSCRIBE is being sent
	fetches   map[uint64]*FetchRequest // of the peer
	fetched   map[uint64]*Fetch        // ours, until Close
	fetchesTo uint64                   // request ID of our last FETCH, plus one
	fetching  *Fetch                   // the one whose FETCH is being sent
	// likeLibrary: the peer writes SUBSCRIBE_OK as moqtransport does, and is taken to read and write FETCH as it does too.
	likeLibrary bool
	announced   int    // namespaces of the peer
	highest     uint64 // request ID of the peer, plus one
	closed      bool
}

func start(ctx context.Context, conn QUIC, h Handlers, p moqtransport.Perspective) (*Session, error) {
	alpn := conn.ConnectionState().TLS.NegotiatedProtocol
	draft, ok := wire.DraftFromALPN(alpn)
	if !ok {
		err := fmt.Errorf("ALPN value %q: %w", alpn, wire.ErrDraft)
		_ = conn.CloseWithError(CodeInternal, err.Error())
		return nil, err
	}
	s := &Session{
		conn: conn, draft: draft, handlers: h,
		requests: make(map[uint64]*Request), subs: make(map[uint64]*Subscription),
		fetches: make(map[uint64]*FetchRequest), fetched: make(map[uint64]*Fetch),
	}
	s.lib = &moqtransport.Session{
		InitialMaxRequestID: maxRequestID,
		Handler:             moqtransport.HandlerFunc(s.handle),
		SubscribeHandler:    moqtransport.SubscribeHandlerFunc(s.answer),
	}
	if err := s.lib.RunContext(ctx, &connection{s: s, perspective: p}); err != nil {
		err = errors.Join(err, context.Cause(conn.Context()))
		_ = conn.CloseWithError(CodeProtocolViolation, "setup failed")
		return nil, fmt.Errorf("MoQ setup: %w", err)
	}
	if p == moqtransport.PerspectiveServer {
		// The library's SERVER_SETUP allows 50 requests, and it raises that for subscriptions only.
		if err := s.ctl.send(wire.MsgMaxRequestID, wire.AppendVarint(nil, maxRequestID)); err != nil {
			return nil, fmt.Errorf("MoQ setup: %w", err)
		}
	}
	context.AfterFunc(conn.Context(), s.ended)
	return s, nil
}

// ended runs once the connection is gone.
func (s *Session) ended() {
	_ = s.lib.Close()
	s.mu.Lock()
	s.closed = true
	reqs, subs, fetched := s.requests, s.subs, s.fetched
	s.requests, s.subs, s.fetched, s.fetches = nil, nil, nil, nil
	s.mu.Unlock()
	for _, r := range reqs {
		r.end()
	}
	for _, sub := range subs {
		sub.fail(s.closedError())
	}
	for _, f := range fetched {
		f.settle(s.closedError())
	}
}

func (s *Session) closedError() error {
	if cause := context.Cause(s.conn.Context()); cause != nil {
		return fmt.Errorf("%w: %w", ErrClosed, cause)
	}
	return ErrClosed
}

// abort closes the connection for something that the peer did.
func (s *Session) abort(code uint64, err error) {
	_ = s.conn.CloseWithError(quic.ApplicationErrorCode(code), clip(err.Error()))
}

// Close ends the session and its connection with a session error code. It returns without waiting for the peer.
func (s *Session) Close(code uint64, reason string) error {
	return s.conn.CloseWithError(quic.ApplicationErrorCode(code), clip(reason))
}

// Announce tells the peer that tracks of a namespace can be had here, and waits for its answer. A refusal is an error with the peer's words.
func (s *Session) Announce(ctx context.Context, namespace []string) error {
	return s.lib.Announce(ctx, namespace)
}

// Unannounce withdraws a namespace.
func (s *Session) Unannounce(ctx context.Context, namespace []string) error {
	return s.lib.Unannounce(ctx, namespace)
}

// Context returns the connection's context, which ends with it.
func (s *Session) Context() context.Context { return s.conn.Context() }

// Draft returns the draft that the session speaks.
func (s *Session) Draft() wire.Draft { return s.draft }

// AcceptDataStream returns the next unidirectional stream that the peer opens. The stream's bytes have not been read.
func (s *Session) AcceptDataStream(ctx context.Context) (*quic.ReceiveStream, error) {
	return s.conn.AcceptUniStream(ctx)
}

// OpenDataStream opens a unidirectional stream, and waits while the peer's limit on streams forbids one.
func (s *Session) OpenDataStream(ctx context.Context) (*quic.SendStream, error) {
	return s.conn.OpenUniStreamSync(ctx)
}

// SendDatagram sends a datagram; see quic.Conn.SendDatagram.
func (s *Session) SendDatagram(p []byte) error { return s.conn.SendDatagram(p) }

// ReceiveDatagram returns the next datagram of the peer.
func (s *Session) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	switch c := s.conn.(type) {
	case interface {
		ReceiveDatagram(context.Context) ([]byte, error)
	}:
		return c.ReceiveDatagram(ctx)
	case interface {
		ReceiveDatagram(context.Context) ([]byte, uint64, uint64, error)
	}:
		p, _, _, err := c.ReceiveDatagram(ctx)
		return p, err
	}
	return nil, fmt.Errorf("connection %T has no datagrams: %w", s.conn, errors.ErrUnsupported)
}

// clip cuts a reason phrase to what may be sent.
func clip(s string) string { return s[:min(len(s), wire.MaxReasonLen)] }
