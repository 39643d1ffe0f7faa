package relay_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// fixedPolicy is a heuristic with one policy, which adds up what it is shown.
type fixedPolicy struct {
	policy datapath.Policy

	mu                sync.Mutex
	admitted, dropped heuristic.Count
}

func (h *fixedPolicy) Name() string { return "fixed" }

func (h *fixedPolicy) Policy(v *heuristic.View) datapath.Policy {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range v.Classes {
		h.admitted.Bytes, h.admitted.Streams = h.admitted.Bytes+c.Admitted.Bytes, h.admitted.Streams+c.Admitted.Streams
		h.dropped.Bytes, h.dropped.Streams = h.dropped.Bytes+c.Dropped.Bytes, h.dropped.Streams+c.Dropped.Streams
	}
	return h.policy
}

// readAll reads the streams of a session as they come, and returns those that end with FIN.
func readAll(s *moq.Session) <-chan []byte {
	got := make(chan []byte, 100)
	go func() {
		for {
			rs, err := s.AcceptDataStream(s.Context())
			if err != nil {
				return
			}
			go func() {
				if b, err := io.ReadAll(rs); err == nil {
					select {
					case got <- b:
					default: // nobody looks
					}
				}
			}()
		}
	}()
	return got
}

// TestLateJoinCutsNothing: who joins a stream that has begun gets the rest of it, whatever the policy says, and so what
// follows in its group.
func TestLateJoinCutsNothing(t *testing.T) {
	h := &fixedPolicy{policy: datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: 0.5, Cut: true}}}}
	inFastWorldWith(t, relay.Config{Heuristic: func() heuristic.Heuristic { return h }}, func(w *world, _ *sim.Sim) {
		t := w.t
		w.publisher(wire.Draft16, "other")
		pub := w.publisher(wire.Draft14, "live")
		first, _ := w.session(wire.Draft16, nil)
		w.subscribe(first, moq.SubscribeOptions{})
		a := <-pub.asks
		s, _ := w.session(wire.Draft16, nil)
		_, err := s.Subscribe(w.context(), []string{"other"}, "video", moq.SubscribeOptions{}) // which makes it a client
		must(t, err)
		got := readAll(s)
		sleep(t, 1)
		header := wire.SubgroupHeader{TrackAlias: a.alias, Group: 3, SubgroupMode: wire.SubgroupExplicit, Subgroup: 0}
		begun := pub.stream(header, wire.Object{Payload: []byte("x")})
		sleep(t, 1)
		w.subscribe(s, moq.SubscribeOptions{})
		pub.objects(begun, header, 1, wire.Object{ID: 1, Payload: []byte("late")})
		must(t, begun.Close())
		if b := <-got; !strings.HasSuffix(string(b), "late") {
			t.Errorf("%q came of the stream that had begun", b)
		}
		header.Subgroup = 1
		must(t, pub.stream(header, wire.Object{ID: 2, Payload: []byte("y")}).Close()) // the half that is not dropped
		sleep(t, 1)
		select {
		case b := <-got:
			if !strings.HasSuffix(string(b), "y") {
				t.Errorf("%q came of the next stream", b)
			}
		default:
			t.Errorf("the next stream of the group did not come: %v", w.relay.Stats().Reasons)
		}
	})
}

// TestDropsAreShown: a heuristic is shown what its policy drops of streams that had begun.
func TestDropsAreShown(t *testing.T) {
	h := &fixedPolicy{policy: datapath.Policy{Rate: 20_000, Burst: 3000, Bands: []datapath.Band{{UpTo: datapath.MaxImportance}}}}
	inFastWorldWith(t, relay.Config{Heuristic: func() heuristic.Heuristic { return h }}, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		a := <-pub.asks
		readAll(s)
		sleep(t, 1)
		header := wire.SubgroupHeader{TrackAlias: a.alias}
		out := pub.stream(header, wire.Object{Payload: make([]byte, 1000)})
		const objects = 30
		for i := range uint64(objects - 1) {
			time.Sleep(10 * time.Millisecond)
			pub.objects(out, header, i+1, wire.Object{ID: i + 1, Payload: make([]byte, 1000)})
		}
		must(t, out.Close())
		sleep(t, 1)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.dropped.Streams != 1 || h.dropped.Bytes < objects/2*1000 || h.admitted.Bytes > objects/2*1000 {
			t.Errorf("shown %+v as dropped and %+v as admitted of %d bytes; %v", h.dropped, h.admitted, objects*1000, w.relay.Stats().Reasons)
		}
	})
}
