package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/moq"
)

// Defaults of PublishConfig.
const (
	DefaultStartDelay = time.Second
	DefaultLinger     = time.Second
	DefaultNamespace  = "clip"
)

// PublishConfig says what to publish and how.
type PublishConfig struct {
	// Namespace has parts that are divided by slashes; default DefaultNamespace.
	Namespace string
	// Clip is the media, with its layout set.
	Clip *media.Clip
	// StartDelay is the time from the first SUBSCRIBE to the start of the clip, so that subscribers who come together all
	// get its first group. Half of it is how long catalogs are sent before their group. Default DefaultStartDelay.
	StartDelay time.Duration
	// Limit ends the clip early; default: not.
	Limit time.Duration
	// Loop plays the clip again and again, with group numbers and times that go on, until the context ends.
	Loop bool
	// AudioDatagrams sends audio in datagrams, as far as an object fits one.
	AudioDatagrams bool
	// Linger is how long the connection is kept after the end, for what was lost to be sent again. Default DefaultLinger.
	Linger time.Duration
	// OnAnnounced is called when the relay has accepted the namespace.
	OnAnnounced func()
	// OnObject is called after each object with how many were sent, and how many there will be, 0 with Loop.
	OnObject func(sent, total int)
	// Logger is for what happens; default: discarded.
	Logger *slog.Logger
}

func (c PublishConfig) withDefaults() PublishConfig {
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.StartDelay == 0 {
		c.StartDelay = DefaultStartDelay
	}
	if c.Linger == 0 {
		c.Linger = DefaultLinger
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Publish announces the namespace, waits for the first subscription, plays the clip in real time and ends all
// subscriptions with PUBLISH_DONE. It does not close conn. When ctx ends, what was published so far is returned without an
// error; when the connection does, with one.
func Publish(ctx context.Context, conn *Conn, cfg PublishConfig) (*Published, error) {
	cfg = cfg.withDefaults()
	if cfg.Clip == nil || len(cfg.Clip.Tracks) == 0 {
		return nil, errors.New("there is nothing to publish: the clip has no tracks")
	}
	p := newPlayer(conn, cfg)
	s, err := conn.connect(ctx, moq.Handlers{Subscribe: p.onSubscribe})
	if err != nil {
		return nil, err
	}
	namespace := strings.Split(cfg.Namespace, "/")
	p.namespace = namespace
	p.session = s
	close(p.connected)
	if err := s.Announce(ctx, namespace); err != nil {
		return nil, sessionError(conn, fmt.Sprintf("announce the namespace %q", cfg.Namespace), err)
	}
	cfg.Logger.Info("announced", "namespace", cfg.Namespace, "draft", int(s.Draft()), "cipher", conn.Cipher())
	if cfg.OnAnnounced != nil {
		cfg.OnAnnounced()
	}
	// The streams end with this context and with the connection.
	playing, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { cancel(errStopped) })
	defer stop()
	stopped := p.play(playing)
	p.finish(playing)
	p.published.Stopped = stopped != nil
	if s.Context().Err() != nil && ctx.Err() == nil {
		return &p.published, sessionError(conn, "publish", context.Cause(s.Context()))
	}
	if stopped != nil {
		linger(s.Context(), context.Background(), min(cfg.Linger, lingerStopped))
	} else {
		linger(s.Context(), ctx, cfg.Linger)
	}
	return &p.published, nil
}

// lingerStopped is enough for PUBLISH_DONE to get out.
const lingerStopped = 200 * time.Millisecond

var errStopped = errors.New("stopped")

// linger waits for d, or less if one of the contexts ends.
func linger(a, b context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.Done():
	case <-b.Done():
	}
}

// sessionError makes one line of what ended a session.
func sessionError(conn *Conn, doing string, err error) error {
	if conn.quic.Context().Err() != nil {
		return fmt.Errorf("lost the relay at %v (%w): cannot %s", conn.quic.RemoteAddr(), errors.Join(ErrRelayGone, context.Cause(conn.quic.Context())), doing)
	}
	return fmt.Errorf("cannot %s: %w", doing, err)
}

// ErrRelayGone says that the connection ended before the work was done.
var ErrRelayGone = errors.New("relay is gone")

// player plays a clip to all subscriptions.
type player struct {
	cfg       PublishConfig
	conn      *Conn
	namespace []string
	tracks    []*media.Track
	connected chan struct{} // session and namespace are set
	session   *moq.Session
	first     chan struct{} // closed at the first SUBSCRIBE
	started   sync.Once
	writers   sync.WaitGroup
	slots     chan struct{} // bounds the open streams

	mu        sync.Mutex
	ended     bool
	largest   map[string]*moq.Location
	subs      map[string][]*publication
	published Published
}

const maxOpenStreams = 4096

func newPlayer(conn *Conn, cfg PublishConfig) *player {
	return &player{
		cfg: cfg, conn: conn,
		tracks:    append([]*media.Track{cfg.Clip.CatalogTrack()}, cfg.Clip.Tracks...),
		connected: make(chan struct{}), first: make(chan struct{}), slots: make(chan struct{}, maxOpenStreams),
		largest: make(map[string]*moq.Location), subs: make(map[string][]*publication),
		published: Published{Namespace: cfg.Namespace, Draft: uint8(conn.Draft()), Cipher: conn.Cipher(), Objects: []Object{}},
	}
}

// onSubscribe answers a SUBSCRIBE.
func (p *player) onSubscribe(r *moq.Request) {
	<-p.connected
	i := slices.IndexFunc(p.tracks, func(t *media.Track) bool { return t.Name == r.Track })
	if i < 0 || !slices.Equal(r.Namespace, p.namespace) {
		_ = r.Reject(moq.SubscribeTrackDoesNotExist, fmt.Sprintf("no track %s/%s", strings.Join(r.Namespace, "/"), r.Track))
		return
	}
	p.mu.Lock()
	largest := p.largest[r.Track]
	pub := newPublication(p, p.tracks[i], r, largest)
	ended := p.ended
	if !ended {
		p.subs[r.Track] = append(p.subs[r.Track], pub)
		if !slices.Contains(p.published.Tracks, r.Track) {
			p.published.Tracks = append(p.published.Tracks, r.Track)
		}
	}
	p.mu.Unlock()

	alias, err := r.Accept(largest)
	pub.accepted(alias, err)
	if err != nil {
		p.cfg.Logger.Warn("subscription failed", "track", r.Track, "err", err)
		return
	}
	p.cfg.Logger.Info("subscribed", "track", r.Track, "alias", alias, "start", pub.start)
	p.started.Do(func() { close(p.first) })
	if ended {
		_ = r.Done(moq.DoneTrackEnded, 0, "the clip is over")
	}
}

// play sends all objects at their times. It returns why it ended early, if it did.
func (p *player) play(ctx context.Context) error {
	select {
	case <-p.first:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	events := schedule(p.tracks, p.cfg.StartDelay/2, p.cfg.Limit)
	total := len(events)
	if p.cfg.Loop {
		total = 0
	}
	start := time.Now().Add(p.cfg.StartDelay)
	timer := time.NewTimer(0)
	defer timer.Stop()
	length := p.cfg.Clip.Duration
	if p.cfg.Limit > 0 {
		length = min(length, p.cfg.Limit)
	}
	var r round
	for sent := 0; ; {
		for i := range events {
			timer.Reset(time.Until(start.Add(r.time + events[i].time)))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := p.send(ctx, &events[i], r); err != nil {
				return err
			}
			sent++
			if p.cfg.OnObject != nil {
				p.cfg.OnObject(sent, total)
			}
		}
		if !p.cfg.Loop || length <= 0 {
			return nil
		}
		r.time += length
		r.group += groups(events)
	}
}

// groups returns one more than the highest group.
func groups(events []event) (n uint64) {
	for i := range events {
		n = max(n, events[i].object().Group+1)
	}
	return n
}

// send hands one object to all subscriptions of its track.
func (p *player) send(ctx context.Context, e *event, r round) error {
	o := e.object()
	at := moq.Location{Group: o.Group + r.group, Object: o.ID}
	var left []*publication
	m := message{event: e, location: at, payload: r.payload(e.track, o)}
	p.mu.Lock()
	p.subs[e.track.Name] = slices.DeleteFunc(p.subs[e.track.Name], func(s *publication) bool {
		if !s.gone() {
			return false
		}
		s.finish()
		left = append(left, s)
		return true
	})
	subs := slices.Clone(p.subs[e.track.Name])
	if l := p.largest[e.track.Name]; l == nil || l.Less(at) {
		p.largest[e.track.Name] = &at
	}
	p.mu.Unlock()
	for _, s := range left {
		_ = s.request.Done(moq.DoneSubscriptionEnded, s.streams.Load(), "unsubscribed") // the relay knows: it asked for it
	}
	var due, datagram bool
	now := time.Now()
	for _, s := range subs {
		sent, asDatagram, err := s.send(ctx, m)
		if err != nil {
			return err
		}
		due, datagram = due || sent, datagram || asDatagram
	}
	if !due || p.cfg.Loop { // an endless list is of no use
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rec := Object{
		Track: e.track.Name, Group: at.Group, Subgroup: o.Subgroup, ID: at.Object, Priority: o.Priority,
		Bytes: len(m.payload), SHA256: hashOf(m.payload), Datagram: datagram, Time: now,
	}
	if datagram {
		rec.Subgroup = 0
	}
	p.published.Objects = append(p.published.Objects, rec)
	p.published.Bytes += uint64(rec.Bytes)
	return nil
}

// finish waits for all streams to be written and ends the subscriptions.
func (p *player) finish(ctx context.Context) {
	p.mu.Lock()
	p.ended = true
	var all []*publication
	for _, l := range p.subs {
		all = append(all, l...)
	}
	p.mu.Unlock()
	code, reason := uint64(moq.DoneTrackEnded), "the clip is over"
	if ctx.Err() != nil {
		code, reason = moq.DoneGoingAway, "the publisher was stopped"
	}
	for _, s := range all {
		s.finish()
	}
	p.writers.Wait()
	for _, s := range all {
		p.published.Streams += s.streams.Load()
		if err := s.request.Done(code, s.streams.Load(), reason); err != nil {
			p.cfg.Logger.Debug("PUBLISH_DONE not sent", "track", s.track.Name, "err", err)
		}
	}
}
