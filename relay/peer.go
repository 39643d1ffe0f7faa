package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// aliasTimeout is how long a stream may precede the SUBSCRIBE_OK that names its track.
const aliasTimeout = 2 * time.Second

// peer is a session with a publisher or subscriber, or both.
type peer struct {
	relay   *Relay
	conn    conn
	fast    fastConn // nil: no datapath
	session *moq.Session
	draft   wire.Draft
	log     *slog.Logger
	evict   evictions

	isUpstream bool // the relay that we ask; set before the session starts

	reading    atomic.Int32 // streams of bound tracks that are being read
	publishing sync.Once    // then named is set, and datagrams are read
	named      bool         // it is or may become known to the datapath, and its datagrams come with their names
	upstreamMu sync.Mutex   // serialises bindUpstream
	refused    bool         // by the datapath, as a publisher; guarded by upstreamMu
	upstream   datapath.UpstreamID
	known      atomic.Bool  // to the datapath, as a publisher: upstream can be read
	highest    atomic.Int64 // ID of the last stream that was accepted
	unnamed    uint64       // datagrams that receiveDatagram has returned

	mu        sync.Mutex
	aliases   map[uint64]*track // tracks that this peer publishes and that are subscribed to
	claims    map[uint64]*track // who has each alias, before it is known to streams
	added     chan struct{}     // closed and replaced when an alias is added
	early     earlyDatagrams    // from the peer
	datagrams chan outDatagram  // to the peer; made when first needed

	datagramBytes atomic.Int64 // that wait there

	namespaces map[string]struct{} // guarded by relay.mu

	ledger    ledger // of subscriptions that ended
	regulator regulator
}

// serve runs a session until it ends.
func (r *Relay) serve(c conn) {
	p := r.newPeer(c)
	// Handlers may run before Accept returns.
	ready := make(chan struct{})
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.SetupTimeout)
	session, err := moq.Accept(ctx, c, moq.Handlers{
		Announce:   func(ns []string) error { <-ready; return r.announce(p, ns) },
		Unannounce: func(ns []string) { <-ready; r.unannounce(p, ns) },
		Subscribe: func(req *moq.Request) {
			<-ready
			if p.session != nil && r.begin() {
				defer r.running.Done()
				r.subscribe(p, req)
			}
		},
		Update: func(req *moq.Request) { <-ready; r.update(p, req) },
		Fetch: func(req *moq.FetchRequest) {
			<-ready
			if p.session != nil && r.begin() {
				defer r.running.Done()
				r.fetch(p, req)
			}
		},
	})
	cancel()
	if err != nil {
		close(ready)
		p.log.Warn("session could not be set up", "error", err)
		return
	}
	r.enterPeer(p, session)
	close(ready)
	p.log.Info("session started", "draft", p.draft.String())
	p.acceptStreams()
	r.removePeer(p)
	p.log.Info("session ended", "cause", context.Cause(c.Context()))
}

func (r *Relay) newPeer(c conn) *peer {
	p := &peer{
		relay: r, conn: c, log: r.cfg.Logger.With("remote", c.RemoteAddr().String()),
		aliases: make(map[uint64]*track), claims: make(map[uint64]*track), added: make(chan struct{}), namespaces: make(map[string]struct{}),
	}
	if fc, ok := c.(fastConn); ok && r.cfg.Datapath != nil {
		p.fast = fc
	}
	return p
}

// enterPeer makes a peer's session one of the relay's, which Close ends.
func (r *Relay) enterPeer(p *peer, session *moq.Session) {
	p.session, p.draft = session, session.Draft()
	r.mu.Lock()
	r.peers[p] = struct{}{}
	stopped := r.stopped
	r.mu.Unlock()
	if stopped {
		_ = session.Close(moq.CodeNoError, "relay is shutting down")
	}
}

// silent says of a publisher that does not answer what it is.
func (p *peer) silent() string {
	if p.isUpstream {
		return "upstream relay does not answer: its publisher may not, or relays are in a loop"
	}
	return "publisher does not answer"
}

// prioritize sets the priority of a stream to the peer, in QUIC and, where they are told there, in connection IDs.
func (p *peer) prioritize(s *quic.SendStream, priority uint8) {
	s.SetPriority(int8(priority>>5), false) // eight urgencies for 256 priorities; within one, older streams come first
	if c, ok := p.conn.(prioritized); ok {
		c.SetStreamPriority(s.StreamID(), priority)
	}
}

// gone says of a publisher whose connection has ended what it was.
func (p *peer) gone() string {
	if p.isUpstream {
		return "upstream relay has gone"
	}
	return "publisher has gone"
}

// acceptStreams starts a reader for every stream of the peer, until the session ends.
func (p *peer) acceptStreams() {
	for {
		rs, err := p.session.AcceptDataStream(p.conn.Context())
		if err != nil {
			return
		}
		p.highest.Store(int64(rs.StreamID()))
		if !p.relay.spawn(func() { p.readStream(rs) }) {
			return
		}
	}
}

// claimAlias returns false if the peer uses a track's alias for another track too that has not ended (draft-14, section
// "SUBSCRIBE_OK"). Of one track there may be an old subscription and a new one.
func (p *peer) claimAlias(alias uint64, t *track) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.claims[alias]; other != nil && other.key != t.key && !other.ending() {
		return false
	}
	p.claims[alias] = t
	return true
}

// addAlias makes a track known under the alias that the peer uses for it, and gives it the datagrams that came before.
func (p *peer) addAlias(alias uint64, t *track) {
	p.mu.Lock()
	p.aliases[alias] = t
	close(p.added)
	p.added = make(chan struct{})
	early := p.early.take(alias)
	p.mu.Unlock()
	for i := range early {
		t.datagram(&early[i].Datagram, &early[i].object)
	}
}

func (p *peer) removeAlias(alias uint64, t *track) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aliases[alias] == t {
		delete(p.aliases, alias)
	}
	if p.claims[alias] == t {
		delete(p.claims, alias)
	}
}

func (p *peer) track(alias uint64) (*track, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.aliases[alias], p.added
}

// awaitTrack returns the track with an alias, and waits for it a while: a stream may be faster than the control message
// that names its track.
func (p *peer) awaitTrack(alias uint64) *track {
	t, added := p.track(alias)
	if t != nil {
		return t
	}
	timeout := time.NewTimer(aliasTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-added:
		case <-timeout.C:
			return nil
		case <-p.conn.Context().Done():
			return nil
		}
		if t, added = p.track(alias); t != nil {
			return t
		}
	}
}

// violation ends the session for what the peer sent on a data stream or in a datagram.
func (p *peer) violation(err error) {
	p.log.Warn("protocol violation", "error", err)
	_ = p.session.Close(moq.CodeProtocolViolation, err.Error())
}

// publish readies the peer for tracks of its own, before the first is subscribed to: what it sends for them is then known
// to come from a publisher.
func (p *peer) publish() {
	p.publishing.Do(func() {
		receive := p.receiveDatagram
		if p.fast != nil {
			err := p.bindUpstream()
			p.named = err == nil || !forGood(err) && !errors.Is(err, quicadapt.ErrNotReady)
		}
		if p.named {
			receive = p.fast.ReceiveUpstreamDatagram
		}
		p.relay.spawn(func() { p.readDatagrams(receive) })
	})
}

// evictions collects the datapath's entries of streams that have ended. Evicting one makes lower streams that the
// datapath has not seen slow for ever, so that it waits a little for those that were reordered.
type evictions struct {
	mu   sync.Mutex
	keys []datapath.StreamKey
}

const evictDelay = 200 * time.Millisecond

func (p *peer) evictLater(up datapath.UpstreamID, stream uint64) {
	e := &p.evict
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = append(e.keys, datapath.StreamKey{Upstream: up, Client: datapath.NoClient, Stream: stream})
	if len(e.keys) > 1 {
		return
	}
	time.AfterFunc(evictDelay, func() {
		e.mu.Lock()
		keys := e.keys
		e.keys = nil
		e.mu.Unlock()
		if p.conn.Context().Err() != nil {
			return // everything of the upstream goes with its connection
		}
		if err := p.relay.cfg.Datapath.Evict(keys); err != nil {
			p.relay.counts.add("evict_failed", uint64(len(keys)))
			p.log.Debug("eviction failed", "error", err)
		}
	})
}
