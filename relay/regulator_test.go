package relay_test

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// watcher is a heuristic that keeps what it is shown, and admits everything.
type watcher struct {
	mu    sync.Mutex
	views []heuristic.View
}

func (w *watcher) Name() string { return "watcher" }

func (w *watcher) Policy(v *heuristic.View) datapath.Policy {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := *v
	c.Classes = slices.Clone(v.Classes)
	w.views = append(w.views, c)
	return datapath.Policy{}
}

// TestView: a heuristic is shown what the relay knows of the path, what was offered by importance, and what the client itself told.
func TestView(t *testing.T) {
	h := &watcher{}
	var told relay.Report
	var mu sync.Mutex
	cfg := relay.Config{
		Heuristic: func() heuristic.Heuristic { return h }, Playout: 700 * time.Millisecond,
		Reported: func(net.Addr) (relay.Report, bool) {
			mu.Lock()
			defer mu.Unlock()
			return told, told.Rate > 0
		},
	}
	inFastWorldWith(t, cfg, func(w *world, _ *sim.Sim) {
		t := w.t
		w.down = netsim.Shape{Delay: 10 * time.Millisecond}
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		got := collect(w, s)
		w.subscribe(s, moq.SubscribeOptions{Priority: 3, PrioritySet: true})
		alias := (<-pub.asks).alias
		sleep(t, 1)
		const size = 3000
		for g := range uint64(100) {
			h := wire.SubgroupHeader{TrackAlias: alias, Group: g, Priority: uint8(7 + g%2)}
			must(t, pub.stream(h, wire.Object{Payload: make([]byte, size)}).Close())
			time.Sleep(50 * time.Millisecond)
			take(got)
			if g == 50 {
				mu.Lock()
				told = relay.Report{Rate: 12345, Delay: 6 * time.Millisecond, At: time.Now()}
				mu.Unlock()
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := len(h.views); n < 100 || n > 130 {
			t.Fatalf("asked %d times in 6 s", n)
		}
		v := h.views[len(h.views)-1]
		if v.SmoothedRTT < 15*time.Millisecond || v.SmoothedRTT > 60*time.Millisecond || v.MinRTT < 10*time.Millisecond || v.Rate == 0 || v.Window == 0 || v.Timeout != cfg.Playout {
			t.Errorf("path: %+v", v)
		}
		if len(v.Classes) != 2 {
			t.Fatalf("classes: %+v", v.Classes)
		}
		for i, c := range v.Classes {
			if c.Importance != datapath.Importance(3, uint8(7+i)) || c.Rate < size*7 || c.Rate > size*14 || c.Peak < size || c.Peak > size+100 {
				t.Errorf("class %d: %+v", i, c)
			}
		}
		sent := uint64(0)
		for i := range h.views {
			sent += h.views[i].Sent
		}
		if sent < 100*size || sent > 150*size {
			t.Errorf("%d bytes were sent, by the views", sent)
		}
		if first := h.views[0]; first.Reported != nil {
			t.Errorf("told at the start: %+v", first.Reported)
		}
		if r := v.Reported; r == nil || r.Rate != 12345 || r.Delay != 6*time.Millisecond || r.At < 3*time.Second || r.At > 5*time.Second {
			t.Errorf("told at the end: %+v", r)
		}
	})
}
