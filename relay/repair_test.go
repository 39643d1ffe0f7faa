package relay_test

import (
	"slices"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// TestRepairsInTheLongRun loses 2 % of the packets each way on the path to two subscribers, for a minute of media: every object
// arrives, and half of the repairs start within 1.5 RTT of the sending of what was lost.
func TestRepairsInTheLongRun(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live") // its path loses nothing
		lossy := netsim.Shape{Delay: 10 * time.Millisecond, Loss: 0.02}
		w.up, w.down = lossy, lossy
		const viewers, groups, every = 2, 3000, 20 * time.Millisecond
		var got [viewers]<-chan wire.SubgroupHeader
		var alias [viewers]uint64
		for i := range viewers {
			s, _ := w.session(wire.Draft16, &quic.Config{MaxIncomingUniStreams: 1000})
			got[i] = collect(w, s)
			alias[i] = w.subscribe(s, moq.SubscribeOptions{}).Alias
		}
		upstream := (<-pub.asks).alias
		sleep(t, 1)
		have := make([][]uint64, viewers)
		for g := uint64(1); g <= groups; g++ {
			h := wire.SubgroupHeader{TrackAlias: upstream, Group: g, Priority: uint8(g)}
			must(t, pub.stream(h, wire.Object{Payload: make([]byte, 200+g*97%3000)}).Close())
			time.Sleep(every)
			for i := range viewers {
				have[i] = append(have[i], take(got[i])[alias[i]]...)
			}
		}
		sleep(t, 10)
		for i := range viewers {
			have[i] = append(have[i], take(got[i])[alias[i]]...)
			slices.Sort(have[i])
			if n := len(slices.Compact(have[i])); n != groups || len(have[i]) != groups {
				t.Errorf("subscriber %d got %d streams, %d different ones, of %d", i, len(have[i]), n, groups)
			}
		}
		b := w.relay.Stats().Boundary
		t.Logf("%d packets forwarded, %d lost; repairs in µs: %v; in hundredths of the RTT: %v; %.3f within 1.5 RTT",
			b.ForwardedPackets, b.LostPackets, &b.RepairDelay, &b.RepairDelayRTT, b.RepairDelayRTT.Within(150))
		if b.RepairDelayRTT.Count < 50 || b.RepairDelayRTT.Quantile(.5) > 150 {
			t.Errorf("%d repairs, half of them after %d hundredths of the RTT", b.RepairDelayRTT.Count, b.RepairDelayRTT.Quantile(.5))
		}
	})
}
