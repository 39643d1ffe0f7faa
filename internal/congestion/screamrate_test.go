package congestion_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/internal/congestion"
)

// over has a controller with a window of 100 datagrams on a path of 40 ms see packets that were all sent before the first of them showed a queue:
// their RTT grows by grows for each, and one is acknowledged each every, or half as often after 100 ms. It returns the window after some time, in datagrams.
func over(every, grows, length int64) float64 {
	c := screamAt()
	start, total, w := c.now, uint64(datagram), c.Window()
	for rtt := 100 * ms; c.now < start+length; rtt += grows {
		p := congestion.Packet{Sent: min(c.now-rtt, start-ms), Size: datagram, InFlight: w}
		total += datagram
		c.OnAcked(c.now, p, c.Window())
		c.OnAck(c.now, congestion.Sample{RTT: rtt, Smoothed: rtt, Delivered: datagram, Total: total, Newest: p, InFlight: w})
		c.now += every
		if c.now > start+100*ms {
			c.now += every
		}
	}
	return float64(c.Window()) / datagram
}

// TestScreamRateFalls: once the delay has been above the target for 60 ms and is twice as much, the window is what 20 ms of queue make at the rate
// at which packets are acknowledged meanwhile; if that is what it was before, or the delay is short, it is 0.7.
func TestScreamRateFalls(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		every, grows, length int64
		low, high            float64 // datagrams
	}{
		{"slower", 5 * ms, 5 * ms, 100 * ms, 12, 13},           // 60 ms at 200 datagrams a second
		{"much slower", 20 * ms, 20 * ms, 100 * ms, 3, 3},      // … 50
		{"not yet known", 5 * ms, 5 * ms, 55 * ms, 70, 72},     // too early
		{"a short queue", 5 * ms, 0, 100 * ms, 70, 72},         // 60 ms
		{"as fast as before", ms / 2, ms / 2, 80 * ms, 70, 72}, // a path that stood still
		{"only once", 5 * ms, 5 * ms, 400 * ms, 12, 13},
	} {
		if got := over(tc.every, tc.grows, tc.length); got < tc.low || got > tc.high {
			t.Errorf("%s: a window of %.1f datagrams, want %.0f to %.0f", tc.name, got, tc.low, tc.high)
		}
	}
}

// TestScreamSlowPath: where a datagram takes about 50 ms, one that waits for another is no queue, and more is; what is above 100 ms is one.
func TestScreamSlowPath(t *testing.T) {
	for _, tc := range []struct {
		datagrams   int // of the window
		base, delay int64
		lower       bool
	}{{3, 96, 39, false}, {3, 96, 52, false}, {3, 96, 70, true}, {20, 96, 39, false}, {20, 96, 52, true}, {3, 300, 99, false}, {3, 300, 110, true}} {
		c := congestion.NewScream(datagram, tc.datagrams)
		c.OnAck(second, congestion.Sample{RTT: tc.base * ms, Smoothed: tc.base * ms})
		w := c.Window()
		c.OnAck(2*second, congestion.Sample{RTT: (tc.base + tc.delay) * ms, Smoothed: tc.base * ms, Newest: congestion.Packet{Sent: second}})
		if lower := c.Window() < w; lower != tc.lower {
			t.Errorf("%d datagrams, %d ms of queue: a window of %d after %d", tc.datagrams, tc.delay, c.Window(), w)
		}
	}
}

// TestScreamPace: the window is paced for an RTT of 100 ms at most, which are 60 of queue, and no more than 30 ms of it leave at once.
func TestScreamPace(t *testing.T) {
	c := screamAt()
	w := float64(c.Window())
	for _, tc := range []struct{ smoothed, paced int64 }{{40, 40}, {90, 90}, {300, 100}} {
		c.OnAck(c.now, congestion.Sample{RTT: 40 * ms, Smoothed: tc.smoothed * ms})
		want := w * 1000 / float64(tc.paced)
		if got := float64(c.Rate(tc.smoothed * ms)); got < 1.24*want || got > 1.26*want {
			t.Errorf("smoothed RTT of %d ms: paced with %.0f bytes/s, want 5/4 of %.0f", tc.smoothed, got, want)
		}
		if got := float64(c.Bandwidth()); got < 0.99*want || got > 1.01*want {
			t.Errorf("smoothed RTT of %d ms: the path is taken to carry %.0f bytes/s, want %.0f", tc.smoothed, got, want)
		}
	}
	for _, tc := range []struct{ rate, burst uint64 }{{10, 2 * datagram}, {1e6, 30_000}, {1e9, c.Window() / 2}} {
		if got := c.Burst(tc.rate); got != tc.burst {
			t.Errorf("%d bytes at once at %d bytes/s, want %d", got, tc.rate, tc.burst)
		}
	}
	if c := congestion.NewScream(datagram, 32); c.Bandwidth() != 0 || c.Rate(0) != 0 {
		t.Errorf("a path that is not known carries %d bytes/s, paced with %d", c.Bandwidth(), c.Rate(0))
	}
}

// TestScreamAfterDrop: when the path's rate falls to a quarter, what is in flight stands in the queue. It drains as if nothing were sent, and no new queue
// follows, while the path stays used.
func TestScreamAfterDrop(t *testing.T) {
	for _, rtt := range []int64{20, 50, 150} {
		b, cc := path(500), congestion.NewScream(datagram, 32)
		b.rtt = func(int64) int64 { return rtt * ms }
		b.rate = func(now int64) float64 {
			if now > 12*second {
				return 1e6 / 8
			}
			return 4e6 / 8
		}
		f := b.join(0, cc, true)
		var inFlight, before uint64
		b.at(12*second, func() { inFlight = f.sender.InFlight() })
		b.at(13*second, func() { before = f.delivered })
		long := int64(0)
		b.watch(14*second, func() {
			if b.now > 12*second && b.free-b.now > 100*ms {
				long += ms
			}
		})
		b.run(14 * second)
		// It is seen an RTT after the drop, when as much again may have been sent as has been acknowledged since.
		most := int64(float64(inFlight)/(1e6/8)*1e9) + 2*rtt*ms
		used := float64(f.delivered-before) / (1e6 / 8)
		t.Logf("RTT %d ms: %d ms above 100 ms, %.0f ms in flight at the drop, %.0f %% used", rtt, long/ms, float64(inFlight)/(1e6/8)*1e3, 100*used)
		if long > most || used < 0.85 {
			t.Errorf("RTT %d ms: the queue is above 100 ms for %d ms, want at most %d; %.0f %% of the path is used", rtt, long/ms, most/ms, 100*used)
		}
	}
}
