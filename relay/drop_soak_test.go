package relay_test

import (
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// TestDropSoak is TestSoak on paths that carry half of the media: what a relay with policies holds after a virtual minute it holds after six.
// Subscribers come and go, some of them on one connection.
func TestDropSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("six virtual minutes take some real seconds")
	}
	cfg := relay.Config{Heuristic: func() heuristic.Heuristic { return &heuristic.Live{} }}
	inFastWorldWith(t, cfg, func(w *world, dp *sim.Sim) {
		t := w.t
		w.ctx = t.Context()
		const fps, minutes = 25, 6
		pub := w.publisher(wire.Draft16, "live")
		w.up, w.down = netsim.Shape{Delay: 10 * time.Millisecond}, netsim.Shape{Delay: 10 * time.Millisecond, Rate: 40_000, Queue: 20 << 10}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		watch := func(d time.Duration, times int) {
			s, _ := w.session(wire.Draft16, nil)
			var readers sync.WaitGroup
			readers.Go(func() {
				for {
					rs, err := s.AcceptDataStream(s.Context())
					if err != nil {
						return
					}
					readers.Go(func() { _, _ = io.Copy(io.Discard, rs) })
				}
			})
			for range times {
				sub, err := s.Subscribe(t.Context(), []string{"live"}, "video", moq.SubscribeOptions{})
				if err != nil {
					t.Errorf("subscribe: %v", err)
					break
				}
				select {
				case <-time.After(d):
				case <-stop:
				}
				_ = sub.Unsubscribe()
				time.Sleep(time.Second)
			}
			_ = s.Close(0, "")
			readers.Wait()
		}
		wg.Go(func() { watch(time.Hour, 1) }) // one that stays
		alias := (<-pub.asks).alias
		rnd := rand.New(rand.NewPCG(1, 1))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Second):
					d, times := time.Duration(1+rnd.IntN(8))*time.Second, 1+rnd.IntN(3)
					wg.Go(func() { watch(d, times) })
				}
			}
		})
		var early footprint
		for i := range uint64(minutes * 60 * fps) {
			g, f := i/fps, i%fps
			size, priority := 2500, uint8(64)
			if f == 0 {
				size, priority = 15_000, 32
			}
			h := wire.SubgroupHeader{TrackAlias: alias, Group: g, Subgroup: f, SubgroupMode: wire.SubgroupExplicit, Priority: priority}
			must(t, pub.stream(h, wire.Object{ID: f, Payload: make([]byte, size)}).Close())
			time.Sleep(time.Second / fps)
			if i == 60*fps {
				early = measure(dp)
			}
		}
		late := measure(dp)
		stats := w.relay.Stats()
		t.Logf("after 1 minute %+v, after %d %+v; %v", early, minutes, late, stats.Reasons)
		if late.heap > early.heap+early.heap/2+(4<<20) || late.goroutines > early.goroutines+100 ||
			late.streams > 1000 || late.clientStreams > 2000 {
			t.Error("the relay grows")
		}
		if stats.Reasons["drop_reserve"] == 0 || stats.Reasons["drop_group"] == 0 {
			t.Error("nothing was dropped")
		}
		close(stop)
		wg.Wait()
		sleep(t, 10)
		if streams, clientStreams := dp.Entries(); clientStreams > 0 {
			t.Errorf("datapath has %d streams and %d streams of clients left", streams, clientStreams)
		}
		for priority, tally := range w.relay.Stats().Ended {
			ended := tally.Delivered
			for _, m := range []map[string]uint64{tally.Dropped, tally.Reset} {
				for _, n := range m {
					ended += n
				}
			}
			if tally.Open != 0 || tally.Published != ended {
				t.Errorf("priority %d: %+v", priority, tally)
			}
		}
	})
}
