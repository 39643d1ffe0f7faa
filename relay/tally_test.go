package relay_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// ended returns what of a tally is over.
func ended(t *relay.Tally) uint64 {
	n := t.Delivered
	for _, m := range []map[string]uint64{t.Dropped, t.Reset} {
		for _, k := range m {
			n += k
		}
	}
	return n
}

// TestTallies gives subscribers on narrow paths random policies and all kinds of trouble: they pause, resume and change their priority, stop streams,
// leave and come back, die, or speak another draft, and the publisher resets streams. Once nothing is sent any more, everything that was
// published has ended in one way, in the tallies of subscriptions that are still there, too.
func TestTallies(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			plan := &dropPlan{seed: seed, kind: 6}
			cfg := relay.Config{Heuristic: plan.heuristics(), MaxStreams: 40, QUIC: &quic.Config{MaxIdleTimeout: 30 * time.Second, KeepAlivePeriod: 10 * time.Second, MaxIncomingUniStreams: 1 << 16}}
			inFastWorldWith(t, cfg, func(w *world, dp *sim.Sim) { testTallies(w, dp, seed) })
		})
	}
}

func testTallies(w *world, dp *sim.Sim, seed uint64) {
	t := w.t
	rnd := rand.New(rand.NewPCG(seed, 4))
	pub := w.publisher(wire.Draft16, "live")
	w.up, w.down = netsim.Shape{Delay: 10 * time.Millisecond}, netsim.Shape{Delay: 10 * time.Millisecond, Rate: 10_000 + rnd.IntN(60_000), Queue: 20 << 10, Loss: rnd.Float64() * 0.05}

	pausing := w.stock(wire.Draft16)
	track, err := pausing.Subscribe(w.context(), []string{"live"}, "video")
	must(t, err)
	objectsOf(w.context(), track)
	alias := (<-pub.asks).alias

	picky, _ := w.session(wire.Draft16, &quic.Config{MaxIncomingUniStreams: int64(5 + rnd.IntN(200))})
	stops := rand.New(rand.NewPCG(seed, 5))
	go func() {
		for {
			rs, err := picky.AcceptDataStream(picky.Context())
			if err != nil {
				return
			}
			stop := stops.IntN(5) == 0
			go func() {
				b := make([]byte, 512)
				for n := 0; ; {
					k, err := rs.Read(b)
					if err != nil {
						return
					}
					if n += k; stop && n > 600 {
						rs.CancelRead(1)
						return
					}
				}
			}()
		}
	}()
	sub := w.subscribe(picky, moq.SubscribeOptions{Priority: 100, DeliveryTimeout: time.Duration(rnd.IntN(2)) * 300 * time.Millisecond})
	other, _ := w.session(wire.Draft14, nil)
	readAll(other)
	w.subscribe(other, moq.SubscribeOptions{})
	dying, conn := w.session(wire.Draft16, nil)
	readAll(dying)
	w.subscribe(dying, moq.SubscribeOptions{})
	sleep(t, 1)

	const frames, groups = 12, 12
	paused := false
	for g := range uint64(groups) {
		whole := wire.SubgroupHeader{TrackAlias: alias, Group: g, Priority: 100}
		layer := pub.stream(whole, wire.Object{Payload: make([]byte, 100)})
		for f := range uint64(frames) {
			h := wire.SubgroupHeader{TrackAlias: alias, Group: g, Subgroup: f + 1, SubgroupMode: wire.SubgroupExplicit, Priority: uint8(64 + f)}
			s := pub.stream(h, wire.Object{ID: 100 + f, Payload: make([]byte, 1+rnd.IntN(6000))})
			if rnd.IntN(10) == 0 {
				s.CancelWrite(9)
			} else {
				must(t, s.Close())
			}
			must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: alias, Group: g, ObjectID: 1000 + f, Priority: 16, Payload: make([]byte, 200)}).Append(nil, wire.Draft16)))
			pub.objects(layer, whole, f+1, wire.Object{ID: f + 1, Payload: make([]byte, rnd.IntN(3000))})
			switch rnd.IntN(12) {
			case 0:
				paused = !paused
				must(t, track.UpdateSubscription(w.context(), moqtransport.WithUpdateForward(!paused), moqtransport.WithUpdateSubscriberPriority(uint8(rnd.IntN(256)))))
			case 1:
				if sub != nil {
					_ = sub.Unsubscribe()
					sub = nil
				} else {
					sub = w.subscribe(picky, moq.SubscribeOptions{Priority: uint8(rnd.IntN(256))})
				}
			case 2:
				if g == groups/2 {
					w.die(conn.LocalAddr())
				}
			}
			time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
		}
		if rnd.IntN(8) == 0 {
			layer.CancelWrite(9)
		} else {
			must(t, layer.Close())
		}
	}
	w.die(conn.LocalAddr())
	sleep(t, 90)
	stats := w.relay.Stats()
	n := uint64(0)
	check := func(who string, media map[uint8]relay.Tally) {
		for priority, tally := range media {
			n += tally.Published
			if tally.Open != 0 || tally.Published != ended(&tally) {
				t.Errorf("%s, priority %d: %+v", who, priority, tally)
			}
		}
	}
	check("ended", stats.Ended)
	for _, track := range stats.Tracks {
		for _, s := range track.Subscribers {
			check(s.Remote, s.Media)
		}
	}
	if streams, clientStreams := dp.Entries(); streams > 0 || clientStreams > 0 {
		t.Errorf("datapath has %d streams and %d streams of clients left", streams, clientStreams)
	}
	if n == 0 {
		t.Error("nothing was published")
	}
}
