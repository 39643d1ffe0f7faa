package quicadapt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// clientCIDLen is the length of the connection IDs of a side that dials.
const clientCIDLen = 8

// initialPacketSize is what quic-go sends before path MTU discovery has found more (its default).
const initialPacketSize = 1280

// Boundary is the packet boundary of one socket. It owns the socket, which must not be used otherwise, and one
// quic.Transport above it.
type Boundary struct {
	cfg    Config
	inner  net.PacketConn
	tr     *quic.Transport
	start  time.Time
	blind  atomic.Bool // the datapath's records cannot be read: it is not used any more
	limits datapath.Limits

	mu       sync.RWMutex
	byAddr   map[netip.AddrPort][]*conn // where a connection's packets go
	byCID    map[string]*conn           // connection IDs that we issued
	initials initialRing
	conns    map[*conn]struct{}
	clients  []*conn   // by datapath.ClientID
	ups      []*conn   // by datapath.UpstreamID
	removals []removal // that failed
	removeAt int64     // when they are tried again
	past     ConnStats // of connections that are forgotten

	keyLimits  func(wire.Suite) keyLimits
	congestion congestion.Maker

	cidLen   int
	woken    chan struct{}
	nextTick atomic.Int64 // when the loop looks again by itself; 0: never
	stop     chan struct{}
	stopOnce sync.Once
	loopDone chan struct{}
	closeErr error
}

// New makes the boundary of a socket. A *net.UDPConn keeps quic-go's segmentation offload and batched reads.
func New(pc net.PacketConn, cfg Config) (*Boundary, error) {
	if pc == nil {
		return nil, errors.New("quicadapt needs a socket")
	}
	cfg = cfg.withDefaults()
	maker, err := congestion.ByName(cfg.Congestion)
	if err != nil {
		return nil, err
	}
	b := &Boundary{
		congestion: maker,
		cfg:        cfg, inner: pc, start: time.Now(),
		byAddr: make(map[netip.AddrPort][]*conn), byCID: make(map[string]*conn), conns: make(map[*conn]struct{}),
		keyLimits: keyLimitsOf,
		woken:     make(chan struct{}, 1), stop: make(chan struct{}), loopDone: make(chan struct{}),
	}
	if cfg.Datapath != nil {
		b.limits = datapath.Limits{}.WithDefaults()
		b.clients = make([]*conn, b.limits.Clients)
		b.ups = make([]*conn, b.limits.Upstreams)
	}
	b.tr = &quic.Transport{Conn: newPacketConn(b, pc), ConnContext: b.connContext}
	if cfg.PriorityCID {
		b.cidLen, b.tr.ConnectionIDGenerator = datapath.CIDLen, wildcardIDs{}
	}
	go b.loop()
	return b, nil
}

// now returns the boundary's clock, in nanoseconds since it was made.
func (b *Boundary) now() int64 { return int64(time.Since(b.start)) }

// LocalAddr returns the socket's address.
func (b *Boundary) LocalAddr() net.Addr { return b.inner.LocalAddr() }

// Close closes the connections, the transport and the socket. It is idempotent. The datapath stays open: it is the caller's.
func (b *Boundary) Close() error {
	b.stopOnce.Do(func() {
		b.closeErr = b.tr.Close()
		close(b.stop)
		<-b.loopDone
		if err := b.inner.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			b.closeErr = errors.Join(b.closeErr, err)
		}
		b.mu.Lock()
		conns := make([]*conn, 0, len(b.conns))
		for c := range b.conns {
			conns = append(conns, c)
		}
		b.mu.Unlock()
		for _, c := range conns {
			b.remove(c)
		}
	})
	return b.closeErr
}

// Totals returns the sums of what was counted for all connections so far, those that have ended included.
func (b *Boundary) Totals() ConnStats {
	b.mu.RLock()
	sum := b.past
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.RUnlock()
	for _, c := range conns {
		c.mu.Lock()
		sum.add(&c.stats)
		c.mu.Unlock()
	}
	return sum
}

type connKey struct{}

func (b *Boundary) connContext(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	return context.WithValue(ctx, connKey{}, newConn(b, addrPort(info.RemoteAddr), false)), nil
}

// prepare returns configurations that tie connections to their state here. dialed is nil on the listening side.
func (b *Boundary) prepare(tlsConf *tls.Config, quicConf *quic.Config, dialed *conn) (*tls.Config, *quic.Config, error) {
	if tlsConf == nil {
		return nil, nil, errors.New("quicadapt needs a TLS configuration")
	}
	if quicConf == nil {
		quicConf = &quic.Config{}
	}
	qc := quicConf.Clone()
	if qc.Allow0RTT {
		return nil, nil, errors.New("0-RTT cannot be used with quicadapt: its secret is not logged; set Allow0RTT to false")
	}
	qc.Versions = []quic.Version{quic.Version1}
	size := initialPacketSize
	if qc.InitialPacketSize > 0 {
		size = int(qc.InitialPacketSize)
	}
	qc.Tracer = func(ctx context.Context, isClient bool, odcid quic.ConnectionID) qlogwriter.Trace {
		c := dialed
		if c == nil {
			if c, _ = ctx.Value(connKey{}).(*conn); c == nil {
				return nil
			}
			b.attribute(c, odcid.Bytes())
		} else {
			// Tells its first packets from those of another connection to the same address, as of one that it replaces.
			b.mu.Lock()
			c.peerCIDs[string(odcid.Bytes())] = 0
			b.mu.Unlock()
		}
		c.mu.Lock()
		c.setMaxSize(size)
		c.mu.Unlock()
		return tracer{c}
	}
	tc := tlsConf.Clone()
	if dialed != nil {
		tc.KeyLogWriter = keyLog{dialed, tlsConf.KeyLogWriter}
		return tc, qc, nil
	}
	base, get := tlsConf, tlsConf.GetConfigForClient
	tc.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		conf := base
		if get != nil {
			other, err := get(hello)
			if err != nil {
				return nil, err
			}
			if other != nil {
				conf = other
			}
		}
		c, _ := hello.Context().Value(connKey{}).(*conn)
		if c == nil {
			return nil, errors.New("quicadapt does not know this connection")
		}
		conf = conf.Clone()
		conf.GetConfigForClient = nil
		conf.KeyLogWriter = keyLog{c, conf.KeyLogWriter}
		return conf, nil
	}
	return tc, qc, nil
}

// Listener accepts connections on a Boundary.
type Listener struct {
	b  *Boundary
	ln *quic.Listener
}

// Listen starts to accept connections. Of the configurations, QUIC's Tracer and Versions are replaced, a KeyLogWriter is kept.
func (b *Boundary) Listen(tlsConf *tls.Config, quicConf *quic.Config) (*Listener, error) {
	tc, qc, err := b.prepare(tlsConf, quicConf, nil)
	if err != nil {
		return nil, err
	}
	b.useCIDs(datapath.CIDLen)
	ln, err := b.tr.Listen(tc, qc)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %v: %w", b.LocalAddr(), err)
	}
	return &Listener{b, ln}, nil
}

func (b *Boundary) useCIDs(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cidLen == 0 {
		b.cidLen, b.tr.ConnectionIDLength = n, n
	}
}

// Accept returns the next connection whose handshake is complete.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	qc, err := l.ln.Accept(ctx)
	if err != nil {
		return nil, err
	}
	c, _ := qc.Context().Value(connKey{}).(*conn)
	if c == nil {
		return nil, errors.New("quicadapt does not know this connection")
	}
	c.qc.Store(qc)
	return &Conn{qc, c}, nil
}

// Close stops accepting. Connections go on.
func (l *Listener) Close() error { return l.ln.Close() }

// Addr returns the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Dial makes a connection.
func (b *Boundary) Dial(ctx context.Context, addr net.Addr, tlsConf *tls.Config, quicConf *quic.Config) (*Conn, error) {
	b.useCIDs(clientCIDLen)
	c := newConn(b, addrPort(addr), true)
	tc, qc, err := b.prepare(tlsConf, quicConf, c)
	if err != nil {
		return nil, err
	}
	b.attribute(c, nil)
	conn, err := b.tr.Dial(ctx, addr, tc, qc)
	if err != nil {
		b.remove(c)
		return nil, err
	}
	c.qc.Store(conn)
	return &Conn{conn, c}, nil
}

// attribute enters a new connection.
func (b *Boundary) attribute(c *conn, odcid []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if scid, ok := b.initials.find(odcid); ok && odcid != nil {
		c.settlePeer(len(scid), isWildcard(scid))
		c.peerCIDs[scid] = 0
	}
	b.conns[c] = struct{}{}
	b.byAddr[c.remote] = append(b.byAddr[c.remote], c)
}

// remove forgets a connection, here and in the datapath.
func (b *Boundary) remove(c *conn) {
	c.mu.Lock()
	c.closed = true
	client, up, joined, isUp := c.clientID, c.upstreamID, c.joined, c.isUpstream
	c.joined, c.isUpstream = false, false
	stats := c.stats
	c.mu.Unlock()
	if joined {
		b.removeID(removal{b.clients, int(client)})
	}
	if isUp {
		b.removeID(removal{b.ups, int(up)})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.conns[c]; ok {
		b.past.add(&stats)
	}
	delete(b.conns, c)
	for _, cid := range c.localCIDs {
		if b.byCID[cid] == c {
			delete(b.byCID, cid)
		}
	}
	for ap := range c.addrs {
		b.forgetAddress(c, ap)
	}
}

// forgetUpstream makes the ID of an upstream that the datapath has removed ready for the next one, which counts streams and packets from 0 again.
func (b *Boundary) forgetUpstream(up datapath.UpstreamID) {
	b.drain() // the last records of it
	b.mu.RLock()
	clients := slices.Clone(b.clients)
	b.mu.RUnlock()
	for _, c := range clients {
		if c == nil {
			continue
		}
		c.mu.Lock()
		for k, s := range c.bySource {
			if k.upstream == up {
				delete(c.bySource, k)
				s.resetLocked(codeCancelled) // nobody comes for it
			}
		}
		c.datagrams.forget(up)
		c.mu.Unlock()
	}
	b.wake()
}

// addrPort returns the address of a UDP address, IPv4 as such.
func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// udpAddr returns the UDP address of an address, with 16 bytes: some networks of tests compare these.
func udpAddr(ap netip.AddrPort) *net.UDPAddr {
	ip := ap.Addr().As16()
	return &net.UDPAddr{IP: ip[:], Port: int(ap.Port()), Zone: ap.Addr().Zone()}
}

// initialRing remembers the source connection IDs of the last Initial packets by their destination IDs. They are not
// authenticated: it is bounded, and only tells connections from one address apart.
type initialRing struct {
	dcid, scid [256]string
	next       int
}

func (r *initialRing) put(dcid, scid []byte) {
	if _, ok := r.find(dcid); ok {
		return
	}
	r.dcid[r.next], r.scid[r.next] = string(dcid), string(scid)
	r.next = (r.next + 1) % len(r.dcid)
}

func (r *initialRing) find(dcid []byte) (string, bool) {
	for i := range r.dcid {
		if len(dcid) > 0 && r.dcid[i] == string(dcid) {
			return r.scid[i], true
		}
	}
	return "", false
}
