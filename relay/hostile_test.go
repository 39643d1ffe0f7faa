package relay_test

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// TestManyStreams: a publisher keeps as many streams open as it may, and opens many more that end at once. Another publisher's
// track goes on by the fast path, and the datapath keeps no entry of what has ended.
func TestManyStreams(t *testing.T) {
	const share = 100
	inFastWorldWith(t, relay.Config{MaxFastStreams: share}, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		other := w.publisher(wire.Draft16, "elsewhere")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		good, _ := w.session(wire.Draft16, nil)
		sub, err := good.Subscribe(w.context(), []string{"elsewhere"}, "audio", moq.SubscribeOptions{})
		must(t, err)
		got := collect(w, good)
		go fetches(s)
		alias := (<-pub.asks).alias
		sleep(t, 1)
		const open, ended = 500, 4000
		var held []*quic.SendStream
		for i := range uint64(open + ended) {
			out := pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: i}, wire.Object{ID: 0, Payload: []byte("x")})
			if i < open {
				held = append(held, out)
				continue
			}
			must(t, out.Close())
			if i%100 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		sleep(t, 2)
		must(t, other.stream(wire.SubgroupHeader{TrackAlias: (<-other.asks).alias, Group: 7}, wire.Object{ID: 0, Payload: []byte("on")}).Close())
		sleep(t, 2)
		if groups := take(got)[sub.Alias]; len(groups) != 1 {
			t.Errorf("the other track's subscriber got groups %v", groups)
		}
		for _, tr := range w.relay.Stats().Tracks {
			if tr.Name == "audio" && tr.Subscribers[0].FastStreams != 1 {
				t.Errorf("the other track left the fast path: %+v", tr)
			}
		}
		if n, _ := dp.Entries(); n > share {
			t.Errorf("the datapath has %d streams, %d of one publisher are allowed", n, share)
		}
		for _, out := range held {
			must(t, out.Close())
		}
		sleep(t, 2)
		if n, _ := dp.Entries(); n > 0 {
			t.Errorf("the datapath has %d streams at the end", n)
		}
	})
}
