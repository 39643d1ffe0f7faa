package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// Config says how a relay works. One of Conn and Addr, and TLS, are needed; the zero value of everything else means its
// default.
type Config struct {
	// Conn is the socket to serve. It stays open when the relay closes, unless there is a packet boundary (Datapath or Null),
	// which owns it.
	Conn net.PacketConn
	// Addr is the UDP address to listen on if Conn is nil, as in "[::]:4443".
	Addr string
	// TLS has the relay's certificate. NextProtos is replaced.
	TLS *tls.Config
	// Datapath forwards packets; nil: everything is forwarded in userspace. The caller closes it, after the relay.
	Datapath datapath.Datapath
	// Upstream is another relay, for tracks that nobody announced here; default: none.
	Upstream *Upstream
	// Null leaves packets on the wire unprotected: for labs alone. All parties need it.
	Null bool
	// PriorityCID takes the priority of each packet from the last byte of its connection ID, and writes it there, with
	// peers that do so too; others are served as without. See quicadapt.Config. Default: off.
	PriorityCID bool
	// Congestion names what controls how much the datapath may send to a subscriber; see quicadapt.Config. Default: scream.
	Congestion string
	// Drafts are the MoQ drafts to speak; default 16 and 14.
	Drafts []int
	// QUIC overrides the relay's QUIC configuration; EnableDatagrams is set and Allow0RTT cleared in any case.
	QUIC *quic.Config
	// PacketSize is the size in bytes, 1200 to 1452, of packets to a peer before path MTU discovery (RFC 9000, section 14.3) has
	// found more; default: that of QUIC, or 1280. Discovery takes some tens of round trips, and until it ends the datapath
	// leaves larger packets of a publisher to userspace. On a path that does not carry the size no connection comes about.
	PacketSize int
	// Linger is how long a track is kept subscribed to when its last subscriber has left; default 1 s, negative: not at all.
	Linger time.Duration
	// MaxBacklog bounds the bytes that wait for one subscriber; beyond it, the stream that would add to them is reset.
	// On the fast path bytes wait until they are acknowledged. Default 16 MiB.
	MaxBacklog int
	// MaxStreams bounds the streams that wait for one subscriber; further ones are not opened. Default 4096.
	MaxStreams int
	// MaxFastStreams bounds the streams in progress of one publisher for which the datapath keeps an entry; what is left of further
	// ones is sent by userspace. What all together may have of its tables, see datapath.Share. Default 4096.
	MaxFastStreams int
	// WriteTimeout resets a stream whose subscriber takes nothing of it for so long; default 10 s.
	WriteTimeout time.Duration
	// SetupTimeout bounds the MoQ setup, and the waits for a publisher's answer to a subscription and for more of a FETCH; default 10 s.
	SetupTimeout time.Duration
	// CacheBytes bounds the memory of all objects that are held for FETCH, streams in progress included; default 64 MiB,
	// negative: there is no cache.
	CacheBytes int64
	// CacheAge is how long an object is held at most; default 30 s.
	CacheAge time.Duration
	// Heuristic makes the heuristic of a client, which says what is dropped when the client's path cannot carry all of it; nil: nothing
	// is dropped, and what a path cannot carry waits, up to MaxBacklog. It works where there is a datapath.
	Heuristic func() heuristic.Heuristic
	// Playout is after what time an object that has not arrived is of no use to subscribers, as heuristics are told; default 1 s.
	Playout time.Duration
	// Reported returns what a client itself measured and told out of band (thesis, section 3.4.1), with At by the wall clock, and false if it
	// told nothing. It is asked before each policy, and must be quick. Default: no client tells anything.
	Reported func(client net.Addr) (Report, bool)
	// OnPolicy is called with each policy that a client is given, and what names it in the datapath's records, and OnRecord with these, which are
	// valid during the call and must not be changed. Both must be quick. Default: nothing.
	OnPolicy func(client datapath.ClientID, generation uint8, version uint32, p datapath.Policy)
	OnRecord func(*datapath.Record)
	// Logger is for what an operator wants to know; default: discarded.
	Logger *slog.Logger
}

// Report is what a client measured of the media that reached it.
type Report struct {
	Rate  uint64        // bytes of media per second that arrived
	Delay time.Duration // one way, above the least that it saw
	At    time.Time     // when the report was received
}

// Bounds of Config.PacketSize: what every path of QUIC carries (RFC 9000, section 14), and the most that quic-go sends.
const (
	minPacketSize = 1200
	maxPacketSize = 1452
)

func (c Config) withDefaults() (Config, error) {
	if c.TLS == nil {
		return c, errors.New("relay needs a TLS configuration with a certificate")
	}
	if c.Conn == nil && c.Addr == "" {
		return c, errors.New("relay needs a socket or an address to listen on")
	}
	if len(c.Drafts) == 0 {
		c.Drafts = []int{int(wire.Draft16), int(wire.Draft14)}
	}
	c.TLS = c.TLS.Clone()
	c.TLS.NextProtos = nil
	for _, d := range c.Drafts {
		if d != int(wire.Draft14) && d != int(wire.Draft16) {
			return c, fmt.Errorf("MoQ draft %d is not supported: use 14 or 16", d)
		}
		if alpn := wire.Draft(d).ALPN(); !slices.Contains(c.TLS.NextProtos, alpn) {
			c.TLS.NextProtos = append(c.TLS.NextProtos, alpn)
		}
	}
	var err error
	if _, err := congestion.ByName(c.Congestion); err != nil {
		return c, err
	}
	if c.Upstream, err = c.Upstream.withDefaults(c.TLS.NextProtos); err != nil {
		return c, err
	}
	if c.QUIC == nil {
		c.QUIC = &quic.Config{
			MaxIdleTimeout:        30 * time.Second,
			KeepAlivePeriod:       10 * time.Second,
			MaxIncomingStreams:    1,       // the control stream
			MaxIncomingUniStreams: 1 << 16, // a publisher may use one for each frame
		}
	} else {
		c.QUIC = c.QUIC.Clone()
	}
	if c.PacketSize != 0 {
		if c.PacketSize < minPacketSize || c.PacketSize > maxPacketSize {
			return c, fmt.Errorf("packet size %d is not between %d and %d", c.PacketSize, minPacketSize, maxPacketSize)
		}
		c.QUIC.InitialPacketSize = uint16(c.PacketSize)
	}
	c.QUIC.EnableDatagrams = true
	c.QUIC.Allow0RTT = false
	c.Linger = or(c.Linger, time.Second)
	c.MaxBacklog = or(c.MaxBacklog, 16<<20)
	c.MaxStreams = or(c.MaxStreams, 4096)
	c.MaxFastStreams = or(c.MaxFastStreams, 4096)
	c.WriteTimeout = or(c.WriteTimeout, 10*time.Second)
	c.SetupTimeout = or(c.SetupTimeout, 10*time.Second)
	c.Playout = or(c.Playout, time.Second)
	c.CacheBytes = or(c.CacheBytes, 64<<20)
	if c.CacheAge <= 0 {
		c.CacheAge = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
