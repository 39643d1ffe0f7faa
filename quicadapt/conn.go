package quicadapt

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/recovery"
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
	peerCIDs  map[string]uint64 // sequence numbers of the IDs that quic-go may use
	addrs     map[netip.AddrPort]struct{}
	localCIDs map[uint64]string // issued and not retired, by sequence number

	peerCIDLen atomic.Int32 // -1 until known
	marks      atomic.Bool  // both ends have PriorityCID

	mu     sync.Mutex
	closed bool
	remote netip.AddrPort // where quic-go sends to now
	dcid   []byte         // of the last own packet to there
	paths  []path         // other addresses that quic-go probes

	// Keys. On the wire and towards quic-go they have generations of their own: a key update of one does not concern the other.
	secretClient, secretServer []byte
	quicOut                    *wire.Keys // what quic-go seals
	quicIn                     *wire.Keys // what quic-go opens
	wireOut                    *wire.Keys
	wireIn                     *wire.Keys
	quicInGen, wireOutGen      uint64
	wireOutFirst               uint64 // next number when wireOutGen began
	stale                      bool   // the datapath has not taken the connection's keys, address or connection ID, and does not send
	keyLimits                  keyLimits
	failedAuth                 uint64
	fatal                      wire.TransportCode // why the connection is being closed; 0: it is not
	nextOwn, nextIn            uint64             // next number that quic-go, and the peer, are expected to use

	// translate: packets are renumbered and sealed anew. Numbers below firstNumber are those of quic-go.
	translate   bool
	firstNumber uint64
	space       *datapath.Space
	loss        *recovery.Sender[carried] // what was sent, by number on the wire
	known       uint64                    // numbers below are known to loss, or were not used
	skips       skips
	ownAcks     ownAcks
	ranges      []wire.AckRange
	ackOut      []wire.AckRange
	ackNewest   int64 // of the ACK at hand: when its newest packet was sent, and its newest of quic-go
	ackOwn      int64
	ecn         [3]uint64
	seed        rttSeed
	maxAckDelay int64 // the peer's, nanoseconds
	paceRate    uint64
	lostBytes   uint64 // in media packets
	policy      datapath.Policy
	waiting     uint32 // as the datapath was told
	paceAt      int64  // when a repair may leave that pacing holds back; 0: none is
	probes      int    // packets to be sent whatever the congestion window

	// The peer's limits.
	maxData, toldMaxData uint64
	maxStreams           uint64
	maxDatagram          uint64 // max_datagram_frame_size of the peer
	streamLimit          uint64
	maxSize, peerMaxSize int // of quic-go's and own packets
	search               sizeSearch
	ackExponent          uint8
	ownSent              map[uint64]uint64 // highest offset per stream of quic-go
	ownData              uint64            // sum of these, of all streams ever

	// Fast path.
	joined      bool
	clientID    datapath.ClientID
	isUpstream  bool
	publishes   bool // is to be an upstream: its datagrams are received with their names
	upstreamID  datapath.UpstreamID
	memory      *streamMemory // of an upstream
	lastOpened  uint64        // streams that quic-go opened
	lastCleanUp int64
	retireAt    int64
	dirty       bool  // the datapath must learn of an address, connection ID or key
	refused     bool  // it did not take the last change
	updateAt    int64 // when it is told again
	streams     map[uint64]*FastStream
	bySource    map[sourceKey]*FastStream
	need        []*FastStream // most important first
	expiry      int64         // the earliest deadline of what may wait; 0: none
	finished    []*FastStream
	outcomes    []*FastStream // whose ends are to be told
	unacked     int
	cutEarly    map[uint64]datapath.Reason  // streams that the policy dropped, before they are known
	reserved    map[uint64]*quic.SendStream // in the pool or taken by the datapath, by ID
	slotOf      map[uint64]uint8
	freeSlots   []uint8
	taken       idRing // IDs whose RESET_STREAM of quic-go must not reach the wire
	datagrams   datagramRing
	received    datagramQueue
	// Upstream's packets that had datagrams; nil before the first.
	datagramPackets *wire.ReplayWindow
	stats           ConnStats

	told     priorities
	markedID [datapath.CIDLen]byte

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

// defaultMaxAckDelay is max_ack_delay without the transport parameter (RFC 9000, section 18.2), in nanoseconds.
const defaultMaxAckDelay = 25e6

// rttSeed is quic-go's estimate of the RTT, from before packets are translated.
type rttSeed struct{ smoothed, variance, least int64 }

func newConn(b *Boundary, remote netip.AddrPort, dialed bool) *conn {
	c := &conn{
		b: b, dialed: dialed, remote: remote,
		peerCIDs: make(map[string]uint64), addrs: map[netip.AddrPort]struct{}{remote: {}}, localCIDs: make(map[uint64]string),
		space: datapath.NewSpace(nil, nil), maxSize: 1200, peerMaxSize: datapath.MaxPacketSize, ackExponent: 3,
		ownSent: make(map[uint64]uint64), streams: make(map[uint64]*FastStream), bySource: make(map[sourceKey]*FastStream),
		cutEarly: make(map[uint64]datapath.Reason), reserved: make(map[uint64]*quic.SendStream), slotOf: make(map[uint64]uint8),
		plain: make([]byte, 0, scratchSize), built: make([]byte, 0, scratchSize), sealed: make([]byte, 0, scratchSize),
	}
	c.maxAckDelay, c.waiting = defaultMaxAckDelay, datapath.NothingWaits
	c.peerCIDLen.Store(-1)
	c.received.init()
	if b.cfg.Null || b.cfg.PriorityCID {
		c.startTranslating()
	}
	return c
}

// settlePeer notes what the peer's first connection ID is like.
func (c *conn) settlePeer(cidLen int, wildcard bool) {
	c.peerCIDLen.Store(int32(cidLen))
	c.marks.Store(c.b.cfg.PriorityCID && wildcard)
}

// startTranslating makes the numbers on the wire those of the space, from quic-go's next number on. The caller holds mu.
func (c *conn) startTranslating() {
	if c.translate {
		return
	}
	c.translate = true
	c.firstNumber = c.nextOwn
	c.space.SetNext(c.nextOwn)
	c.wireOutFirst = c.nextOwn
	c.loss = recovery.New(c.nextOwn, recovery.Handler[carried](c), c.b.newController(c.maxSize))
	c.loss.RTT.MaxAckDelay = c.maxAckDelay
	c.loss.RTT.Seed(c.seed.smoothed, c.seed.variance, c.seed.least)
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	c.skips = newSkips(seed, c.nextOwn)
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
	c.keyLimits = c.b.keyLimits(onWire)
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
	c.space.SetMaxSize(c.datapathSize())
	if c.loss != nil {
		c.loss.SetDatagramSize(c.maxSize)
		c.tellBudget()
	}
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
	if l := c.c.loss; l != nil {
		s.SmoothedRTT, s.CongestionWindow, s.BytesInFlight = durationOf(l.RTT.Smoothed), l.Window(), l.InFlight()
	}
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
