package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/quic-go/quic-go"
)

// Upstream is another relay. A track whose namespace nobody announced here is subscribed to there, once for all of its
// subscribers, over one connection that goes out of the relay's own socket: through the packet boundary and past the
// datapath, so that a chain of relays has a fast path at every hop.
//
// Subscriptions go up, media comes down, and nothing else: namespaces that are announced here are not announced there.
// Publishers connect to the top of a chain, or two relays name each other as upstream.
type Upstream struct {
	// Addr is the other relay's host and port. The name is looked up for each connection.
	Addr string
	// TLS verifies the other relay; default: the system's authorities. ServerName is by default the host of Addr;
	// NextProtos is replaced.
	TLS *tls.Config
	// MinBackoff is the pause after the first connection that failed or broke, in the mean; it doubles with each further
	// one until MaxBackoff, and begins anew after a connection that lasted longer than MaxBackoff. Defaults 200 ms and 10 s.
	MinBackoff, MaxBackoff time.Duration
}

func (u *Upstream) withDefaults(alpn []string) (*Upstream, error) {
	if u == nil {
		return nil, nil
	}
	c := *u
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil || host == "" || port == "" || port == "0" {
		return nil, fmt.Errorf("upstream relay %q: give a host and a port, as in relay.example:4433", c.Addr)
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	c.TLS = c.TLS.Clone()
	if c.TLS.ServerName == "" {
		c.TLS.ServerName = host
	}
	c.TLS.NextProtos = alpn
	c.MinBackoff = or(c.MinBackoff, 200*time.Millisecond)
	c.MaxBackoff = max(or(c.MaxBackoff, 10*time.Second), c.MinBackoff)
	return &c, nil
}

// UpstreamStats is about the connection to the upstream relay.
type UpstreamStats struct {
	Addr        string
	Connected   bool   // now
	Connections uint64 // that were made so far
	Error       string // why there was none the last time; empty if there was always one
}

// loopReason refuses what we would have to ask the subscriber for. It knows two relays that name each other, or one that
// names itself, by their addresses: each dials from its own socket. A longer ring ends with the timeout of a subscription.
const loopReason = "track does not exist: its namespace is announced neither here nor at the upstream relay, which asks for it here (relays in a loop)"

// upstream keeps the session with the upstream relay.
type upstream struct {
	relay *Relay
	cfg   Upstream
	dial  func(context.Context, net.Addr, *tls.Config, *quic.Config) (conn, error)
	once  sync.Once

	// Guarded by relay.mu.
	peer    *peer         // nil: not connected
	changed chan struct{} // closed and replaced when peer becomes another
	stats   UpstreamStats
}

func newUpstream(r *Relay) *upstream {
	if r.cfg.Upstream == nil {
		return nil
	}
	return &upstream{
		relay: r, cfg: *r.cfg.Upstream, dial: r.ln.dial, changed: make(chan struct{}),
		stats: UpstreamStats{Addr: r.cfg.Upstream.Addr},
	}
}

// start connects, and keeps connected until the relay closes. It may be called again.
func (u *upstream) start() {
	if u != nil {
		u.once.Do(func() { u.relay.spawn(u.run) })
	}
}

func (u *upstream) run() {
	r := u.relay
	log := r.cfg.Logger.With("upstream", u.cfg.Addr)
	failed := 0
	for {
		began := time.Now()
		p, err := u.connect()
		if err == nil {
			log.Info("connected to the upstream relay", "draft", p.draft.String())
			u.set(p, nil)
			p.acceptStreams()
			r.removePeer(p)
			err = context.Cause(p.conn.Context())
			if time.Since(began) > u.cfg.MaxBackoff {
				failed = 0
			}
		}
		if u.set(nil, err) {
			return
		}
		wait := backoff(u.cfg.MinBackoff, u.cfg.MaxBackoff, failed, rand.Float64())
		failed++
		log.Warn("no connection to the upstream relay", "err", err, "again_in", wait)
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-r.ctx.Done():
			pause.Stop()
			return
		}
	}
}

// backoff returns the pause after a number of earlier failures: between half and three halves of what doubles each time,
// by random, which is in [0, 1), so that the relays that one has lost do not come back at once.
func backoff(first, most time.Duration, failed int, random float64) time.Duration {
	d := most
	if failed < 32 && first<<failed>>failed == first {
		d = min(most, first<<failed)
	}
	return time.Duration(float64(d) * (0.5 + random))
}

// connect makes a session with the upstream relay.
func (u *upstream) connect() (*peer, error) {
	r := u.relay
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.SetupTimeout)
	defer cancel()
	addr, err := u.resolve(ctx)
	if err != nil {
		return nil, err
	}
	qc := r.cfg.QUIC.Clone()
	if qc.KeepAlivePeriod == 0 {
		qc.KeepAlivePeriod = 10 * time.Second
	}
	c, err := u.dial(ctx, addr, u.cfg.TLS, qc)
	if err != nil {
		return nil, err
	}
	p := r.newPeer(c)
	p.isUpstream = true
	session, err := moq.Connect(ctx, c, moq.Handlers{}) // it has nothing to ask of us
	if err != nil {
		return nil, err
	}
	r.enterPeer(p, session)
	return p, nil
}

// resolve looks the address up, of a family that the socket has.
func (u *upstream) resolve(ctx context.Context) (net.Addr, error) {
	host, service, err := net.SplitHostPort(u.cfg.Addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	network := "ip"
	if local, ok := u.relay.ln.addr.(*net.UDPAddr); ok && len(local.IP) > 0 {
		switch {
		case local.IP.To4() != nil:
			network = "ip4"
		case !local.IP.IsUnspecified():
			network = "ip6"
		}
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, network, host)
	if err != nil {
		return nil, fmt.Errorf("%w (the relay's socket is at %v)", err, u.relay.ln.addr)
	}
	return &net.UDPAddr{IP: ips[0], Port: port}, nil
}

// set notes the session, or why there is none. It returns whether the relay is closing.
func (u *upstream) set(p *peer, err error) (closing bool) {
	u.relay.mu.Lock()
	defer u.relay.mu.Unlock()
	if p != nil {
		u.stats.Connections++
	}
	u.peer, u.stats.Connected = p, p != nil
	if err != nil {
		u.stats.Error = err.Error()
	}
	close(u.changed)
	u.changed = make(chan struct{})
	return u.relay.stopped
}

// snapshot returns what Stats shows. It needs relay.mu.
func (u *upstream) snapshot() *UpstreamStats {
	if u == nil {
		return nil
	}
	s := u.stats
	return &s
}

// admit waits until there is somebody to ask for a track: a publisher, or the upstream relay. It returns why there is
// none when timeout comes or the asker has gone first, and refuses the upstream relay what it would be asked for itself.
func (u *upstream) admit(p *peer, namespace []string, track string, gone <-chan struct{}, timeout <-chan time.Time) *moq.SubscribeError {
	r := u.relay
	k := trackKey(namespace, track)
	for {
		r.mu.Lock()
		from := r.publisher(namespace)
		if t := r.tracks[k]; t != nil {
			from = t.publisher
		}
		changed, why := u.changed, u.stats.Error
		r.mu.Unlock()
		if from != nil {
			if from.isUpstream && from.conn.RemoteAddr().String() == p.conn.RemoteAddr().String() {
				return &moq.SubscribeError{Code: moq.SubscribeTrackDoesNotExist, Reason: loopReason}
			}
			return nil
		}
		select {
		case <-changed:
		case <-timeout:
			return &moq.SubscribeError{Code: moq.SubscribeTimeout, Reason: fmt.Sprintf("upstream relay %s cannot be reached: %s", u.cfg.Addr, why)}
		case <-gone:
			return &moq.SubscribeError{Code: moq.SubscribeInternal, Reason: "unsubscribed"}
		}
	}
}
