package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/Eyevinn/moqtransport/quicmoq"
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// certificate makes a self-signed certificate, once: the tests do not verify it.
var certificate = sync.OnceValue(func() tls.Certificate {
	c, err := endpoint.SelfSigned(time.Now())
	if err != nil {
		panic(err)
	}
	return c
})

var processStart = time.Now().Round(0)

// startClock moves virtual time, which begins in the year 2000, past the start of the process. quic-go counts time from there, and
// takes 0 for none: before it, a probe of a path counts as sent in the future, and the loss timer of its connection fires for ever.
func startClock() { time.Sleep(time.Until(processStart)) }

// world is a relay in a simulated network with a one-way delay of 5 ms, in virtual time.
type world struct {
	t     *testing.T
	ctx   context.Context // see context
	net   *netsim.Network
	up    netsim.Shape // of hosts that are added from now on
	down  netsim.Shape
	relay *relay.Relay
	addr  *net.UDPAddr
	hosts atomic.Uint32

	mu    sync.Mutex
	all   []*netsim.Host
	trace netsim.Trace // of worlds that give it to their network
}

func newWorld(t *testing.T) *world {
	startClock()
	return &world{t: t, net: netsim.New(1, nil), down: netsim.Shape{Delay: delay}}
}

// context returns a context that ends after some virtual minutes: what hangs fails.
func (w *world) context() context.Context {
	if w.ctx == nil {
		var cancel context.CancelFunc
		w.ctx, cancel = context.WithTimeout(w.t.Context(), 5*time.Minute)
		w.t.Cleanup(cancel)
	}
	return w.ctx
}

const delay = 5 * time.Millisecond

// inWorld runs a test in a world of its own. When it returns, no goroutine may be left: synctest sees to that.
func inWorld(t *testing.T, cfg relay.Config, test func(*world)) {
	t.Helper()
	cert := certificate()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var pc net.PacketConn
		pc, w.addr = w.host()
		cfg.Conn = pc
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		r, err := relay.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.relay = r
		done := make(chan error)
		go func() { done <- r.Serve(context.Background()) }()
		defer func() { // also when the test has failed: what is left over would keep virtual time going
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, relay.ErrClosed) {
				t.Errorf("Serve returned %v", err)
			}
			_ = pc.Close()
			time.Sleep(time.Minute) // virtual: timers run out
		}()
		test(w)
	})
}

// address returns one that nobody has.
func (w *world) address() netip.AddrPort {
	n := w.hosts.Add(1)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 0, byte(n >> 8), byte(n)}), 4443)
}

func (w *world) host() (net.PacketConn, *net.UDPAddr) {
	h := w.hostAt(w.address())
	return h, h.LocalAddr().(*net.UDPAddr)
}

// hostAt makes a host with an address, which may be that of one that has closed.
func (w *world) hostAt(a netip.AddrPort) *netsim.Host {
	h, err := w.net.Host(a, w.up, w.down)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, h)
	return h
}

// die cuts a host off.
func (w *world) die(a net.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.all {
		if h.LocalAddr().String() == a.String() {
			h.Die()
		}
	}
}

// lose makes the links of all hosts lose a share of the packets that they send.
func (w *world) lose(share float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	up := w.up
	up.Loss = share
	for _, h := range w.all {
		h.Reshape(up, w.down)
	}
}

// dial connects a stock quic-go client to the relay.
func (w *world) dial(d wire.Draft, qc *quic.Config) *quic.Conn {
	w.t.Helper()
	pc, _ := w.host()
	tr := &quic.Transport{Conn: pc}
	if qc == nil {
		qc = &quic.Config{MaxIncomingUniStreams: 1000}
	}
	qc.EnableDatagrams = true
	c, err := tr.Dial(w.context(), w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{d.ALPN()}}, qc)
	if err != nil {
		w.t.Fatal(err)
	}
	context.AfterFunc(c.Context(), func() {
		_ = tr.Close()
		_ = pc.Close()
	})
	open := new(atomic.Pointer[quic.Conn]) // so that what has ended can be freed
	open.Store(c)
	context.AfterFunc(c.Context(), func() { open.Store(nil) })
	w.t.Cleanup(func() {
		if c := open.Load(); c != nil {
			_ = c.CloseWithError(0, "")
		}
	})
	return c
}

// stock is a moqtransport session; a publisher accepts every subscription and hands it to subs.
type stock struct {
	*moqtransport.Session
	conn *quic.Conn
	subs chan *moqtransport.SubscribeResponseWriter
	asks chan *moqtransport.SubscribeMessage
}

func (w *world) stock(d wire.Draft, namespaces ...string) *stock {
	w.t.Helper()
	p := &stock{
		conn: w.dial(d, nil),
		subs: make(chan *moqtransport.SubscribeResponseWriter, 100), asks: make(chan *moqtransport.SubscribeMessage, 100),
	}
	p.Session = &moqtransport.Session{
		InitialMaxRequestID: 100,
		Handler:             moqtransport.HandlerFunc(func(rw moqtransport.ResponseWriter, _ *moqtransport.Message) {}),
		SubscribeHandler: moqtransport.SubscribeHandlerFunc(func(rw *moqtransport.SubscribeResponseWriter, m *moqtransport.SubscribeMessage) {
			if m.Track == "refused" {
				_ = rw.Reject(moqtransport.ErrorCodeSubscribeUnauthorized, "not for you")
				return
			}
			if err := rw.Accept(); err != nil {
				w.t.Error(err)
			}
			p.subs <- rw
			p.asks <- m
		}),
	}
	if err := p.Run(quicmoq.NewClient(p.conn)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	for _, ns := range namespaces {
		if err := p.Announce(w.context(), []string{ns}); err != nil {
			w.t.Fatal(err)
		}
	}
	return p
}

// session connects with package moq, which shows streams as they are.
func (w *world) session(d wire.Draft, qc *quic.Config) (*moq.Session, *quic.Conn) {
	w.t.Helper()
	c := w.dial(d, qc)
	s, err := moq.Connect(w.context(), c, moq.Handlers{})
	if err != nil {
		w.t.Fatal(err)
	}
	return s, c
}

// rawStream is a data stream as it arrived.
type rawStream struct {
	header wire.SubgroupHeader
	data   []byte // the whole stream
	err    error  // nil: it ended with FIN
}

// readStream reads the next stream that has anything on it: one that is reserved for the datapath and not used yet counts as
// open when a later one is used.
func readStream(w *world, s *moq.Session) rawStream {
	w.t.Helper()
	for {
		if r := readAnyStream(w, s); len(r.data) > 0 || r.err == nil {
			return r
		}
	}
}

func readAnyStream(w *world, s *moq.Session) rawStream {
	w.t.Helper()
	rs, err := s.AcceptDataStream(w.context())
	if err != nil {
		w.t.Fatal(err)
	}
	_ = rs.SetReadDeadline(time.Now().Add(time.Minute))
	var r rawStream
	r.data, r.err = io.ReadAll(rs)
	if len(r.data) == 0 && r.err != nil {
		return r
	}
	if r.header, err = wire.ParseSubgroupHeader(r.data, s.Draft()); err != nil {
		w.t.Fatalf("stream %x…: %v", r.data[:min(len(r.data), 40)], err)
	}
	return r
}

// object is an object with what a relay has to keep.
type object struct {
	group, subgroup, id uint64
	priority            uint8
	extensions, payload string
}

func (o object) String() string {
	return fmt.Sprintf("%d/%d/%d priority %d extensions %q payload %d bytes", o.group, o.subgroup, o.id, o.priority, o.extensions, len(o.payload))
}

// objects parses a stream.
func (r *rawStream) objects(t *testing.T, d wire.Draft) (out []object) {
	t.Helper()
	var or wire.ObjectReader
	or.Init(&r.header, d)
	b := r.data[r.header.Len:]
	for len(b) > 0 {
		var o wire.Object
		n, err := or.ParseHeader(b, &o)
		if err != nil || o.Payload == nil && o.PayloadLen > 0 {
			if r.err == nil {
				t.Fatalf("object is cut off: %v", err)
			}
			return out
		}
		subgroup, _ := or.Subgroup()
		var ext bytes.Buffer
		if err := wire.ParseExtensions(o.Extensions, d, func(e wire.ExtensionHeader) bool {
			fmt.Fprintf(&ext, "%d=%d%q ", e.Type, e.Value, e.Bytes)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		out = append(out, object{r.header.Group, subgroup, o.ID, r.header.Priority, ext.String(), string(o.Payload)})
		b = b[n+int(o.PayloadLen):]
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sleep lets virtual seconds pass.
func sleep(t *testing.T, seconds int) {
	t.Helper()
	time.Sleep(time.Duration(seconds) * time.Second)
	synctest.Wait()
}
