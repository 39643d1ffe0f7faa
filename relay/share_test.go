package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// flood has a publisher's streams begin, four in a packet, that its QUIC stack knows nothing of.
func (h *hostile) flood(alias uint64, streams int) {
	h.with(func() {
		for i := 0; i < streams; {
			var b []byte
			for range datapath.MaxForward {
				head := wire.SubgroupHeader{TrackAlias: alias, Group: uint64(i), Priority: 7}
				b = wire.AppendStream(b, uint64(4*i+2), 0, head.Append(nil, wire.Draft16), false, true)
				i++
			}
			h.raw(h.seal.Seal(nil, h.seal.Generation(), h.dcid, h.next+100+uint64(i), 4, b))
		}
	})
}

// TestPublishersShare: publishers that begin streams without end, faster than the relay's socket takes them, so that userspace never knows of
// them, leave one that comes last its part of the table.
func TestPublishersShare(t *testing.T) {
	const publishers, each, room = 5, 4200, 32
	var deaf deafConn
	fastWorld{between: deaf.over}.run(t, func(w *world, dp *sim.Sim) {
		t := w.t
		s, _ := w.session(wire.Draft16, nil)
		for i := range publishers {
			h := w.hostile(wire.Draft16, nil)
			pub := w.publisherOn(h.conn, fmt.Sprint("greedy", i))
			_, err := s.Subscribe(w.context(), []string{fmt.Sprint("greedy", i)}, "video", moq.SubscribeOptions{Paused: true})
			must(t, err)
			a := <-pub.asks
			sleep(t, 1)
			deaf.deaf.Store(true)
			h.flood(a.alias, each)
			time.Sleep(2 * delay)
			h.Die()
			deaf.deaf.Store(false)
		}
		// Beyond its part each gets half of what those before it left of the half for all.
		if n, _ := dp.Entries(); n != publishers*room+4096+2048+1024+512+256 {
			t.Errorf("the datapath has %d streams", n)
		}
		if w.relay.Stats().Reasons["streams_full"] == 0 {
			t.Error("nobody was refused anything")
		}
		honest := w.publisher(wire.Draft16, "live")
		good, _ := w.session(wire.Draft16, nil)
		w.subscribe(good, moq.SubscribeOptions{})
		got := collect(w, good)
		a := <-honest.asks
		sleep(t, 1)
		fast := func() uint64 {
			for _, track := range w.relay.Stats().Tracks {
				if track.Namespace[0] == "live" {
					return track.Subscribers[0].FastStreams
				}
			}
			return 0
		}
		var open []*quic.SendStream
		for g := range uint64(room) {
			open = append(open, honest.stream(wire.SubgroupHeader{TrackAlias: a.alias, Group: g}, wire.Object{Payload: []byte("x")}))
			time.Sleep(time.Millisecond)
		}
		sleep(t, 1)
		if n := fast(); n != room {
			t.Errorf("%d of %d streams took the fast path", n, room)
		}
		for _, out := range open {
			must(t, out.Close())
		}
		sleep(t, 60) // the greedy ones time out
		if n := len(take(got)); n != 1 {
			t.Errorf("objects of %d tracks came", n)
		}
		if streams, clients := dp.Entries(); streams+clients > 0 {
			t.Errorf("datapath has %d streams and %d streams of clients left", streams, clients)
		}
	})
}

// TestClientsShare: clients that take nothing of what is forwarded to them, and stay, leave another client its part of the table.
func TestClientsShare(t *testing.T) {
	const greedy, streams = 5, 40
	limits := datapath.Limits{Clients: 16, ClientStreams: 64} // 2 for each, and 32 for all
	fastWorld{limits: limits}.run(t, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		var a ask
		publish := func(g uint64) {
			must(t, pub.stream(wire.SubgroupHeader{TrackAlias: a.alias, Group: g}, wire.Object{Payload: []byte("x")}).Close())
		}
		for range greedy {
			s, conn := w.session(wire.Draft16, nil)
			w.subscribe(s, moq.SubscribeOptions{})
			if a.req == nil {
				a = <-pub.asks
			}
			sleep(t, 1)
			w.die(conn.LocalAddr())
		}
		for g := range uint64(streams) {
			publish(g)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		if w.relay.Stats().Reasons["client_streams"] == 0 {
			t.Error("nobody was refused anything")
		}
		good, conn := w.session(wire.Draft16, nil)
		w.subscribe(good, moq.SubscribeOptions{Filter: moq.FilterNextGroup})
		readAll(good)
		time.Sleep(100 * time.Millisecond)
		const more = 10
		for g := range uint64(more) {
			publish(streams + g)
			time.Sleep(300 * time.Millisecond)
		}
		for _, sub := range subscribers(w.relay) {
			if sub.Remote == conn.LocalAddr().String() && (sub.FastStreams != more || sub.SlowStreams > 0) {
				t.Errorf("the client that comes last: %+v", sub)
			}
		}
		if n := len(subscribers(w.relay)); n != greedy+1 {
			t.Fatalf("%d subscribers are left", n)
		}
		sleep(t, 60)
		if streams, clients := dp.Entries(); streams+clients > 0 {
			t.Errorf("datapath has %d streams and %d streams of clients left", streams, clients)
		}
	})
}
