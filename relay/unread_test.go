package relay_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// resetCodes collects how the streams that come on a session are reset.
type resetCodes struct {
	mu    sync.Mutex
	codes map[quic.StreamErrorCode]int
}

func (r *resetCodes) collect(s *moq.Session) {
	r.codes = make(map[quic.StreamErrorCode]int)
	for {
		rs, err := s.AcceptDataStream(s.Context())
		if err != nil {
			return
		}
		go func() {
			_, err := io.Copy(io.Discard, rs)
			var reset *quic.StreamError
			if errors.As(err, &reset) && reset.Remote {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.codes[reset.ErrorCode]++
			}
		}()
	}
}

// check says what differs from n resets with a code, and no other.
func (r *resetCodes) check(t *testing.T, n int, code quic.StreamErrorCode) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.codes[code] != n || len(r.codes) > min(n, 1) {
		t.Errorf("resets by code: %v, want %d with %d", r.codes, n, code)
	}
}

// openings counts the streams that the datapath opens for clients.
type openings struct {
	mu sync.Mutex
	n  int
}

func (o *openings) record(r *datapath.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range r.Frames {
		if r.Frames[i].Opened {
			o.n++
		}
	}
}

func (o *openings) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n
}

// unread is a publisher below which packets are forged, a subscriber of its track, and what becomes of the streams between them.
type unread struct {
	w      *world
	dp     *sim.Sim
	pub    *hostile
	ask    ask
	sub    *moq.Subscription
	opened openings
	resets resetCodes
}

func inUnread(t *testing.T, test func(*unread)) {
	t.Helper()
	u := &unread{}
	inFastWorldWith(t, relay.Config{OnRecord: u.opened.record}, func(w *world, dp *sim.Sim) {
		u.w, u.dp, u.pub = w, dp, w.hostile(wire.Draft16, nil)
		pub := w.publisherOn(u.pub.conn, "live")
		s, _ := w.session(wire.Draft16, nil)
		u.sub, u.ask = w.subscribe(s, moq.SubscribeOptions{}), <-pub.asks
		go u.resets.collect(s)
		sleep(w.t, 1)
		test(u)
	})
}

// id is the ID of the publisher's i-th stream.
func (u *unread) id(i int) uint64 { return uint64(4*i + 2) }

// start returns the frame that begins the publisher's i-th stream, and what is on it.
func (u *unread) start(i int) (frame []byte, size uint64) {
	head := wire.SubgroupHeader{TrackAlias: u.ask.alias, Group: uint64(i), Priority: 7}
	b := wire.AppendObjectHeader(head.Append(nil, wire.Draft16), wire.Draft16, false, 0, nil, 1000, 0)
	return wire.AppendStream(nil, u.id(i), 0, b, false, true), uint64(len(b))
}

// check says what is not as it should be once the track has ended: n streams were begun for the subscriber and reset with a code.
func (u *unread) check(n int, code quic.StreamErrorCode, why string) {
	t := u.w.t
	t.Helper()
	<-u.sub.Done()
	sleep(t, 1)
	u.resets.check(t, n, code)
	if _, count, _ := u.sub.Result(); count != uint64(n) {
		t.Errorf("PUBLISH_DONE says %d streams, want %d", count, n)
	}
	if tally := u.w.relay.Stats().Ended[7]; tally.Published != uint64(n) || tally.Reset[why] != uint64(n) {
		t.Errorf("%d streams were begun: %+v", n, tally)
	}
	if streams, clients := u.dp.Entries(); streams+clients > 0 {
		t.Errorf("datapath has %d streams and %d streams of clients left", streams, clients)
	}
}

const unreadStreams = 20

// TestResetUnread: the datapath forwards the start of streams that the publisher resets in the same packet, so that userspace reads
// nothing of them. The subscriber gets the reset at once with the publisher's code, and PUBLISH_DONE and the tallies count the streams.
func TestResetUnread(t *testing.T) {
	inUnread(t, func(u *unread) {
		t := u.w.t
		for i := range unreadStreams {
			b, size := u.start(i)
			u.pub.send(wire.AppendResetStream(b, u.id(i), 9, size))
		}
		time.Sleep(3 * delay)
		u.resets.check(t, u.opened.count(), 9)
		began := time.Now()
		must(t, u.ask.req.Done(moq.DoneTrackEnded, unreadStreams, "over"))
		<-u.sub.Done()
		if n := u.opened.count(); n == unreadStreams && time.Since(began) > time.Second {
			t.Errorf("the track's end waited %v for streams that have ended", time.Since(began))
		}
		u.check(u.opened.count(), 9, "publisher_reset")
		if u.opened.count() == 0 {
			t.Error("the datapath opened nothing")
		}
	})
}

// TestResetOvertakes: the reset of a stream comes before its start, which the datapath must leave alone then: nobody would end it.
func TestResetOvertakes(t *testing.T) {
	inUnread(t, func(u *unread) {
		for i := range unreadStreams {
			b, size := u.start(i)
			u.pub.send(wire.AppendResetStream(nil, u.id(i), 9, size), b)
		}
		sleep(u.w.t, 1)
		must(u.w.t, u.ask.req.Done(moq.DoneTrackEnded, unreadStreams, "over"))
		u.check(0, 9, "publisher_reset")
	})
}

// TestPublisherEndsUnread: the publisher's connection ends in the packet that begins its last streams.
func TestPublisherEndsUnread(t *testing.T) {
	inUnread(t, func(u *unread) {
		var b []byte
		for i := range 3 {
			frame, _ := u.start(i)
			b = append(b, frame...)
		}
		u.pub.send(wire.AppendConnectionCloseApp(b, 0, ""))
		u.check(3, 0, "publisher_reset")
	})
}

// deafConn is a socket that loses packets behind the datapath, as one does whose buffer is full.
type deafConn struct {
	net.PacketConn
	deaf atomic.Bool
}

func (c *deafConn) over(pc net.PacketConn) net.PacketConn {
	c.PacketConn = pc
	return c
}

func (c *deafConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil || !c.deaf.Load() {
			return n, from, err
		}
	}
}

// TestSubscriberLeavesUnread: the subscriber leaves when the datapath has forwarded the start of a stream, and before userspace reads it.
func TestSubscriberLeavesUnread(t *testing.T) {
	var deaf deafConn
	fastWorld{between: deaf.over}.run(t, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		u := &unread{w: w}
		go u.resets.collect(s)
		sub, a := w.subscribe(s, moq.SubscribeOptions{}), <-pub.asks
		sleep(t, 1)
		deaf.deaf.Store(true)
		out := pub.stream(wire.SubgroupHeader{TrackAlias: a.alias, Group: 1}, wire.Object{Payload: []byte("x")})
		time.Sleep(delay + time.Millisecond)
		deaf.deaf.Store(false)
		must(t, sub.Unsubscribe())
		time.Sleep(3 * delay)
		u.resets.check(t, 1, 1)
		sub = w.subscribe(s, moq.SubscribeOptions{})
		sleep(t, 1)
		if _, clients := dp.Entries(); clients > 0 {
			t.Errorf("datapath has %d streams of a client that has left", clients)
		}
		must(t, out.Close())
		must(t, pub.stream(wire.SubgroupHeader{TrackAlias: a.alias, Group: 2}, wire.Object{Payload: []byte("x")}).Close())
		sleep(t, 1)
		must(t, a.req.Done(moq.DoneTrackEnded, 2, "over"))
		<-sub.Done()
		if _, n, _ := sub.Result(); n != 2 { // the first one again, as a subscription that is new gets it
			t.Errorf("PUBLISH_DONE says %d streams", n)
		}
		sleep(t, 1)
		if streams, clients := dp.Entries(); streams+clients > 0 {
			t.Errorf("datapath has %d streams and %d streams of clients left", streams, clients)
		}
	})
}

// TestResetUnheard: the socket loses the packets behind the datapath, so that nothing of the streams reaches QUIC but their resets.
func TestResetUnheard(t *testing.T) {
	var deaf deafConn
	fastWorld{between: deaf.over}.run(t, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		u := &unread{w: w, dp: dp, sub: w.subscribe(s, moq.SubscribeOptions{}), ask: <-pub.asks}
		go u.resets.collect(s)
		sleep(t, 1)
		deaf.deaf.Store(true)
		var outs []*quic.SendStream
		for i := range uint64(datapath.MaxForward) { // in one packet
			outs = append(outs, pub.stream(wire.SubgroupHeader{TrackAlias: u.ask.alias, Group: i, Priority: 7}, wire.Object{Payload: []byte("x")}))
		}
		time.Sleep(delay + time.Millisecond)
		deaf.deaf.Store(false)
		for _, out := range outs {
			out.CancelWrite(9)
		}
		time.Sleep(3 * delay)
		u.resets.check(t, datapath.MaxForward, 9)
		must(t, u.ask.req.Done(moq.DoneTrackEnded, datapath.MaxForward, "over"))
		u.check(datapath.MaxForward, 9, "publisher_reset")
	})
}

// TestSubscriberStopsUnread: the subscriber stops streams, in the moment in which their reset comes, or while the relay waits for it.
func TestSubscriberStopsUnread(t *testing.T) {
	inFastWorld(t, func(w *world, dp *sim.Sim) {
		t := w.t
		h := w.hostile(wire.Draft16, nil)
		pub := w.publisherOn(h.conn, "live")
		s, _ := w.session(wire.Draft16, nil)
		sub, a := w.subscribe(s, moq.SubscribeOptions{}), <-pub.asks
		u := &unread{w: w, dp: dp, pub: h, ask: a, sub: sub}
		go func() {
			for {
				rs, err := s.AcceptDataStream(s.Context())
				if err != nil {
					return
				}
				go func() {
					if _, err := rs.Read(make([]byte, 1)); err == nil {
						rs.CancelRead(3)
					}
				}()
			}
		}()
		sleep(t, 1)
		for i := range unreadStreams {
			b, size := u.start(i)
			if i%2 == 0 {
				h.send(b)
				time.Sleep(time.Duration(i) * time.Millisecond)
				b = nil
			}
			h.send(wire.AppendResetStream(b, u.id(i), 9, size))
		}
		sleep(t, 1)
		must(t, a.req.Done(moq.DoneTrackEnded, unreadStreams, "over"))
		<-sub.Done()
		sleep(t, 1)
		tally := w.relay.Stats().Ended[7]
		if _, count, _ := sub.Result(); tally.Open > 0 || tally.Published != ended(&tally) || count != tally.Published {
			t.Errorf("PUBLISH_DONE says %d streams: %+v", count, tally)
		}
		if tally.Reset["publisher_reset"] == 0 || tally.Reset["subscriber_stopped"] == 0 {
			t.Errorf("not both happened: %+v", tally)
		}
		if streams, clients := dp.Entries(); streams+clients > 0 {
			t.Errorf("datapath has %d streams and %d streams of clients left", streams, clients)
		}
	})
}

// TestStockPublisherResets: a stock publisher resets streams at any moment, also before their first packet has left.
func TestStockPublisherResets(t *testing.T) {
	var opened openings
	inFastWorldWith(t, relay.Config{OnRecord: opened.record}, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		u := &unread{w: w, dp: dp, sub: w.subscribe(s, moq.SubscribeOptions{}), ask: <-pub.asks}
		go u.resets.collect(s)
		sleep(t, 1)
		for i := range uint64(100) {
			out := pub.stream(wire.SubgroupHeader{TrackAlias: u.ask.alias, Group: i, Priority: 7}, wire.Object{Payload: make([]byte, 1000)})
			time.Sleep(time.Duration(i/10) * time.Microsecond)
			out.CancelWrite(9)
		}
		sleep(t, 1)
		must(t, u.ask.req.Done(moq.DoneTrackEnded, 100, "over"))
		u.check(opened.count(), 9, "publisher_reset")
	})
}
