package relay_test

import (
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// accepted is a subscription that the publisher has accepted.
type accepted struct {
	*moq.Request
	alias uint64
}

// footprint is what a relay and its world hold.
type footprint struct {
	heap                   uint64
	goroutines             int
	streams, clientStreams int
}

func measure(dp *sim.Sim) footprint {
	synctest.Wait()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := footprint{heap: m.HeapAlloc, goroutines: runtime.NumGoroutine()}
	f.streams, f.clientStreams = dp.Entries()
	return f
}

// TestSoak runs a relay for ten virtual minutes with a stream per frame and subscribers that come and go. What it holds
// after two minutes it holds after ten.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("ten virtual minutes take some real seconds")
	}
	inFastWorld(t, func(w *world, dp *sim.Sim) {
		t := w.t
		w.ctx = t.Context()
		const fps, minutes = 25, 10
		start := make(chan accepted, 1)
		pub, err := moq.Connect(t.Context(), w.dial(wire.Draft16, nil), moq.Handlers{Subscribe: func(r *moq.Request) {
			alias, err := r.Accept(nil)
			if err != nil {
				t.Error(err)
			}
			start <- accepted{r, alias}
		}})
		must(t, err)
		must(t, pub.Announce(t.Context(), []string{"live"}))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		watch := func(d time.Duration) {
			s, _ := w.session(wire.Draft16, nil)
			sub, err := s.Subscribe(t.Context(), []string{"live"}, "video", moq.SubscribeOptions{})
			if err != nil {
				t.Errorf("%v: subscribe: %v", time.Now().Format("04:05"), err)
				return
			}
			reading := make(chan struct{})
			var readers sync.WaitGroup
			go func() {
				defer close(reading)
				for {
					rs, err := s.AcceptDataStream(t.Context())
					if err != nil {
						return
					}
					readers.Go(func() { _, _ = io.Copy(io.Discard, rs) })
				}
			}()
			select {
			case <-time.After(d):
			case <-stop:
			}
			_ = sub.Unsubscribe()
			time.Sleep(time.Second)
			_ = s.Close(0, "")
			<-reading
			readers.Wait()
		}
		wg.Go(func() { watch(time.Hour) }) // one that stays
		req := <-start
		rnd := rand.New(rand.NewPCG(1, 1))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Second):
					d := time.Duration(1+rnd.IntN(8)) * time.Second
					wg.Go(func() { watch(d) })
				}
			}
		})
		var early footprint
		payload := make([]byte, 2500)
		for i := range uint64(minutes * 60 * fps) {
			s, err := pub.OpenDataStream(t.Context())
			must(t, err)
			g, f := i/fps, i%fps
			h := wire.SubgroupHeader{TrackAlias: req.alias, Group: g, Subgroup: f, SubgroupMode: wire.SubgroupExplicit, Priority: 64}
			b := wire.AppendObjectHeader(h.Append(nil, wire.Draft16), wire.Draft16, false, f, nil, uint64(len(payload)), 0)
			_, err = s.Write(append(b, payload...))
			must(t, err)
			must(t, s.Close())
			time.Sleep(time.Second / fps)
			if i == 2*60*fps {
				early = measure(dp)
			}
		}
		late := measure(dp)
		t.Logf("after 2 minutes %+v, after %d %+v; %v", early, minutes, late, w.relay.Stats().Reasons)
		if late.heap > early.heap+early.heap/2+(4<<20) || late.goroutines > early.goroutines+40 ||
			late.streams > 2000 || late.clientStreams > 2000 {
			t.Error("the relay grows")
		}
		close(stop)
		wg.Wait()
	})
}
