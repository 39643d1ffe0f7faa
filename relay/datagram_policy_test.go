package relay_test

import (
	"context"
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

const (
	unimportant = 200
	important   = 100
)

// inSlowDatagramWorld runs a test with a publisher and a subscriber of another draft, which is a client of the datapath all the same: it has a
// policy, and its datagrams are the slow path's.
func inSlowDatagramWorld(t *testing.T, p datapath.Policy, down netsim.Shape, test func(w *world, pub *publisher, alias uint64, s *moq.Session)) {
	h := &fixedPolicy{policy: p}
	inFastWorldWith(t, relay.Config{Heuristic: func() heuristic.Heuristic { return h }}, func(w *world, _ *sim.Sim) {
		w.publisher(wire.Draft14, "other")
		pub := w.publisher(wire.Draft16, "live")
		w.down = down
		s, _ := w.session(wire.Draft14, nil)
		_, err := s.Subscribe(w.context(), []string{"other"}, "video", moq.SubscribeOptions{}) // which makes it a client
		must(w.t, err)
		w.subscribe(s, moq.SubscribeOptions{})
		a := <-pub.asks
		sleep(w.t, 1)
		test(w, pub, a.alias, s)
	})
}

// countDatagrams reads datagrams until none has come for a while, and then returns how many there were of each priority.
func countDatagrams(w *world, s *moq.Session) <-chan map[uint8]int {
	done := make(chan map[uint8]int, 1)
	go func() {
		got := map[uint8]int{}
		defer func() { done <- got }()
		for {
			ctx, cancel := context.WithTimeout(w.context(), 10*time.Second)
			b, err := s.ReceiveDatagram(ctx)
			cancel()
			if err != nil {
				return
			}
			o, err := wire.ParseObjectDatagram(b, s.Draft())
			if err != nil {
				w.t.Error(err)
				return
			}
			got[o.Priority]++
		}
	}()
	return done
}

// media returns what became of the media of a track's only subscription, by priority.
func (w *world) media(track string) map[uint8]relay.Tally {
	for _, t := range w.relay.Stats().Tracks {
		if t.Namespace[0] == track && len(t.Subscribers) == 1 {
			return t.Subscribers[0].Media
		}
	}
	w.t.Fatalf("no track %q", track)
	return nil
}

func sendDatagrams(t *testing.T, pub *publisher, alias, from, n uint64, priority uint8, size int, pause time.Duration) {
	t.Helper()
	for i := range n {
		o := wire.ObjectDatagram{TrackAlias: alias, Group: from + i, Priority: priority, Payload: make([]byte, size)}
		must(t, pub.SendDatagram(o.Append(nil, pub.Draft())))
		time.Sleep(pause)
	}
}

// TestSlowDatagramsAreDropped: datagrams that the datapath leaves to the slow path are dropped by the client's policy too, singly and by
// importance, and each is accounted for with its reason.
func TestSlowDatagramsAreDropped(t *testing.T) {
	const n = 200
	bands := func(b datapath.Band) []datapath.Band {
		b.UpTo = datapath.MaxImportance
		return []datapath.Band{{UpTo: datapath.Importance(128, important), Overflow: true}, b}
	}
	half := datapath.Band{Drop: 0.5}
	for name, c := range map[string]struct {
		policy   datapath.Policy
		why      string
		from, to int // how many of the unimportant ones arrive
	}{
		"share":   {datapath.Policy{Bands: bands(half)}, "drop_share", n * 35 / 100, n * 65 / 100},
		"reserve": {datapath.Policy{Rate: 40_000, Burst: 10_000, Overflow: 1 << 20, Bands: bands(datapath.Band{})}, "drop_reserve", 5, n / 2},
		"all":     {datapath.Policy{Bands: bands(datapath.Band{})}, "", n, n},
	} {
		t.Run(name, func(t *testing.T) {
			inSlowDatagramWorld(t, c.policy, netsim.Shape{Delay: delay}, func(w *world, pub *publisher, alias uint64, s *moq.Session) {
				t := w.t
				counted := countDatagrams(w, s)
				for i := range uint64(n) {
					sendDatagrams(t, pub, alias, 2*i, 1, important, 100, 0)
					sendDatagrams(t, pub, alias, 2*i+1, 1, unimportant, 400, 2*time.Millisecond)
				}
				got := <-counted
				if got[important] != n || got[unimportant] < c.from || got[unimportant] > c.to {
					t.Errorf("%v came of %d each, want all of %d and %d to %d of %d", got, n, important, c.from, c.to, unimportant)
				}
				sub := w.media("live")
				dropped := uint64(n - got[unimportant])
				tally := sub[unimportant]
				if tally.Published != n || tally.Delivered != uint64(got[unimportant]) || tally.Open != 0 || tally.Dropped[c.why] != dropped {
					t.Errorf("%+v, want %d dropped as %s", tally, dropped, c.why)
				}
				if tally := sub[important]; tally.Published != n || tally.Delivered != n {
					t.Errorf("%+v of what is important", tally)
				}
				if r := w.relay.Stats().Reasons; c.why != "" && r[c.why] != dropped {
					t.Errorf("%d are counted as %s, want %d", r[c.why], c.why, dropped)
				}
			})
		})
	}
}

// TestSlowDatagramsThatWait: what waits on the slow path counts as what the plan was drawn from, so that the policy decides what is dropped and
// not the queue's length; and what has waited for longer than its band allows is not sent.
func TestSlowDatagramsThatWait(t *testing.T) {
	const n = 1500
	path := netsim.Shape{Delay: delay, Rate: 20_000, Queue: 5_000}
	run := func(p datapath.Policy) (tally relay.Tally, reasons map[string]uint64) {
		inSlowDatagramWorld(t, p, path, func(w *world, pub *publisher, alias uint64, s *moq.Session) {
			counted := countDatagrams(w, s)
			sendDatagrams(w.t, pub, alias, 0, n, unimportant, 400, 2*time.Millisecond)
			<-counted
			tally, reasons = w.media("live")[unimportant], w.relay.Stats().Reasons
		})
		return tally, reasons
	}
	tally, _ := run(datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance}}})
	if tally.Dropped["datagram_queue_full"] < 100 {
		t.Errorf("%+v: nothing waits here", tally)
	}
	tally, reasons := run(datapath.Policy{Rate: 1_000_000, Burst: 40_000, Bands: []datapath.Band{{UpTo: datapath.MaxImportance}}})
	if tally.Dropped["datagram_queue_full"] > 0 || tally.Dropped["drop_reserve"] < 100 || tally.Published != n || tally.Open > 0 {
		t.Errorf("%+v; %v", tally, reasons)
	}
	tally, reasons = run(datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, MaxAge: 200 * time.Millisecond}}})
	if tally.Dropped["delivery_timeout"] < 100 || tally.Delivered < 20 || tally.Published != n || tally.Open > 0 {
		t.Errorf("%+v; %v", tally, reasons)
	}
}

// TestSlowDatagramsAreCut: once a datagram is dropped whose band says so, nothing less is left of its group, on the slow path as in the datapath.
func TestSlowDatagramsAreCut(t *testing.T) {
	const groups, each = 50, 4
	p := datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: 0.2, Cut: true}}}
	inSlowDatagramWorld(t, p, netsim.Shape{Delay: delay}, func(w *world, pub *publisher, alias uint64, s *moq.Session) {
		counted := countDatagrams(w, s)
		for g := range uint64(groups) {
			for range each {
				sendDatagrams(w.t, pub, alias, g, 1, unimportant, 100, 5*time.Millisecond)
			}
		}
		got := <-counted
		tally := w.media("live")[unimportant]
		if share, cut := tally.Dropped["drop_share"], tally.Dropped["drop_group"]; share == 0 || cut == 0 || share+cut+uint64(got[unimportant]) != groups*each {
			w.t.Errorf("%d came of %d, %+v", got[unimportant], groups*each, tally)
		}
	})
}

// TestDropsOfBothPaths: what the policy drops in the datapath and on the slow path is counted together.
func TestDropsOfBothPaths(t *testing.T) {
	p := datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: 0.5}}}
	inSlowDatagramWorld(t, p, netsim.Shape{Delay: delay}, func(w *world, pub *publisher, alias uint64, _ *moq.Session) {
		fast, _ := w.session(wire.Draft16, nil)
		w.subscribe(fast, moq.SubscribeOptions{})
		sleep(w.t, 1)
		sendDatagrams(w.t, pub, alias, 0, 100, unimportant, 100, 5*time.Millisecond)
		sleep(w.t, 1)
		stats, dropped := w.relay.Stats(), uint64(0)
		for _, track := range stats.Tracks {
			for _, sub := range track.Subscribers {
				n := sub.Media[unimportant].Dropped["drop_share"]
				if track.Namespace[0] == "live" && n < 20 {
					w.t.Errorf("%d were dropped for one of the subscribers, %+v", n, sub)
				}
				dropped += n
			}
		}
		if stats.Reasons["drop_share"] != dropped {
			w.t.Errorf("%d are counted, want %d", stats.Reasons["drop_share"], dropped)
		}
	})
}
