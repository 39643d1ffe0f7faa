package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/cache"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// How long the end of a track waits for streams that the publisher has opened: for those that have not come yet, and for
// those that have not ended; and for datagrams that PUBLISH_DONE has overtaken, if there were any: nobody says how many there are.
const (
	lateStreams   = 2 * time.Second
	unendedAfter  = 30 * time.Second
	lateDatagrams = 100 * time.Millisecond
)

// track is one subscription upstream and the subscriptions that it serves.
type track struct {
	relay     *Relay
	number    uint64 // no other track of the relay has it
	publisher *peer
	namespace []string
	name      string
	key       string
	log       *slog.Logger
	ctx       context.Context // ends when nobody needs the track any more
	cancel    context.CancelFunc

	users  int         // callers of enter; guarded by relay.mu
	linger *time.Timer // guarded by relay.mu

	ready chan struct{} // closed when the publisher has answered; then err and sub are set
	err   error
	sub   *moq.Subscription

	over   chan struct{} // closed when the track has ended and all its streams have; then code and reason are set
	code   uint64
	reason string

	// The track in the datapath, once bound is set, until over is closed.
	bound    atomic.Bool
	id       datapath.TrackID
	upstream datapath.UpstreamID
	refused  bool       // by the datapath; of run alone
	binding  sync.Mutex // serialises changes of subscriptions in the datapath; taken before mu

	mu      sync.Mutex
	subs    []*subscriber
	streams map[*stream]struct{} // being read
	changed chan struct{}        // closed and replaced when a stream begins or ends
	seen    uint64               // streams that have come
	closed  bool                 // no stream is taken any more
	content bool                 // largest is set
	largest moq.Location         // largest object that has begun

	cache *cache.Track[body] // nil: nothing is held; set before ready is closed

	objects, bytes, datagrams atomic.Uint64
}

func newTrack(r *Relay, p *peer, namespace []string, name, k string) *track {
	t := &track{
		relay: r, publisher: p, namespace: namespace, name: name, key: k,
		log:   p.log.With("track", strings.Join(namespace, "/")+"/"+name),
		ready: make(chan struct{}), over: make(chan struct{}), changed: make(chan struct{}),
		streams: make(map[*stream]struct{}),
	}
	t.ctx, t.cancel = context.WithCancel(r.ctx)
	return t
}

// failed reports whether the publisher has refused the track, or has ended it.
func (t *track) failed() bool {
	select {
	case <-t.over:
		return true
	default:
		return false
	}
}

// ending reports whether nobody needs the track any more, or the publisher has ended it.
func (t *track) ending() bool {
	select {
	case <-t.ctx.Done():
	case <-t.sub.Done():
	default:
		return false
	}
	return true
}

// run is the track's life.
func (t *track) run() {
	defer t.cancel()
	t.publisher.publish()
	ctx, cancel := context.WithTimeout(t.ctx, t.relay.cfg.SetupTimeout)
	t.publisher.ask()
	t.sub, t.err = t.publisher.session.Subscribe(ctx, t.namespace, t.name, moq.SubscribeOptions{})
	cancel()
	if t.err == nil && !t.publisher.claimAlias(t.sub.Alias, t) {
		t.err = fmt.Errorf("publisher uses alias %d for two tracks", t.sub.Alias)
		_ = t.publisher.session.Close(moq.CodeDuplicateAlias, t.err.Error())
	}
	if t.err != nil {
		t.publisher.answered()
		t.log.Info("subscription refused", "error", t.err)
		t.remove()
		close(t.over)
		close(t.ready)
		return
	}
	if l := t.sub.Largest; l != nil {
		t.content, t.largest = true, *l
	}
	t.openCache()
	refused := t.bind()
	t.publisher.addAlias(t.sub.Alias, t)
	t.publisher.answered()
	close(t.ready)
	t.log.Info("track started", "bound", t.bound.Load())
	t.awaitEnd(refused)

	select {
	case <-t.ctx.Done():
		_ = t.sub.Unsubscribe() // fails only with the connection
		t.code, t.reason = moq.DoneGoingAway, "relay is shutting down"
	case <-t.sub.Done():
		var count uint64
		t.code, count, t.reason = t.sub.Result()
		if t.publisher.conn.Context().Err() != nil {
			t.code, t.reason = moq.DoneInternal, t.publisher.gone()
		}
		t.remove()
		t.awaitStreams(count)
		t.awaitDatagrams()
	}
	t.close()
	t.closeCache()
	t.log.Info("track ended", "code", t.code, "reason", t.reason)
	close(t.over)
}

// remove lets later subscriptions make a new track.
func (t *track) remove() {
	r := t.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tracks[t.key] == t {
		delete(r.tracks, t.key)
	}
}

// awaitStreams waits until the streams that the publisher opened have come and ended.
func (t *track) awaitStreams(count uint64) {
	late := time.NewTimer(lateStreams)
	defer late.Stop()
	end := time.NewTimer(unendedAfter)
	defer end.Stop()
	missing := true
	for {
		t.mu.Lock()
		missing = missing && t.seen < count
		reading, changed := len(t.streams), t.changed
		t.mu.Unlock()
		if !missing && reading == 0 {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			missing = false
		case <-end.C:
			return
		case <-t.publisher.conn.Context().Done():
			return // the readers notice by themselves
		}
	}
}

// awaitDatagrams waits for late datagrams, if the track has any or nothing has come of it yet.
func (t *track) awaitDatagrams() {
	t.mu.Lock()
	streams := t.seen
	t.mu.Unlock()
	if t.datagrams.Load() == 0 && streams > 0 {
		return
	}
	late := time.NewTimer(lateDatagrams)
	defer late.Stop()
	select {
	case <-late.C:
	case <-t.publisher.conn.Context().Done():
	}
}

// close takes the track off the publisher's streams, and ends those that are left.
func (t *track) close() {
	t.mu.Lock()
	t.closed = true
	left := make([]*stream, 0, len(t.streams))
	for st := range t.streams {
		left = append(left, st)
	}
	t.mu.Unlock()
	t.unbind()
	t.publisher.removeAlias(t.sub.Alias, t)
	for _, st := range left {
		st.rs.CancelRead(codeCancelled)
	}
	for {
		t.mu.Lock()
		reading, changed := len(t.streams), t.changed
		t.mu.Unlock()
		if reading == 0 {
			return
		}
		<-changed
	}
}

// signal wakes those who wait for a change of streams. It needs t.mu.
func (t *track) signal() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// begin enters a stream that has come, and gives every subscriber that wants it a sender. It returns false if the track
// has ended.
func (t *track) begin(st *stream) bool {
	bound := t.bound.Load()
	if bound {
		t.decide(st)
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	t.seen++
	t.streams[st] = struct{}{}
	t.signal()
	for _, s := range t.subs {
		t.attach(s, st, true)
	}
	t.mu.Unlock()
	st.mu.Lock()
	fast := st.fast // is replaced, never changed
	st.mu.Unlock()
	for _, f := range fast {
		if _, err := f.fs.Write(wire.RewriteAlias(nil, st.head, &st.header, f.s.alias)); err != nil {
			st.failFast(f, err)
		}
	}
	cancelFast(st.unwanted)
	if st.counted = bound; bound && int(t.publisher.reading.Add(1)) > t.relay.cfg.MaxFastStreams {
		t.relay.counts.add("too_many_fast_streams", 1)
		t.publisher.settle(st.id, true) // its senders finish it
	}
	return true
}

// decide makes sure that the datapath has decided who has a stream, before anybody is asked: it opens a stream once, for all. Where it
// has done so for nobody, it may not have seen the stream's start, in a packet that it could not read, and must not take a
// retransmission for it.
func (t *track) decide(st *stream) {
	t.mu.Lock()
	fast, bound := 0, 0
	for _, s := range t.subs {
		if s.bound {
			bound++
			if _, ok := s.peer.fast.Opened(t.upstream, st.id); ok {
				fast++
			}
		}
	}
	t.mu.Unlock()
	if fast == 0 || fast < bound {
		t.publisher.settle(st.id, fast == 0)
	}
}

// end takes a stream out that has been read to its end.
func (t *track) end(st *stream) {
	t.mu.Lock()
	delete(t.streams, st)
	t.signal()
	t.mu.Unlock()
	if st.counted {
		t.publisher.reading.Add(-1)
	}
	if t.bound.Load() {
		t.publisher.evictLater(t.upstream, st.id)
	}
}

// attach gives a subscriber a sender for a stream, if it wants any of it. It needs t.mu. A stream that is new to the relay
// may be one that the datapath has opened for the subscriber.
func (t *track) attach(s *subscriber, st *stream, isNew bool) {
	if isNew && s.bound {
		if fs := s.peer.fast.FastStream(t.upstream, st.id); fs != nil {
			st.addFast(s, fs)
			return
		}
	}
	if s.leaving || !s.wants(st.header.Group) {
		return
	}
	same := s.peer.draft == t.publisher.draft
	switch {
	case !same:
		t.relay.counts.add("draft_mismatch", 1)
	case !isNew:
		t.relay.counts.add("late_join", 1)
	case s.bound:
		t.relay.counts.add("not_taken", 1)
	}
	if isNew { // of one that has begun, the subscriber is to have the rest
		if r := s.admits(st); r != datapath.Forwarded {
			s.lost.Add(1)
			s.ledger.published(st.header.Priority)
			s.ledger.dropped(st.header.Priority, r.String())
			t.relay.counts.add(r.String(), 1)
			return
		}
	}
	st.addSender(s, !same, isNew && same && s.wantsAll(st.header.Group))
}

// object notes that an object of a stream has begun, and starts the senders that waited for it.
func (t *track) object(st *stream, o *wire.Object, at cursor) {
	t.objects.Add(1)
	st.hold(o, at, st.lastAt)
	l := moq.Location{Group: st.header.Group, Object: o.ID}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.content || t.largest.Less(l) {
		t.content, t.largest = true, l
	}
	st.activate(o, at)
	st.expect(o, at)
}
