package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// TestSlowSubscriber has a subscriber that reads nothing: its streams are reset, and the others get everything.
func TestSlowSubscriber(t *testing.T) {
	inWorld(t, relay.Config{MaxBacklog: 256 << 10, MaxStreams: 10}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		good, _ := w.session(wire.Draft16, nil)
		w.subscribe(good, moq.SubscribeOptions{})
		slow, _ := w.session(wire.Draft16, &quic.Config{
			InitialStreamReceiveWindow: 8 << 10, MaxStreamReceiveWindow: 8 << 10,
			InitialConnectionReceiveWindow: 32 << 10, MaxConnectionReceiveWindow: 32 << 10, MaxIncomingUniStreams: 5,
		})
		w.subscribe(slow, moq.SubscribeOptions{})
		alias := (<-pub.asks).alias
		payload := bytes.Repeat([]byte("p"), 100_000)
		for g := range uint64(30) {
			must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: g}, wire.Object{ID: 0, Payload: payload}).Close())
			r := readStream(w, good)
			if os := r.objects(t, wire.Draft16); r.err != nil || len(os) != 1 || os[0].payload != string(payload) {
				t.Fatalf("group %d: %v", g, r.err)
			}
		}
		sleep(t, 15) // longer than the write timeout
		s := w.relay.Stats()
		for i, sub := range s.Tracks[0].Subscribers {
			if lost := []uint64{0, 30}[i]; sub.Lost != lost {
				t.Errorf("subscriber %d: %+v; want %d lost", i, sub, lost)
			}
		}
		if s.Reasons["too_far_behind"]+s.Reasons["too_many_streams"] != 30 {
			t.Errorf("reasons: %v", s.Reasons)
		}
		// It has not lost more than these.
		for range 5 {
			_, _ = mustStream(w, slow).Read(make([]byte, 1))
		}
	})
}

// TestSubscriberDies lets subscribers vanish and stop streams in the middle of an object.
func TestSubscriberDies(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft14, "live")
		good, _ := w.session(wire.Draft14, nil)
		w.subscribe(good, moq.SubscribeOptions{})
		closes, closing := w.session(wire.Draft14, nil)
		w.subscribe(closes, moq.SubscribeOptions{})
		stops, _ := w.session(wire.Draft16, nil)
		w.subscribe(stops, moq.SubscribeOptions{})
		leaves, _ := w.session(wire.Draft14, nil)
		leaving := w.subscribe(leaves, moq.SubscribeOptions{})

		h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias}
		out := pub.stream(h)
		payload := bytes.Repeat([]byte("p"), 400_000)
		_, err := out.Write(append(wire.AppendObjectHeader(nil, wire.Draft14, false, 0, nil, uint64(len(payload)), 0), payload[:1000]...))
		must(t, err)
		sleep(t, 1)
		must(t, closing.CloseWithError(0, "bye"))
		mustStream(w, stops).CancelRead(5)
		rs := mustStream(w, leaves)
		must(t, leaving.Unsubscribe())
		sleep(t, 1)
		var reset *quic.StreamError
		for err == nil {
			_, err = rs.Read(make([]byte, 4096))
		}
		if !errors.As(err, &reset) || reset.ErrorCode != 1 {
			t.Errorf("stream of the subscriber that unsubscribed ended with %v", err)
		}
		_, err = out.Write(payload[1000:])
		must(t, err)
		must(t, out.Close())
		r := readStream(w, good)
		if os := r.objects(t, wire.Draft14); r.err != nil || len(os) != 1 || os[0].payload != string(payload) {
			t.Errorf("remaining subscriber: %v", r.err)
		}
		if s := w.relay.Stats(); len(s.Tracks[0].Subscribers) != 2 || s.Reasons["subscriber_stopped"] != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// TestMalformed sends what no publisher may send: its session is closed, and nobody else's.
func TestMalformed(t *testing.T) {
	header := func(alias uint64) []byte {
		return (&wire.SubgroupHeader{TrackAlias: alias, Extensions: true}).Append(nil, wire.Draft16)
	}
	object := func(alias uint64, b ...byte) []byte { return append(header(alias), b...) }
	for _, c := range []struct {
		name     string
		stream   func(alias uint64) []byte
		datagram []byte
	}{
		{name: "stream type", stream: func(uint64) []byte { return []byte{0x3f, 1, 2, 3} }},
		{name: "fetch stream", stream: func(uint64) []byte { return []byte{0x05, 1} }},
		{name: "status", stream: func(a uint64) []byte { return object(a, 0, 0, 0, 9) }},
		{name: "object ID", stream: func(a uint64) []byte {
			return object(a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 'x', 0, 0, 1, 'x')
		}},
		{name: "huge extensions", stream: func(a uint64) []byte { return object(a, 0, 0xbf, 0xff, 0xff, 0xff) }},
		{name: "cut off payload", stream: func(a uint64) []byte { return object(a, 0, 0, 10, 'x') }},
		{name: "cut off header", stream: func(a uint64) []byte { return object(a, 0, 5) }},
		{name: "datagram type", datagram: []byte{0x3f, 0}},
		{name: "short datagram", datagram: []byte{0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, relay.Config{}, func(w *world) {
				t := w.t
				pub := w.publisher(wire.Draft16, "live")
				var conns []*quic.Conn
				for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
					s, c := w.session(d, nil)
					w.subscribe(s, moq.SubscribeOptions{})
					conns = append(conns, c)
				}
				alias := (<-pub.asks).alias
				if c.stream != nil {
					out, err := pub.OpenDataStream(w.context())
					must(t, err)
					_, err = out.Write(c.stream(alias))
					must(t, err)
					must(t, out.Close())
				} else {
					must(t, pub.SendDatagram(c.datagram))
				}
				sleep(t, 1)
				var aerr *quic.ApplicationError
				if err := context.Cause(pub.conn.Context()); !errors.As(err, &aerr) || aerr.ErrorCode != moq.CodeProtocolViolation {
					t.Errorf("publisher's session: %v", err)
				}
				for _, c := range conns {
					if err := context.Cause(c.Context()); err != nil {
						t.Errorf("subscriber's session: %v", err)
					}
				}
			})
		})
	}
}

// TestUnknownAlias has streams and datagrams of no track: they are dropped and nothing else happens. A stream that
// is a little early is not.
func TestUnknownAlias(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft14, "live")
		s, _ := w.session(wire.Draft14, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		out := pub.stream(wire.SubgroupHeader{TrackAlias: 4000}, wire.Object{ID: 0, Payload: []byte("x")})
		must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: 4000, Payload: []byte("x")}).Append(nil, wire.Draft14)))
		sleep(t, 5)
		if n := w.relay.Stats().Reasons["unknown_alias"]; n != 2 {
			t.Errorf("%d were counted", n)
		}
		if out.Context().Err() == nil {
			t.Error("stream was not stopped")
		}
		must(t, context.Cause(pub.conn.Context()))
	})
}

// TestChurn lets subscribers and publishers come and go: afterwards there is nothing of them left.
func TestChurn(t *testing.T) {
	inWorld(t, relay.Config{Linger: -1}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		conns := make([]*moq.Session, 3)
		for i := range conns {
			conns[i], _ = w.session([]wire.Draft{wire.Draft14, wire.Draft16}[i%2], nil)
		}
		round := func(n int) {
			var subs []*moq.Subscription
			for _, s := range conns {
				subs = append(subs, w.subscribe(s, moq.SubscribeOptions{}))
			}
			a := <-pub.asks
			must(t, pub.stream(wire.SubgroupHeader{TrackAlias: a.alias, Group: uint64(n)}, wire.Object{ID: 0, Payload: []byte("x")}).Close())
			for i, s := range conns {
				if r := readStream(w, s); r.err != nil || r.header.TrackAlias != subs[i].Alias {
					t.Fatalf("round %d: %+v", n, r)
				}
				must(t, subs[i].Unsubscribe())
			}
			<-a.req.Unsubscribed()
			_ = a.req.Done(moq.DoneSubscriptionEnded, 1, "")
			synctest.Wait()
		}
		for n := range 20 {
			round(n)
		}
		sleep(t, 5)
		goroutines, heap := usage()
		const rounds = 300
		for n := range rounds {
			round(n)
		}
		sleep(t, 5)
		g, h := usage()
		if g > goroutines {
			t.Errorf("goroutines: %d, %d after churn", goroutines, g)
		}
		grown := float64(int64(h)-int64(heap)) / rounds
		t.Logf("heap grew by %.0f bytes per round of 3 subscriptions", grown)
		if grown > 600 {
			t.Errorf("heap grew from %d to %d bytes", heap, h)
		}
		if s := w.relay.Stats(); len(s.Tracks) > 0 || s.Sessions != 4 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func usage() (goroutines int, heap uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// TestConfig refuses what cannot work.
func TestConfig(t *testing.T) {
	for _, c := range []relay.Config{
		{},
		{Addr: "127.0.0.1:0"},
		{Addr: "127.0.0.1:0", TLS: &tls.Config{}, PacketSize: 1199},
		{Addr: "127.0.0.1:0", TLS: &tls.Config{}, PacketSize: 1453},
	} {
		if r, err := relay.New(c); err == nil {
			_ = r.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}
