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
	"github.com/fastrelay/fastrelay/internal/wire"
)

// DefaultGrace is the default of SubscribeConfig.Grace.
const DefaultGrace = 5 * time.Second

// SubscribeConfig says what to receive and where to put it.
type SubscribeConfig struct {
	// Subscriber numbers the subscriber in its Received.
	Subscriber int
	// Namespace has parts that are divided by slashes; default DefaultNamespace.
	Namespace string
	// Tracks of the catalog; default: all.
	Tracks []string
	// Filter says where to start; default: the next group, which is group 0 if nothing was published yet.
	Filter moq.Filter
	// Start is for the filters that are absolute.
	Start moq.Location
	// Priority of the subscriptions, 0–255, lower is more important; 0 means 128.
	Priority uint8
	// File is the MP4 to write; default: none.
	File string
	// Duration ends the subscriptions that long after the catalog came; default: at the end of the tracks.
	Duration time.Duration
	// Grace is how long streams may still arrive after PUBLISH_DONE. Default DefaultGrace.
	Grace time.Duration
	// OnObject is called for each object that arrived, from several goroutines.
	OnObject func(o *Object)
	// OnSubscribed is called when all tracks have been subscribed to.
	OnSubscribed func()
	// Logger is for what happens; default: discarded.
	Logger *slog.Logger
}

func (c SubscribeConfig) withDefaults() SubscribeConfig {
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.Filter == 0 {
		c.Filter = moq.FilterNextGroup
	}
	if c.Priority == 0 {
		c.Priority = wire.DefaultPriority
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Subscribe subscribes to the catalog of a namespace and to the tracks in it, and reads them to their end. It does not
// close conn. What was received so far is returned with an error too. The end of ctx is no error.
func Subscribe(ctx context.Context, conn *Conn, cfg SubscribeConfig) (*Received, error) {
	cfg = cfg.withDefaults()
	s, err := conn.connect(ctx, moq.Handlers{})
	if err != nil {
		return nil, err
	}
	sub := newSubscriber(conn, s, cfg)
	defer sub.stop()
	err = sub.run(ctx)
	if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil && s.Context().Err() == nil {
		err = nil
	}
	sub.unsubscribe()
	sub.stop()
	return sub.result(err)
}

// subscriber is one subscriber. Its state below mu is changed by the readers of streams and datagrams.
type subscriber struct {
	conn      *Conn
	session   *moq.Session
	cfg       SubscribeConfig
	namespace []string
	reading   context.Context
	cancel    context.CancelFunc
	readers   sync.WaitGroup
	catalog   chan []byte // the first

	mu       sync.Mutex
	tracks   map[uint64]*subscribed // by alias
	order    []*subscribed
	changed  chan struct{} // closed and replaced when tracks or counts change
	closed   bool          // no track will be added
	received Received
	writer   *media.Writer
	early    [][]byte // datagrams that came before their alias was known
	writeErr error
}

// subscribed is a track that was subscribed to.
type subscribed struct {
	name    string
	sub     *moq.Subscription
	first   uint64
	streams uint64 // read to their end
}

func newSubscriber(conn *Conn, s *moq.Session, cfg SubscribeConfig) *subscriber {
	sub := &subscriber{
		conn: conn, session: s, cfg: cfg, namespace: strings.Split(cfg.Namespace, "/"), catalog: make(chan []byte, 1),
		tracks: make(map[uint64]*subscribed), changed: make(chan struct{}),
		received: Received{
			Subscriber: cfg.Subscriber, Draft: uint8(s.Draft()), Cipher: conn.Cipher(),
			Objects: []Object{}, Resets: []Reset{}, Violations: []string{},
		},
	}
	sub.reading, sub.cancel = context.WithCancel(s.Context())
	sub.readers.Go(sub.acceptStreams)
	sub.readers.Go(sub.readDatagrams)
	return sub
}

func (s *subscriber) stop() {
	s.cancel()
	s.readers.Wait()
}

func (s *subscriber) run(ctx context.Context) error {
	if err := s.subscribe(ctx, media.CatalogName); err != nil {
		return err
	}
	var raw []byte
	select {
	case raw = <-s.catalog:
	case <-s.order[0].sub.Done():
		if s.session.Context().Err() != nil {
			return s.lost("wait for the catalog")
		}
		return fmt.Errorf("namespace %q ended before it had a catalog", s.cfg.Namespace)
	case <-ctx.Done():
		return ctx.Err()
	}
	c, err := media.ParseCatalog(raw)
	if err != nil {
		return fmt.Errorf("namespace %q: %w", s.cfg.Namespace, err)
	}
	names, err := s.choose(c)
	if err != nil {
		return err
	}
	if s.cfg.File != "" {
		w, err := media.Create(s.cfg.File, c, media.WriterOptions{Tracks: names})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.writer, s.received.File = w, s.cfg.File
		s.mu.Unlock()
	}
	for _, n := range names {
		if err := s.subscribe(ctx, n); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.closed = true
	s.notify()
	s.mu.Unlock()
	if s.cfg.OnSubscribed != nil {
		s.cfg.OnSubscribed()
	}
	if s.cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Duration)
		defer cancel()
	}
	err = s.wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // Duration is over
	}
	return err
}

// choose returns the names of the wanted tracks.
func (s *subscriber) choose(c *media.Catalog) ([]string, error) {
	var have []string
	for _, t := range c.Tracks {
		have = append(have, t.Name)
	}
	if len(s.cfg.Tracks) == 0 {
		return have, nil
	}
	for _, n := range s.cfg.Tracks {
		if !slices.Contains(have, n) {
			return nil, fmt.Errorf("namespace %q has no track %q: it has %s", s.cfg.Namespace, n, strings.Join(have, ", "))
		}
	}
	return s.cfg.Tracks, nil
}

// subscribe adds a track.
func (s *subscriber) subscribe(ctx context.Context, name string) error {
	sub, err := s.session.Subscribe(ctx, s.namespace, name, moq.SubscribeOptions{
		Priority: s.cfg.Priority, PrioritySet: true, Filter: s.cfg.Filter, Start: s.cfg.Start,
	})
	if err != nil {
		var refused *moq.SubscribeError
		switch {
		case errors.As(err, &refused) && refused.Code == moq.SubscribeTrackDoesNotExist:
			return fmt.Errorf("the relay knows no track %s/%s: is a publisher running with --namespace %s?", s.cfg.Namespace, name, s.cfg.Namespace)
		case ctx.Err() != nil:
			return err
		}
		return sessionError(s.conn, fmt.Sprintf("subscribe to %s/%s", s.cfg.Namespace, name), err)
	}
	t := &subscribed{name: name, sub: sub, first: firstGroup(s.cfg, sub.Largest)}
	s.cfg.Logger.Info("subscribed", "track", name, "alias", sub.Alias, "first_group", t.first)
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.tracks[sub.Alias]; other != nil {
		return fmt.Errorf("the relay gave the tracks %q and %q one alias", other.name, name)
	}
	s.tracks[sub.Alias] = t
	s.order = append(s.order, t)
	s.notify()
	early := s.early
	s.early = nil
	for _, d := range early {
		s.datagram(d)
	}
	return nil
}

// firstGroup returns the first group that is due as a whole.
func firstGroup(c SubscribeConfig, largest *moq.Location) uint64 {
	var first uint64
	if largest != nil {
		first = largest.Group + 1
	}
	if c.Filter == moq.FilterAbsoluteStart || c.Filter == moq.FilterAbsoluteRange {
		if c.Start.Object > 0 {
			first = max(first, c.Start.Group+1)
		} else {
			first = max(first, c.Start.Group)
		}
	}
	return first
}

// notify wakes those who wait for a change. The caller holds mu.
func (s *subscriber) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait returns when all tracks have ended and all of their streams have been read, or will not come.
func (s *subscriber) wait(ctx context.Context) error {
	s.mu.Lock()
	tracks := slices.Clone(s.order)
	s.mu.Unlock()
	for _, t := range tracks {
		select {
		case <-t.sub.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
		if s.session.Context().Err() != nil {
			return s.lost("receive " + t.name)
		}
	}
	grace := time.NewTimer(s.cfg.Grace)
	defer grace.Stop()
	for {
		s.mu.Lock()
		changed, complete := s.changed, s.complete(tracks)
		s.mu.Unlock()
		if complete {
			break
		}
		select {
		case <-changed:
		case <-grace.C:
			return nil // the manifest says what is incomplete
		case <-s.session.Context().Done():
			return s.lost("receive the last streams")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.anyDatagram() { // nobody says how many there are
		linger(s.session.Context(), ctx, min(s.cfg.Grace, datagramGrace))
	}
	return nil
}

// datagramGrace is how long datagrams may come after the last stream.
const datagramGrace = 250 * time.Millisecond

func (s *subscriber) anyDatagram() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.received.Objects, func(o Object) bool { return o.Datagram })
}

// complete compares the streams that were read with those of PUBLISH_DONE. Streams that were reset before their header
// came may be of any track. The caller holds mu.
func (s *subscriber) complete(tracks []*subscribed) bool {
	missing := uint64(0)
	for _, t := range tracks {
		_, streams, _ := t.sub.Result()
		if streams != wire.UnknownStreamCount && streams > t.streams {
			missing += streams - t.streams
		}
	}
	return missing <= uint64(s.received.UnknownReset)
}

func (s *subscriber) lost(doing string) error {
	return sessionError(s.conn, doing, context.Cause(s.session.Context()))
}

// unsubscribe ends what has not ended.
func (s *subscriber) unsubscribe() {
	s.mu.Lock()
	tracks := slices.Clone(s.order)
	s.mu.Unlock()
	for _, t := range tracks {
		if s.session.Context().Err() == nil {
			_ = t.sub.Unsubscribe() // the connection is closed next
		}
	}
}

// result closes the file and returns the manifest. No reader runs any more.
func (s *subscriber) result(err error) (*Received, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	complete := s.complete(s.order)
	for _, t := range s.order {
		start := TrackStart{Track: t.name, FirstGroup: t.first, Streams: t.streams}
		select {
		case <-t.sub.Done():
			code, streams, reason := t.sub.Result()
			if streams != wire.UnknownStreamCount {
				start.Announced = streams
			}
			switch code {
			case moq.DoneTrackEnded:
				start.Done = true
			case moq.DoneSubscriptionEnded, moq.DoneGoingAway: // we or the publisher were asked to stop
			default:
				start.Failed = fmt.Sprintf("ended with code %d: %s", code, reason)
			}
			start.Incomplete = !complete && start.Announced > t.streams
		default:
		}
		s.received.Tracks = append(s.received.Tracks, start)
	}
	if s.writer != nil {
		err = errors.Join(err, s.writer.Close())
	}
	return &s.received, errors.Join(err, s.writeErr)
}
