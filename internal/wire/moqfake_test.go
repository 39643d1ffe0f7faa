package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/Eyevinn/moqtransport"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// fakeConn is a moqtransport.Connection with one control stream, whose bytes are given, and with data streams that only
// record what the library writes.
type fakeConn struct {
	ctx    context.Context
	cancel context.CancelFunc
	client bool
	alpn   string
	*fakeStream
	// ended is closed when the session has read its control stream to the end or has given up. It cancels the context
	// of AcceptUniStream then.
	ended chan struct{}

	mu        sync.Mutex
	uni       []*fakeStream
	datagrams [][]byte
}

// fakeStream lets the library read what feed sends until the channel is closed, and records what it writes.
type fakeStream struct {
	ctx     context.Context
	feed    chan []byte
	pending []byte
	ready   chan struct{} // if not nil, Read waits until it is closed by the first Write

	mu      sync.Mutex
	written bytes.Buffer
	writes  chan struct{}
}

func newFakeStream(ctx context.Context) *fakeStream {
	return &fakeStream{ctx: ctx, feed: make(chan []byte, 16), writes: make(chan struct{}, 1<<16)}
}

func newFakeConn(d wire.Draft, client bool) *fakeConn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &fakeConn{ctx: ctx, cancel: cancel, client: client, alpn: d.ALPN(), fakeStream: newFakeStream(ctx), ended: make(chan struct{})}
	if client {
		// A server answers after it was spoken to; an earlier SERVER_SETUP races with a field of the library's session.
		c.ready = make(chan struct{})
	}
	return c
}

func (s *fakeStream) Read(p []byte) (int, error) {
	if s.ready != nil {
		select {
		case <-s.ready:
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		}
	}
	for len(s.pending) == 0 {
		var ok bool
		select {
		case s.pending, ok = <-s.feed:
			if !ok {
				return 0, io.EOF
			}
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		}
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

func (s *fakeStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil && s.written.Len() == 0 {
		close(s.ready)
	}
	select {
	case s.writes <- struct{}{}:
	default:
	}
	return s.written.Write(p)
}

func (s *fakeStream) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.written.Bytes())
}

func (s *fakeStream) Close() error     { return nil }
func (s *fakeStream) Reset(uint32)     {}
func (s *fakeStream) Stop(uint32)      {}
func (s *fakeStream) StreamID() uint64 { return 0 }

func (c *fakeConn) AcceptStream(context.Context) (moqtransport.Stream, error) {
	return c.fakeStream, nil
}
func (c *fakeConn) OpenStream() (moqtransport.Stream, error) { return c.fakeStream, nil }
func (c *fakeConn) OpenStreamSync(context.Context) (moqtransport.Stream, error) {
	return c.fakeStream, nil
}

func (c *fakeConn) AcceptUniStream(ctx context.Context) (moqtransport.ReceiveStream, error) {
	<-ctx.Done()
	close(c.ended)
	return nil, ctx.Err()
}

func (c *fakeConn) OpenUniStream() (moqtransport.SendStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := newFakeStream(c.ctx)
	c.uni = append(c.uni, s)
	return s, nil
}
func (c *fakeConn) OpenUniStreamSync(context.Context) (moqtransport.SendStream, error) {
	return c.OpenUniStream()
}

func (c *fakeConn) SendDatagram(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.datagrams = append(c.datagrams, bytes.Clone(b))
	return nil
}

func (c *fakeConn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (c *fakeConn) CloseWithError(uint64, string) error { c.cancel(); return nil }
func (c *fakeConn) Context() context.Context            { return c.ctx }
func (c *fakeConn) Protocol() moqtransport.Protocol     { return moqtransport.ProtocolQUIC }
func (c *fakeConn) NegotiatedALPN() string              { return c.alpn }
func (c *fakeConn) Perspective() moqtransport.Perspective {
	if c.client {
		return moqtransport.PerspectiveClient
	}
	return moqtransport.PerspectiveServer
}

// peerSetup returns the SETUP message that the library's peer sends first.
func peerSetup(d wire.Draft, fromClient bool) []byte {
	var p []byte
	typ := uint64(wire.MsgServerSetup)
	if fromClient {
		typ = wire.MsgClientSetup
	}
	if d == wire.Draft14 {
		if fromClient {
			p = append(p, 1)
		}
		p = wire.AppendVarint(p, 0xff00000e)
	}
	params := []wire.ExtensionHeader{{Type: 1, Bytes: []byte("/")}, {Type: 2, Value: 1000}}
	p = wire.AppendExtensions(append(p, byte(len(params))), params, d)
	b, err := wire.AppendControl(nil, typ, p)
	if err != nil {
		panic(err)
	}
	return b
}

// newSession has a handler for everything, because the library calls handlers without looking whether there is one.
func newSession(subscribe func(*moqtransport.SubscribeResponseWriter, *moqtransport.SubscribeMessage)) *moqtransport.Session {
	return &moqtransport.Session{
		InitialMaxRequestID: 100,
		Handler: moqtransport.HandlerFunc(func(w moqtransport.ResponseWriter, m *moqtransport.Message) {
			if w != nil {
				_ = w.Accept()
			}
		}),
		SubscribeHandler: moqtransport.SubscribeHandlerFunc(subscribe),
		FetchHandler: moqtransport.FetchHandlerFunc(func(w *moqtransport.FetchResponseWriter, m *moqtransport.FetchMessage) {
			_ = w.Accept()
		}),
		SubscribeUpdateHandler: moqtransport.SubscribeUpdateHandlerFunc(func(*moqtransport.SubscribeUpdateMessage) {}),
	}
}

// startRequests leaves one request of each kind unanswered, so that what the peer sends can answer it. IDs are
// 0, 2, 4 and so on in the order below.
func startRequests(ctx context.Context, t testing.TB, s *moqtransport.Session, c *fakeConn) (wait func()) {
	requests := []func() error{
		func() error { _, err := s.Subscribe(ctx, []string{"a"}, "v"); return err },
		func() error { _, err := s.Fetch(ctx, []string{"a"}, "v"); return err },
		func() error { return s.Announce(ctx, []string{"a"}) },
		func() error { return s.SubscribeAnnouncements(ctx, []string{"a"}) },
		func() error { _, err := s.RequestTrackStatus(ctx, []string{"a"}, "v"); return err },
		func() error { _, err := s.Subscribe(ctx, []string{"b"}, "v"); return err },
	}
	var wg sync.WaitGroup
	for _, request := range requests {
		wg.Go(func() { _ = request() })
		select {
		case <-c.writes:
		case <-time.After(10 * time.Second):
			t.Error("the library did not send its request")
		}
	}
	return wg.Wait
}

// replay gives a session of the library the messages, after a valid SETUP unless setup is in them, and waits until
// it has read all or given up. A panic in its goroutines ends the test process.
func replay(t testing.TB, d wire.Draft, asClient, setupDone bool, messages []byte) {
	c := newFakeConn(d, asClient)
	s := newSession(func(w *moqtransport.SubscribeResponseWriter, m *moqtransport.SubscribeMessage) {
		switch m.RequestID % 3 {
		case 0:
			_ = w.Accept(moqtransport.WithLargestLocation(&moqtransport.Location{Group: 5, Object: 6}))
		case 1:
			_ = w.Reject(1, "no")
		}
	})
	wait := func() {}
	requestCtx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if setupDone {
		c.feed <- peerSetup(d, !asClient)
		if err := s.Run(c); err != nil {
			t.Fatalf("set-up: %v", err)
		}
		<-c.writes // SETUP
		if asClient {
			wait = startRequests(requestCtx, t, s, c)
		}
		c.feed <- messages
		close(c.feed)
	} else {
		c.feed <- messages
		close(c.feed)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.RunContext(ctx, c); errors.Is(err, context.DeadlineExceeded) {
			t.Error("the library hangs in its set-up")
		}
	}
	<-c.ended
	cancel()
	wait()
	_ = s.Close()
}
