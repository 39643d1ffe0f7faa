package relay_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestDuplicatedPackets sends datagrams over a link that duplicates every packet, to a subscriber on the fast path and to one on the slow
// path: each gets every datagram once.
func TestDuplicatedPackets(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		w.down = netsim.Shape{Delay: delay, Duplicate: 1}
		w.up = w.down
		pub := w.publisher(wire.Draft16, "live")
		var sessions []*moq.Session
		for _, d := range []wire.Draft{wire.Draft16, wire.Draft14} {
			s, _ := w.session(d, nil)
			w.subscribe(s, moq.SubscribeOptions{})
			sessions = append(sessions, s)
		}
		alias := (<-pub.asks).alias
		sleep(t, 1)
		const n = 20
		for i := range uint64(n) {
			o := wire.ObjectDatagram{TrackAlias: alias, Group: i, Payload: []byte("x")}
			must(t, pub.SendDatagram(o.Append(nil, pub.Draft())))
		}
		sleep(t, 1)
		for i, s := range subscribers(w.relay) {
			if want := [...]uint64{n, 0}[i]; s.Datagrams != n || s.ForwardedDatagrams != want {
				t.Errorf("subscriber %d: %+v; want %d datagrams, %d of them forwarded", i, s, n, want)
			}
		}
		for i, s := range sessions {
			for range n {
				_, err := s.ReceiveDatagram(w.context())
				must(t, err)
			}
			must(t, s.Close(0, ""))
			if b, err := s.ReceiveDatagram(w.context()); err == nil {
				t.Errorf("session %d has got more: %x", i, b)
			}
		}
	})
}
