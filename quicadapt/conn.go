package quicadapt

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Conn is a connection of a Boundary.
type Conn struct {
	*quic.Conn
	c *conn
}

// conn is the state of a connection at the packet boundary. Lock order: a datapath is never called with mu held.
type conn struct {
	b      *Boundary
	dialed bool
	qc     atomic.Pointer[quic.Conn]

	// Guarded by b.mu.
	peerCIDs  map[string]struct{}
	addrs     map[netip.AddrPort]struct{}
	localCIDs map[uint64]string // issued and not retired, by sequence number

	peerCIDLen atomic.Int32 // -1 until known

	mu     sync.Mutex
	closed bool
	remote netip.AddrPort // where quic-go sends to now
	dcid   []byte         // of the last own packet

	// Keys. On the wire and towards quic-go they have generations of their own: a key update of one does not concern the other.
	secretClient, secretServer []byte
	quicOut                    *wire.Keys // what quic-go seals
	quicIn                     *wire.Keys // what quic-go opens
	wireOut                    *wire.Keys
	wireIn                     *wire.Keys
	quicInGen, wireOutGen      uint64
	nextOwn, nextIn            uint64 // next number that quic-go, and the peer, are expected to use

	// translate: packets are renumbered and sealed anew. Numbers below firstNumber are those of quic-go.
	translate   bool
	firstNumber uint64
	space       *datapath.Space
	registry    *registry
	known       uint64 // numbers below are registered, or were not used
	recovery    recovery
	ackPending  []uint64 // own numbers acknowledged and not yet told to quic-go
	ranges      []wire.AckRange
	ackOut      []wire.AckRange

	// The peer's limits.
	maxData, toldMaxData uint64
	maxStreams           uint64
	maxDatagram          uint64 // max_datagram_frame_size of the peer
	streamLimit          uint64
	maxSize, peerMaxSize int
	ackExponent          uint8
	ownSent              map[uint64]uint64 // highest offset per stream of quic-go
	ownData              uint64            // sum of these, of all streams ever

	// Fast path.
	joined      bool
	clientID    datapath.ClientID
	isUpstream  bool
	upstreamID  datapath.UpstreamID
	lastOpened  uint64 // streams that quic-go opened
	lastCleanUp int64
	retireAt    int64
	dirty       bool // the datapath must learn of an address, connection ID or key
	streams     map[uint64]*FastStream
	bySource    map[sourceKey]*FastStream
	need        []*FastStream
	finished    []*FastStream
	unacked     int
	reserved    map[uint64]*quic.SendStream // in the pool or taken by the datapath, by ID
	slotOf      map[uint64]uint8
	freeSlots   []uint8
	taken       idRing // IDs whose RESET_STREAM of quic-go must not reach the wire
	datagrams   datagramRing
	received    datagramQueue
	stats       ConnStats

	frame  wire.Frame
	opened wire.Opened
	plain  []byte // payload of the packet at hand
	built  []byte // payload that replaces it
	sealed []byte
}

type sourceKey struct {
	upstream datapath.UpstreamID
	stream   uint64
}

const scratchSize = 4096

func newConn(b *Boundary, remote netip.AddrPort, dialed bool) *conn {
	c := &conn{
		b: b, dialed: dialed, remote: remote,
		peerCIDs: make(map[string]struct{}), addrs: map[netip.AddrPort]struct{}{remote: {}}, localCIDs: make(map[uint64]string),
		space: datapath.NewSpace(nil, nil), maxSize: 1200, peerMaxSize: datapath.MaxPacketSize, ackExponent: 3,
		ownSent: make(map[uint64]uint64), streams: make(map[uint64]*FastStream), bySource: make(map[sourceKey]*FastStream),
		reserved: make(map[uint64]*quic.SendStream), slotOf: make(map[uint64]uint8),
		plain: make([]byte, 0, scratchSize), built: make([]byte, 0, scratchSize), sealed: make([]byte, 0, scratchSize),
	}
	c.recovery.maxAckDelay = 25e6
	c.peerCIDLen.Store(-1)
	c.received.init()
	if b.cfg.Null {
		c.startTranslating()
	}
	return c
}

// startTranslating makes the numbers on the wire those of the space, from quic-go's next number on. The caller holds mu.
func (c *conn) startTranslating() {
	if c.translate {
		return
	}
	c.translate = true
	c.firstNumber = c.nextOwn
	c.space.SetNext(c.nextOwn)
	c.registry = newRegistry(c.nextOwn)
	if c.wireOut != nil {
		for c.wireOut.Generation() < c.quicOut.Generation() {
			c.wireOut.Update()
		}
		c.wireOutGen = c.wireOut.Generation()
		for c.quicIn.Generation() < c.wireIn.Generation() {
			c.quicIn.Update()
		}
		c.quicInGen = c.quicIn.Generation()
	}
}

// ensureKeys derives the keys, once both secrets are logged. The cipher is not logged: probe tells whether it is right.
func (c *conn) ensureKeys(probe func() bool) bool {
	if c.quicOut != nil {
		return true
	}
	out, in := c.secretServer, c.secretClient
	if c.dialed {
		out, in = in, out
	}
	if out == nil || in == nil {
		return false
	}
	for _, suite := range wire.SuitesForSecret(out) {
		if !c.deriveKeys(suite, out, in) {
			continue
		}
		if probe() {
			return true
		}
	}
	c.quicOut, c.quicIn, c.wireOut, c.wireIn = nil, nil, nil, nil
	return false
}

func (c *conn) deriveKeys(suite wire.Suite, out, in []byte) bool {
	onWire := suite
	if c.b.cfg.Null {
		onWire = wire.SuiteNull
	}
	for _, k := range []struct {
		dst    **wire.Keys
		suite  wire.Suite
		secret []byte
	}{{&c.quicOut, suite, out}, {&c.quicIn, suite, in}, {&c.wireOut, onWire, out}, {&c.wireIn, onWire, in}} {
		keys, err := wire.NewKeys(k.suite, wire.Version1, k.secret)
		if err != nil {
			return false
		}
		*k.dst = keys
	}
	return true
}

// protection describes the protection of one direction of the wire to the datapath.
func (c *conn) protection(k *wire.Keys, secret []byte, generation uint64) datapath.Protection {
	p := datapath.Protection{Cipher: datapath.Cipher(k.Suite()), Version: wire.Version1, Generation: generation}
	if k.Suite() != wire.SuiteNull {
		p.Secret = secret
	}
	return p
}

func (c *conn) setMaxSize(n int) {
	c.maxSize = min(n, c.peerMaxSize, datapath.MaxPacketSize)
	c.space.SetMaxSize(c.maxSize)
}

// updateCredit tells the datapath how much of the connection's flow control it may use.
func (c *conn) updateCredit() {
	reserve := min(c.maxData/8, 32<<10)
	c.space.SetDataLimit(c.maxData - reserve)
}

// ended is called when quic-go is done with the connection.
func (c *conn) ended() {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	c.received.close()
	if !was {
		c.b.retire(c)
	}
}

// Stats returns what was counted for the connection so far.
func (c *Conn) Stats() ConnStats {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	s := c.c.stats
	s.SmoothedRTT = durationOf(c.c.recovery.srtt)
	return s
}

// Cipher returns what protects the connection's packets on the wire; ok is false until its first 1-RTT packet.
func (c *Conn) Cipher() (cipher datapath.Cipher, ok bool) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	if c.c.wireOut == nil {
		return 0, false
	}
	return datapath.Cipher(c.c.wireOut.Suite()), true
}
