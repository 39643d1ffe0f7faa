package relay_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// patience bounds what a subscriber waits for: virtual time.
const patience = 5 * time.Minute

// scenarioSubscriber is a host with the visits of its plan.
type scenarioSubscriber struct {
	*scenario
	index    int
	plan     *subscriberPlan
	sessions []*receivingSession
	visits   []*subscription
	died     bool
}

// subscription is a subscription to one track.
type subscription struct {
	*moq.Subscription
	in     *receivingSession
	track  int
	visit  visit
	start  moq.Location // asked for, or that which the filter means
	last   uint64       // group, with ranged
	ranged bool
	at     time.Duration // since the start of the scenario
	from   time.Time
}

// receivingSession is a session with all that it has received.
type receivingSession struct {
	session *moq.Session
	conn    *quic.Conn
	host    *netsim.Host
	reading sync.WaitGroup

	mu        sync.Mutex
	streams   []*receivedStream
	datagrams [][]byte
	cleanUp   []func()
}

// receivedStream is guarded by its session's mu.
type receivedStream struct {
	id     quic.StreamID
	data   []byte
	err    error
	ended  bool
	closed bool // it ended after the subscriber had closed its session
}

func (h *scenarioSubscriber) logf(format string, args ...any) {
	h.logger.Info(fmt.Sprintf("subscriber %d: ", h.index) + fmt.Sprintf(format, args...))
}

func (h *scenarioSubscriber) errorf(format string, args ...any) {
	h.logf(format, args...)
	h.t.Errorf("%v: subscriber %d: %s", time.Since(h.start), h.index, fmt.Sprintf(format, args...))
}

func (h *scenarioSubscriber) run() {
	var r *receivingSession
	for _, v := range h.plan.visits {
		time.Sleep(v.after)
		if r == nil {
			if r = h.connect(); r == nil {
				return
			}
		}
		subs := h.subscribe(r, v)
		if v.end == stays {
			h.awaitEnd(r, subs)
			break
		}
		time.Sleep(v.stay)
		h.logf("%v", v.end)
		switch v.end {
		case unsubscribes:
			for _, sub := range subs {
				if err := sub.Unsubscribe(); err != nil {
					h.errorf("unsubscribe: %v", err)
				}
			}
		case closes:
			h.close(r)
			r = nil
		case dies:
			h.died = true
			r.host.Die()
			h.close(r)
			r = nil
		}
	}
	if r != nil {
		h.close(r)
	}
}

func (h *scenarioSubscriber) connect() *receivingSession {
	r := &receivingSession{}
	var err error
	host := func() (*netsim.Host, error) { return h.subscriberHost(h.plan) }
	if r.host, r.conn, r.session, err = h.scenario.connect(host, h.plan.draft, h.plan.config(), moq.Handlers{}); err != nil {
		h.errorf("connect: %v", err)
		return nil
	}
	h.logf("connected from %v", r.host.LocalAddr())
	h.sessions = append(h.sessions, r)
	r.reading.Go(func() { r.readStreams() })
	r.reading.Go(func() { r.readDatagrams() })
	if h.plan.rebind > 0 {
		timer := time.AfterFunc(h.plan.rebind, func() {
			to := h.address()
			h.logf("its NAT rebinds to %v", to)
			if err := r.host.Rebind(to); err != nil {
				h.errorf("rebind: %v", err)
			}
		})
		r.cleanUp = append(r.cleanUp, func() { timer.Stop() })
	}
	if h.plan.moves > 0 {
		r.reading.Go(func() { h.move(r) })
	}
	return r
}

// move migrates the connection to another path (RFC 9000, section 9), if it still lives then.
func (h *scenarioSubscriber) move(r *receivingSession) {
	select {
	case <-time.After(h.plan.moves):
	case <-r.conn.Context().Done():
		return
	}
	host, err := h.subscriberHost(h.plan)
	if err != nil {
		h.errorf("%v", err)
		return
	}
	addr := host.LocalAddr()
	tr := &quic.Transport{Conn: host}
	defer func() {
		<-r.conn.Context().Done()
		_ = tr.Close()
		_ = host.Close()
	}()
	path, err := r.conn.AddPath(tr)
	if err == nil {
		ctx, cancel := context.WithTimeout(r.conn.Context(), 20*time.Second)
		err = path.Probe(ctx)
		cancel()
	}
	if err == nil {
		err = path.Switch()
	}
	if err != nil { // as when the connection has ended meanwhile, or the probes were lost
		h.logf("did not move to %v: %v", addr, err)
		return
	}
	h.logf("moved to %v", addr)
}

// subscribe subscribes to all tracks with the visit's filter.
func (h *scenarioSubscriber) subscribe(r *receivingSession, v visit) (subs []*subscription) {
	for i, t := range h.pub.tracks {
		sub := &subscription{in: r, track: i, visit: v, at: time.Since(h.start)}
		o := moq.SubscribeOptions{Filter: v.filter, Priority: h.plan.priority, DeliveryTimeout: h.plan.timeout}
		if v.filter >= moq.FilterAbsoluteStart {
			if l := t.largest.Load(); l != nil && !v.past {
				o.Start = moq.Location{Group: l.Group + 1, Object: 1}
			}
			sub.start = o.Start
			if v.filter == moq.FilterAbsoluteRange {
				o.EndGroup = o.Start.Group + 1
				sub.last, sub.ranged = o.EndGroup, true
			}
		}
		ctx, cancel := context.WithTimeout(h.context(), patience)
		var err error
		sub.Subscription, err = r.session.Subscribe(ctx, []string{"live"}, t.plan.name, o)
		cancel()
		if err != nil {
			if over := time.Since(h.start) > h.scenario.plan.length; !over {
				h.errorf("subscribe to %s: %v", t.plan.name, err)
			}
			continue
		}
		next := moq.Location{}
		if sub.Largest != nil {
			next = moq.Location{Group: sub.Largest.Group, Object: sub.Largest.Object + 1}
		}
		switch {
		case v.filter == moq.FilterLargestObject:
			sub.start = next
		case v.filter == moq.FilterNextGroup && sub.Largest != nil:
			sub.start = moq.Location{Group: sub.Largest.Group + 1}
		}
		sub.from = time.Now()
		h.logf("subscribed to %s: filter %d, start %v, largest %v, alias %d", t.plan.name, v.filter, sub.start, sub.Largest, sub.Alias)
		h.visits = append(h.visits, sub)
		subs = append(subs, sub)
	}
	return subs
}

// awaitEnd waits until the publisher has ended the subscriptions, and as many streams as PUBLISH_DONE says have come and ended.
func (h *scenarioSubscriber) awaitEnd(r *receivingSession, subs []*subscription) {
	hung := time.NewTimer(patience)
	defer hung.Stop()
	for _, sub := range subs {
		select {
		case <-sub.Done():
		case <-hung.C:
			h.errorf("track %d does not end", sub.track)
			return
		}
	}
	if err := context.Cause(r.conn.Context()); err != nil {
		h.errorf("connection ended: %v", err)
		return
	}
	for i := 0; ; i++ {
		unended, missing := r.unended(), 0
		for _, sub := range subs {
			if _, count, _ := sub.Result(); count != wire.UnknownStreamCount {
				missing += int(count)
			}
		}
		missing -= r.begun(subs)
		if h.scenario.plan.drops != nil {
			missing -= r.cutOff()
		}
		if unended == 0 && missing <= 0 {
			break
		}
		if i > 600 {
			h.errorf("%d streams hang, %d do not come", unended, missing)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // what comes twice comes now
}

// unended counts the streams that have begun and not ended. The idle ones among those that the relay has reserved are not begun.
func (r *receivingSession) unended() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		if len(s.data) > 0 && !s.ended {
			n++
		}
	}
	return n
}

// begun counts the streams of subscriptions.
func (r *receivingSession) begun(subs []*subscription) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		hd, err := wire.ParseSubgroupHeader(s.data, r.session.Draft())
		if err == nil && slices.ContainsFunc(subs, func(sub *subscription) bool { return sub.Alias == hd.TrackAlias }) {
			n++
		}
	}
	return n
}

func (h *scenarioSubscriber) close(r *receivingSession) {
	for _, f := range r.cleanUp {
		f()
	}
	r.mu.Lock()
	for _, s := range r.streams {
		s.closed = !s.ended
	}
	r.mu.Unlock()
	_ = r.session.Close(0, "")
	r.reading.Wait()
}

func (r *receivingSession) readStreams() {
	for {
		rs, err := r.session.AcceptDataStream(r.conn.Context())
		if err != nil {
			return
		}
		s := &receivedStream{id: rs.StreamID()}
		r.mu.Lock()
		r.streams = append(r.streams, s)
		r.mu.Unlock()
		r.reading.Go(func() {
			b := make([]byte, 4096)
			for {
				n, err := rs.Read(b)
				r.mu.Lock()
				s.data = append(s.data, b[:n]...)
				if err != nil {
					s.ended = true
					if err != io.EOF {
						s.err = err
					}
				}
				r.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
}

func (r *receivingSession) readDatagrams() {
	for {
		b, err := r.session.ReceiveDatagram(r.conn.Context())
		if err != nil {
			return
		}
		r.mu.Lock()
		r.datagrams = append(r.datagrams, b)
		r.mu.Unlock()
	}
}
