package relay_test

import (
	"sync"
	"testing"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// TestPriorityUpdate has two tracks on a path that carries neither of them at once. What waits of a track, and has all come from the publisher, goes ahead when
// the subscriber makes the track more important; and what comes afterwards is admitted and shown to the heuristic as what it is now.
func TestPriorityUpdate(t *testing.T) {
	h := &watcher{}
	inFastWorldWith(t, relay.Config{Heuristic: func() heuristic.Heuristic { return h }}, func(w *world, _ *sim.Sim) {
		t := w.t
		const streams, size, publishers = 40, 10_000, 128
		pub := w.publisher(wire.Draft16, "live")
		w.down = netsim.Shape{Delay: delay, Rate: 100_000, Queue: 20_000}
		sub := w.stock(wire.Draft16)
		var mu sync.Mutex
		var order []int // of the tracks of objects, as they came
		come := func() (n [2]int) {
			mu.Lock()
			defer mu.Unlock()
			for _, i := range order {
				n[i]++
			}
			return n
		}
		var tracks [2]*moqtransport.RemoteTrack
		var aliases [2]uint64
		for i, name := range []string{"low", "high"} {
			var err error
			tracks[i], err = sub.Subscribe(w.context(), []string{"live"}, name, moqtransport.WithSubscriberPriority(uint8(200-50*i)))
			must(t, err)
			aliases[i] = (<-pub.asks).alias
			go func() {
				for {
					if _, err := tracks[i].ReadObject(w.context()); err != nil {
						return
					}
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
				}
			}()
		}
		sleep(t, 1)
		publish := func(i int, from, n uint64) {
			for g := range n {
				header := wire.SubgroupHeader{TrackAlias: aliases[i], Group: from + g, Priority: publishers}
				must(t, pub.stream(header, wire.Object{Payload: make([]byte, size)}).Close())
			}
		}
		publish(0, 0, streams)
		publish(1, 0, streams)
		sleep(t, 3)
		before := come()
		if before[1] < 10 || before[1] > streams-10 || before[0] > streams/2 {
			t.Fatalf("%v came in 3 s: the path is not what the test needs", before)
		}
		must(t, tracks[0].UpdateSubscription(w.context(), moqtransport.WithUpdateSubscriberPriority(100)))
		sleep(t, 1)
		for range 60 {
			if come()[0] == streams {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		after := come()
		// What had left before the update still comes in between: a window's worth.
		if after[0] != streams || after[1]-before[1] > 4 {
			t.Errorf("%v had come when the other track became more important, then %v", before, after)
		}
		sleep(t, 10)
		if all := come(); all != [2]int{streams, streams} {
			t.Errorf("%v came", all)
		}
		publish(0, streams, 1)
		sleep(t, 1)
		h.mu.Lock()
		defer h.mu.Unlock()
		classes := h.views[len(h.views)-1].Classes
		if len(classes) == 0 || classes[0].Importance != datapath.Importance(100, publishers) {
			t.Errorf("shown: %+v", classes)
		}
	})
}
