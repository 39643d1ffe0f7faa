package relay_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// TestPauseAtAnyTime pauses and resumes a stock subscription on the fast path again and again, at random moments between objects, with a stream for each
// object and with one for each group: what began while it was not paused comes, once, and nothing else. Beside it somebody who never
// pauses gets everything.
func TestPauseAtAnyTime(t *testing.T) {
	var fast, slow uint64
	for seed := range uint64(24) {
		d, long := []wire.Draft{wire.Draft14, wire.Draft16}[seed%2], seed%4 < 2
		t.Run(fmt.Sprintf("seed %d %v long streams %v", seed, d, long), func(t *testing.T) {
			inFastWorld(t, func(w *world, _ *sim.Sim) {
				t := w.t
				rnd := rand.New(rand.NewPCG(seed, 1))
				pub := w.publisher(d, "live")
				var take []func() []string
				var tracks []*moqtransport.RemoteTrack
				for range 2 {
					track, err := w.stock(d).Subscribe(w.context(), []string{"live"}, "video")
					must(t, err)
					tracks, take = append(tracks, track), append(take, objectsOf(w.context(), track))
				}
				alias := (<-pub.asks).alias
				sleep(t, 1)
				var want, all []string
				paused, begun := false, uint64(0)
				var out *quic.SendStream
				for g := range uint64(8) {
					for id := range uint64(6) {
						h := wire.SubgroupHeader{TrackAlias: alias, Group: g, Subgroup: id, SubgroupMode: wire.SubgroupExplicit}
						next := uint64(0)
						if long {
							h.Subgroup, next = 0, id
						}
						if !long || id == 0 {
							out = pub.stream(h)
							if !paused {
								begun++
							}
						}
						pub.objects(out, h, next, wire.Object{ID: id, Payload: bytes.Repeat([]byte{byte(id)}, 1+rnd.IntN(4000))})
						if !long || id == 5 {
							must(t, out.Close())
						}
						all = append(all, fmt.Sprintf("%d/%d", g, id))
						if !paused {
							want = append(want, fmt.Sprintf("%d/%d", g, id))
						}
						time.Sleep(40 * time.Millisecond)
						if rnd.IntN(4) == 0 {
							paused = !paused
							must(t, tracks[0].UpdateSubscription(w.context(), moqtransport.WithUpdateForward(!paused)))
							time.Sleep(40 * time.Millisecond)
						}
					}
				}
				sleep(t, 2)
				for i, expect := range [][]string{want, all} {
					if got := take[i](); !slices.Equal(got, expect) {
						t.Errorf("subscriber %d got\n%v, want\n%v", i, got, expect)
					}
				}
				if n := subscribers(w.relay)[0].FastStreams; n > begun {
					t.Errorf("the datapath has opened %d streams, %d began while there was no pause", n, begun)
				}
				for _, s := range subscribers(w.relay) {
					fast, slow = fast+s.FastStreams, slow+s.SlowStreams
				}
			})
		})
	}
	t.Logf("%d streams by the datapath, %d by the relay", fast, slow)
	if fast < 500 || slow < 20 {
		t.Errorf("%d streams by the datapath, %d by the relay: not both are tested", fast, slow)
	}
}
