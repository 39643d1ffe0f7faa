package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// objectsOf reads a stock subscription until it is over; take returns what has come, in order of location.
func objectsOf(ctx context.Context, track *moqtransport.RemoteTrack) (take func() []string) {
	var mu sync.Mutex
	var got []string
	go func() {
		for {
			o, err := track.ReadObject(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			got = append(got, fmt.Sprintf("%d/%d", o.GroupID, o.ObjectID))
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := got
		got = nil
		slices.SortFunc(out, compareLocations)
		return out
	}
}

// TestPause pauses a subscription in the middle of a stream, resumes it and narrows it, with and without a datapath: a
// subscription that is resumed gets the objects that begin afterwards, once each.
func TestPause(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		t.Run(d.String()+" slow", func(t *testing.T) {
			inWorld(t, relay.Config{}, func(w *world) { testPause(w, d) })
		})
		t.Run(d.String()+" fast", func(t *testing.T) {
			inFastWorld(t, func(w *world, _ *sim.Sim) {
				testPause(w, d)
				if s := subscribers(w.relay); s[0].FastStreams == 0 || s[0].SlowStreams == 0 {
					w.t.Errorf("not both paths were taken: %+v", s)
				}
			})
		})
	}
}

func testPause(w *world, d wire.Draft) {
	t := w.t
	pub := w.publisher(d, "live")
	sub := w.stock(d)
	track, err := sub.Subscribe(w.context(), []string{"live"}, "video")
	must(t, err)
	take := objectsOf(w.context(), track)
	alias := (<-pub.asks).alias
	sleep(t, 1)
	h := wire.SubgroupHeader{TrackAlias: alias, Group: 1}
	out := pub.stream(h)
	next := uint64(0)
	object := func() {
		pub.objects(out, h, next, wire.Object{ID: next, Payload: []byte("object")})
		next++
		sleep(t, 1)
	}
	update := func(o ...moqtransport.SubscribeUpdateOption) {
		must(t, track.UpdateSubscription(w.context(), o...))
		sleep(t, 1)
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := take(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v; %v", what, got, want, w.relay.Stats().Reasons)
		}
	}
	object()
	expect("at first", "1/0")
	update(moqtransport.WithUpdateForward(false))
	object()
	must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: 1, Subgroup: 1, SubgroupMode: wire.SubgroupExplicit}, wire.Object{ID: 9, Payload: []byte("x")}).Close())
	must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: alias, Group: 1, ObjectID: 10, Payload: []byte("x")}).Append(nil, d)))
	sleep(t, 1)
	expect("paused")
	update(moqtransport.WithUpdateForward(true))
	// Object 5 comes late: it is before the largest, 10.
	must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: 1, Subgroup: 2, SubgroupMode: wire.SubgroupExplicit}, wire.Object{ID: 5, Payload: []byte("x")}).Close())
	sleep(t, 1)
	expect("resumed")
	next = 11
	pub.objects(out, h, 2, wire.Object{ID: 11, Payload: []byte("object")})
	next++
	sleep(t, 1)
	expect("after it", "1/11")
	for g := uint64(2); g <= 3; g++ {
		must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: g}, wire.Object{ID: 0, Payload: []byte("x")}).Close())
		sleep(t, 1)
	}
	object()
	expect("next groups", "1/12", "2/0", "3/0")
	// To groups 4 and 5: moqtransport gives the end plus 1.
	update(moqtransport.WithUpdateStartLocation(moqtransport.Location{Group: 4}), moqtransport.WithUpdateEndGroup(6))
	object() // group 1 is not wanted any more
	for g := uint64(4); g <= 6; g++ {
		must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: g}, wire.Object{ID: 0, Payload: []byte("x")}).Close())
		sleep(t, 1)
	}
	expect("narrowed", "4/0", "5/0")
	must(t, out.Close())
}

// TestRejoin leaves and rejoins the same track in mid-stream while the fast path runs; every time, what comes is what began after.
func TestRejoin(t *testing.T) {
	inFastWorld(t, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		keeper, _ := w.session(wire.Draft16, nil)
		w.subscribe(keeper, moq.SubscribeOptions{})
		collect(w, keeper)
		alias := (<-pub.asks).alias
		s := w.stock(wire.Draft16)
		for round := range uint64(6) {
			h := wire.SubgroupHeader{TrackAlias: alias, Group: 10 + round}
			track, err := s.Subscribe(w.context(), []string{"live"}, "video")
			must(t, err)
			take := objectsOf(w.context(), track)
			sleep(t, 1)
			out := pub.stream(h, wire.Object{ID: 0, Payload: []byte("x")})
			sleep(t, 1)
			must(t, track.Close())
			if round%2 == 0 {
				sleep(t, 1)
			}
			pub.objects(out, h, 1, wire.Object{ID: 1, Payload: []byte("x")})
			sleep(t, 1)
			again, err := s.Subscribe(w.context(), []string{"live"}, "video")
			must(t, err)
			takeAgain := objectsOf(w.context(), again)
			sleep(t, 1)
			pub.objects(out, h, 2, wire.Object{ID: 2, Payload: bytes.Repeat([]byte("x"), 4000)})
			must(t, out.Close())
			sleep(t, 2)
			g := fmt.Sprint(10 + round)
			if got := take(); !slices.Equal(got, []string{g + "/0"}) {
				t.Errorf("round %d: first subscription got %v", round, got)
			}
			if got := takeAgain(); !slices.Equal(got, []string{g + "/2"}) {
				t.Errorf("round %d: second subscription got %v", round, got)
			}
			must(t, again.Close())
			sleep(t, 1)
		}
	})
}

// TestVanish: a subscriber's host goes silent in the middle of fast and slow streams. When its connection has timed out, the
// datapath has nothing of it, and with the publisher's end nothing of anybody.
func TestVanish(t *testing.T) {
	inFastWorld(t, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, conn := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		collect(w, s)
		alias := (<-pub.asks).alias
		sleep(t, 1)
		h := wire.SubgroupHeader{TrackAlias: alias, Group: 1}
		out := pub.stream(h, wire.Object{ID: 0, Payload: []byte("x")})
		sleep(t, 1)
		w.die(conn.LocalAddr())
		for g := uint64(2); g < 40; g++ {
			must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: g}, wire.Object{ID: 0, Payload: make([]byte, 3000)}).Close())
			sleep(t, 1)
		}
		must(t, out.Close())
		sleep(t, 40)
		stats := w.relay.Stats()
		if stats.Sessions != 1 || len(stats.Tracks) != 0 || stats.CacheBytes != 0 {
			t.Errorf("stats: %+v", stats)
		}
		if streams, clientStreams := dp.Entries(); streams+clientStreams > 0 {
			t.Errorf("the datapath has %d streams and %d of clients", streams, clientStreams)
		}
		must(t, pub.Close(0, ""))
	})
}

// timeoutPublisher is a publisher whose tracks have a delivery timeout; 0: none.
func (w *world) timeoutPublisher(d wire.Draft, timeout time.Duration) *publisher {
	w.t.Helper()
	p := &publisher{w: w, conn: w.dial(d, nil), asks: make(chan ask, 100)}
	s, err := moq.Connect(w.context(), p.conn, moq.Handlers{Subscribe: func(r *moq.Request) {
		r.DeliveryTimeout = timeout
		if timeout > 0 && d == wire.Draft16 {
			e := wire.ExtensionHeader{Type: wire.ExtDeliveryTimeout, Value: uint64(timeout.Milliseconds())}
			r.TrackExtensions = wire.AppendExtensions(nil, []wire.ExtensionHeader{e}, d)
		}
		if alias, err := r.Accept(nil); err == nil {
			p.asks <- ask{r, alias}
		}
	}})
	must(w.t, err)
	p.Session = s
	must(w.t, s.Announce(w.context(), []string{"live"}))
	return p
}

// TestDeliveryTimeout has a subscriber that takes nothing: an object that is too old is not sent any more, by the timeout of the
// subscriber or of the publisher, whichever is smaller, and a subscriber that reads loses nothing.
func TestDeliveryTimeout(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		for _, c := range []struct{ publisher, subscriber, want time.Duration }{
			{0, 2 * time.Second, 2 * time.Second}, {3 * time.Second, 0, 3 * time.Second},
			{time.Second, 4 * time.Second, time.Second}, {5 * time.Second, 4 * time.Second, 4 * time.Second}, {0, 0, 0},
		} {
			t.Run(fmt.Sprintf("%v %v %v", d, c.publisher, c.subscriber), func(t *testing.T) {
				inWorld(t, relay.Config{WriteTimeout: time.Minute}, func(w *world) {
					t := w.t
					pub := w.timeoutPublisher(d, c.publisher)
					blocked, _ := w.session(d, &quic.Config{
						InitialStreamReceiveWindow: 8 << 10, MaxStreamReceiveWindow: 8 << 10, MaxIncomingUniStreams: 5,
					})
					sub := w.subscribe(blocked, moq.SubscribeOptions{DeliveryTimeout: c.subscriber})
					if sub.DeliveryTimeout != c.publisher {
						t.Errorf("publisher's timeout came as %v", sub.DeliveryTimeout)
					}
					reads, _ := w.session(d, nil)
					w.subscribe(reads, moq.SubscribeOptions{DeliveryTimeout: c.subscriber})
					h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias, Group: 1}
					out := pub.stream(h, wire.Object{ID: 0, Payload: make([]byte, 1000)})
					for id := uint64(1); id < 8; id++ {
						sleep(t, 1) // whoever reads gets each in time, though the stream is older than the timeout
						pub.objects(out, h, id, wire.Object{ID: id, Payload: make([]byte, 1000)})
					}
					sleep(t, 1)
					pub.objects(out, h, 8, wire.Object{ID: 8, Payload: make([]byte, 20_000)})
					must(t, out.Close())
					rs := mustStream(w, blocked)
					if c.want > 0 {
						time.Sleep(c.want - 500*time.Millisecond)
						if n := w.relay.Stats().Reasons["delivery_timeout"]; n != 0 {
							t.Errorf("reset too early")
						}
						time.Sleep(time.Second)
					} else {
						sleep(t, 20)
					}
					_, err := io.Copy(io.Discard, rs)
					var reset *quic.StreamError
					if expired := errors.As(err, &reset) && reset.ErrorCode == 2; expired != (c.want > 0) {
						t.Errorf("blocked stream ended with %v", err)
					}
					r := readStream(w, reads)
					if r.err != nil || len(r.objects(t, d)) != 9 {
						t.Errorf("stream that is read: %d objects, %v", len(r.objects(t, d)), r.err)
					}
				})
			})
		}
	}
}

// TestRejoinDatagrams has two subscriptions of one peer to a track of datagrams, of which one leaves and comes back: each gets what was sent
// while it was there, once, by the datapath or by the relay.
func TestRejoinDatagrams(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft14, "live")
		s, _ := w.session(wire.Draft14, nil)
		stays := w.subscribe(s, moq.SubscribeOptions{})
		alias := (<-pub.asks).alias
		got := make(chan wire.ObjectDatagram, 1000)
		go func() {
			for {
				b, err := s.ReceiveDatagram(s.Context())
				if err != nil {
					return
				}
				o, err := wire.ParseObjectDatagram(b, wire.Draft14)
				if err != nil {
					t.Error(err)
				}
				got <- o
			}
		}()
		sleep(t, 1)
		next := uint64(0)
		send := func(subs ...*moq.Subscription) {
			t.Helper()
			for range 3 {
				must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: alias, Group: next / 4, ObjectID: next % 4, Payload: []byte("x")}).Append(nil, wire.Draft14)))
				sleep(t, 1)
				seen := make(map[uint64]int)
				for len(got) > 0 {
					o := <-got
					seen[o.TrackAlias]++
					if o.Group != next/4 || o.ObjectID != next%4 {
						t.Errorf("got %d/%d for %d/%d", o.Group, o.ObjectID, next/4, next%4)
					}
				}
				for _, sub := range subs {
					if seen[sub.Alias] != 1 {
						t.Errorf("datagram %d came %d times for alias %d", next, seen[sub.Alias], sub.Alias)
					}
				}
				if len(seen) != len(subs) {
					t.Errorf("datagram %d came for aliases %v", next, seen)
				}
				next++
			}
		}
		send(stays)
		for range 3 {
			comes := w.subscribe(s, moq.SubscribeOptions{})
			sleep(t, 1)
			send(stays, comes)
			must(t, stays.Unsubscribe())
			sleep(t, 1)
			send(comes)
			stays = comes
		}
		if s := subscribers(w.relay); s[0].ForwardedDatagrams == 0 {
			t.Errorf("nothing was forwarded: %+v", s)
		}
	})
}
