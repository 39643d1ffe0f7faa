package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
)

// Direction says whether a frame comes in from the network or goes out to it.
type Direction uint8

// Directions.
const (
	In Direction = iota
	Out
)

func (d Direction) String() string {
	if d == In {
		return "in"
	}
	return "out"
}

// Config configures a Sim.
type Config struct {
	// Limits are the capacities of the tables.
	Limits datapath.Limits
	// Port is the relay's UDP port. 0: that of the first connection given to Wrap.
	Port uint16
	// Now is the clock of spaces and of wrapped connections; times given to Ingress are of it. Default: time.Now.
	Now func() time.Time
	// Send sends a frame that does not go out through a wrapped connection. The frame is valid during the call. An error
	// is what a failed redirect is in the kernel. It must not call the Sim. Default: sending fails.
	Send func(frame []byte, ifindex int, at time.Time) error
	// HasInterface says whether an interface that a client was learned at is still there. Default: all are.
	HasInterface func(ifindex int) bool
	// Tap sees every frame that comes in or was sent; it is valid during the call. It must not call the Sim. Default: none.
	Tap func(dir Direction, frame []byte, at time.Time)
	// Step is called between the operations on shared words and tables that the CPUs of a kernel do one by one; a test
	// lets other goroutines run there that put packets in, as other CPUs, or call the Sim. It sees to it that one
	// runs at a time: the Sim takes no locks then. waiting says that the caller can go on only when another has.
	// Default: none, a packet is forwarded in one go.
	Step func(waiting bool)
	// Await waits, in a call of "Drain" or "Evict" and with Step, while a fan-out is pending that was under way when the call
	// began. Default: by Step.
	Await func(call string, pending func() bool)
}

// Sim is a simulated datapath.
type Sim struct {
	cfg    Config
	limits datapath.Limits
	base   time.Time // when the datapath's clock was at startNS

	drain lock // held over a whole Drain; before mu
	rec   datapath.Record

	mu        lock
	closed    bool
	cids      map[rules.CID]cidOwner
	upstreams []*upstream
	aliases   map[aliasKey]datapath.TrackID
	tracks    []*track
	subs      map[subKey]subscription
	clients   []*client
	addresses map[netip.AddrPort]datapath.ClientID
	links     []rules.Link // by client; interface 0: not learned
	spaces    []*datapath.Space
	streams   map[streamKey]stream
	sent      map[sentKey]sentStream
	rest      struct{ streams, sent uint64 } // entries beyond the owners' parts, see datapath.Share
	ring      ring
	counters  datapath.Counters
	edges     []*conn
	cpus      []*cpu
	idle      []*cpu // of cpus
}

var _ datapath.Datapath = (*Sim)(nil)

// New returns a datapath with empty tables.
func New(cfg Config) *Sim {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := cfg.Limits.WithDefaults()
	s := &Sim{
		cfg:       cfg,
		limits:    l,
		base:      cfg.Now(),
		cids:      make(map[rules.CID]cidOwner),
		upstreams: make([]*upstream, l.Upstreams),
		aliases:   make(map[aliasKey]datapath.TrackID),
		tracks:    make([]*track, l.Tracks),
		subs:      make(map[subKey]subscription),
		clients:   make([]*client, l.Clients),
		addresses: make(map[netip.AddrPort]datapath.ClientID),
		links:     make([]rules.Link, l.Clients),
		spaces:    make([]*datapath.Space, l.Clients),
		streams:   make(map[streamKey]stream),
		sent:      make(map[sentKey]sentStream),
		ring:      newRing(l.RingBytes),
	}
	if cfg.Step != nil {
		s.mu.off = true
		s.drain.wait = cfg.Step
	}
	return s
}

// startNS is the datapath's clock when it starts, in nanoseconds. It is not 0, which spaces have for "never".
const startNS = uint64(time.Second)

// nanos returns a time in nanoseconds of the datapath's clock.
func (s *Sim) nanos(at time.Time) uint64 {
	return startNS + uint64(max(at.Sub(s.base), 1-time.Duration(startNS)))
}

func (s *Sim) now() uint64 { return s.nanos(s.cfg.Now()) }

// Limits returns the capacities of the tables, defaults included.
func (s *Sim) Limits() datapath.Limits { return s.limits }

// Drain implements datapath.Datapath. f may call the Sim, but not Drain.
func (s *Sim) Drain(f func(*datapath.Record)) error {
	s.drain.Lock()
	defer s.drain.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("drain records: %w", datapath.ErrClosed)
	}
	s.awaitFanOuts("Drain")
	// The lock is held while a packet is forwarded, so every record up to here is complete, but with Config.Step.
	for end := s.ring.tail; s.ring.head != end; {
		for s.ring.writing() {
			s.cfg.Step(true)
		}
		s.step()
		if s.ring.pop(&s.rec) {
			s.mu.Unlock()
			f(&s.rec)
			s.mu.Lock()
		}
	}
	s.mu.Unlock()
	return nil
}

// Counters implements datapath.Datapath.
func (s *Sim) Counters() (datapath.Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return datapath.Counters{}, fmt.Errorf("read counters: %w", datapath.ErrClosed)
	}
	return s.counters, nil
}

// Close implements datapath.Datapath. Wrapped connections go on without it.
func (s *Sim) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Entries returns how many streams, and streams of clients, the tables hold.
func (s *Sim) Entries() (streams, clientStreams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams), len(s.sent)
}

func (s *Sim) count(r datapath.Reason, n int) { s.counters[r] += uint64(n) }
