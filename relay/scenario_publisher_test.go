package relay_test

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// dials is how often a client tries to connect: a handshake may die in losses, and a user would try again.
const dials = 4

// connect makes a session with the relay from a host of its own, with a stock quic-go. The transport and its socket close with the
// connection.
func (s *scenario) connect(host func() (*netsim.Host, error), d wire.Draft, qc *quic.Config, handlers moq.Handlers) (h *netsim.Host, c *quic.Conn, session *moq.Session, err error) {
	for i := range dials {
		if h, err = host(); err != nil {
			break
		}
		if c, err = s.dial(h, d, qc); err == nil {
			ctx, cancel := context.WithTimeout(s.context(), patience)
			session, err = moq.Connect(ctx, c, handlers)
			cancel()
		}
		if err == nil {
			break
		}
		s.logger.Info("connection failed", "host", h.LocalAddr(), "tries", i+1, "error", err)
	}
	return h, c, session, err
}

// dial connects from a host, which it owns from then on.
func (s *scenario) dial(h *netsim.Host, d wire.Draft, qc *quic.Config) (*quic.Conn, error) {
	tr := &quic.Transport{Conn: h}
	tc := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{d.ALPN()}, KeyLogWriter: &s.keys}
	ctx, cancel := context.WithTimeout(s.context(), 2*time.Minute)
	defer cancel()
	c, err := tr.Dial(ctx, s.addr, tc, qc)
	if err != nil {
		_ = tr.Close()
		_ = h.Close()
		return nil, err
	}
	context.AfterFunc(c.Context(), func() {
		_ = tr.Close()
		_ = h.Close()
	})
	return c, nil
}

// payload is the content of an object, which its place decides.
func (p *scenarioPlan) payload(track int, l moq.Location) []byte {
	rnd := rand.New(rand.NewPCG(p.seed<<8|uint64(track), l.Group<<32|l.Object))
	b := make([]byte, 1+rnd.IntN(p.tracks[track].max))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// scenarioPublisher publishes all tracks of a plan. Each track has a goroutine, which alone touches its state.
type scenarioPublisher struct {
	*scenario
	session *moq.Session
	tracks  []*publishedTrack
}

type publishedTrack struct {
	p        *scenarioPublisher
	index    int
	plan     *trackPlan
	requests chan *moq.Request
	live     []*liveRequest
	sent     []moq.Location // in order; read by others once the publication is over
	largest  atomic.Pointer[moq.Location]
	writers  sync.WaitGroup
	closing  chan struct{}
}

// liveRequest is a subscription of the relay.
type liveRequest struct {
	req     *moq.Request
	alias   uint64
	streams uint64
	group   chan []byte // to the writer of the group's stream, with perGroup
	next    uint64      // object ID in it
}

func newScenarioPublisher(s *scenario) *scenarioPublisher {
	t := s.t
	p := &scenarioPublisher{scenario: s}
	byName := make(map[string]*publishedTrack)
	for i := range s.plan.tracks {
		tr := &publishedTrack{p: p, index: i, plan: &s.plan.tracks[i], requests: make(chan *moq.Request, 100), closing: make(chan struct{})}
		p.tracks = append(p.tracks, tr)
		byName[tr.plan.name] = tr
	}
	answered := func(r *moq.Request) {
		byName[r.Track].requests <- r
		<-r.Unsubscribed()
	}
	host := func() (*netsim.Host, error) { return s.net.Host(s.address(), s.plan.up, s.plan.down) }
	qc := &quic.Config{EnableDatagrams: true, HandshakeIdleTimeout: time.Minute, MaxIdleTimeout: time.Minute, KeepAlivePeriod: 10 * time.Second}
	_, _, session, err := s.connect(host, s.plan.draft, qc, moq.Handlers{Subscribe: answered})
	if err != nil {
		t.Errorf("publisher: %v", err)
		return nil
	}
	p.session = session
	if err := session.Announce(s.context(), []string{"live"}); err != nil {
		t.Errorf("publisher: %v", err)
		_ = session.Close(0, "")
		return nil
	}
	return p
}

// run publishes until the plan's length is over.
func (p *scenarioPublisher) run() {
	var all sync.WaitGroup
	for _, t := range p.tracks {
		all.Go(t.run)
	}
	all.Wait()
}

func (p *scenarioPublisher) close() {
	for _, t := range p.tracks {
		close(t.closing)
	}
	_ = p.session.Close(0, "")
}

func (t *publishedTrack) run() {
	tick := time.NewTicker(t.plan.interval)
	defer tick.Stop()
	end := time.NewTimer(t.p.plan.length)
	defer end.Stop()
	for at := (moq.Location{}); ; {
		select {
		case r := <-t.requests:
			t.accept(r)
		case <-tick.C:
			t.publish(at)
			if at.Object++; at.Object == t.plan.group {
				at = moq.Location{Group: at.Group + 1}
				t.endGroup()
			}
		case <-end.C:
			t.endGroup()
			t.writers.Wait()
			for _, l := range t.live {
				_ = l.req.Done(moq.DoneTrackEnded, l.streams, "over") // the relay may have unsubscribed
			}
			go func() { // who comes now comes too late
				for {
					select {
					case r := <-t.requests:
						_ = r.Reject(moq.SubscribeTrackDoesNotExist, "over")
					case <-t.closing:
						return
					}
				}
			}()
			return
		}
	}
}

func (t *publishedTrack) accept(r *moq.Request) {
	alias, err := r.Accept(t.largest.Load())
	if err != nil {
		return // the relay has given up
	}
	t.live = append(t.live, &liveRequest{req: r, alias: alias})
}

func gone(r *moq.Request) bool {
	select {
	case <-r.Unsubscribed():
		return true
	default:
		return false
	}
}

func (t *publishedTrack) publish(at moq.Location) {
	payload := t.p.plan.payload(t.index, at)
	t.sent = append(t.sent, at)
	left := t.live[:0]
	for _, l := range t.live {
		if gone(l.req) {
			l.endGroup()
			_ = l.req.Done(moq.DoneSubscriptionEnded, l.streams, "")
			continue
		}
		left = append(left, l)
		t.send(l, at, payload)
	}
	clear(t.live[len(left):])
	t.live = left
	t.largest.Store(&at)
}

func (t *publishedTrack) send(l *liveRequest, at moq.Location, payload []byte) {
	d := t.p.plan.draft
	if t.plan.layout == datagrams {
		o := wire.ObjectDatagram{TrackAlias: l.alias, Group: at.Group, ObjectID: at.Object, Priority: 32, Payload: payload}
		if err := t.p.session.SendDatagram(o.Append(nil, d)); err != nil {
			t.p.t.Errorf("publisher: %v", err)
		}
		return
	}
	h := wire.SubgroupHeader{TrackAlias: l.alias, Group: at.Group, SubgroupMode: wire.SubgroupZero, Priority: 100}
	if t.plan.layout == perFrame {
		h.SubgroupMode, h.Subgroup, h.Priority = wire.SubgroupExplicit, at.Object, uint8(64+at.Object%64)
	}
	if l.group == nil {
		l.streams++
		l.group, l.next = make(chan []byte, 1000), 0
		w := &streamWriter{t: t, l: l, in: l.group}
		var err error
		if w.out, err = t.p.session.OpenDataStream(t.p.context()); err != nil {
			t.p.t.Errorf("publisher: %v", err)
			return
		}
		l.group <- h.Append(nil, d)
		t.writers.Go(w.run)
	}
	b := wire.AppendObjectHeader(nil, d, false, at.Object-l.next, nil, uint64(len(payload)), 0)
	l.next = at.Object + 1
	l.group <- append(b, payload...)
	if t.plan.layout == perFrame {
		l.endGroup()
	}
}

func (t *publishedTrack) endGroup() {
	for _, l := range t.live {
		l.endGroup()
	}
}

func (l *liveRequest) endGroup() {
	if l.group != nil {
		close(l.group)
		l.group = nil
	}
}

// streamWriter writes a stream, at the speed that the path allows.
type streamWriter struct {
	t   *publishedTrack
	l   *liveRequest
	in  chan []byte
	out *quic.SendStream
}

func (w *streamWriter) run() {
	var err error
	for b := range w.in {
		if err == nil {
			_, err = w.out.Write(b)
		}
	}
	if err == nil {
		err = w.out.Close()
	}
	if err != nil && !gone(w.l.req) {
		w.t.p.t.Errorf("publisher: track %s: %v", w.t.plan.name, err)
	}
}

// subscriberHost adds a host with the paths of a subscriber.
func (s *scenario) subscriberHost(p *subscriberPlan) (*netsim.Host, error) {
	return s.net.Host(s.address(), p.up, p.down)
}
