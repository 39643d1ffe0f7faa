package congestion_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/internal/congestion"
)

// screamer feeds a Scream with ACKs of single packets.
type screamer struct {
	*congestion.Scream
	now int64
}

// ack tells of a packet that was sent rtt ago, when the window was full, and of what the peer waited.
func (c *screamer) ack(rtt, waited int64) {
	w := c.Window()
	p := congestion.Packet{Sent: c.now - rtt, Size: datagram, InFlight: w}
	c.OnAcked(c.now, p, w)
	c.OnAck(c.now, congestion.Sample{RTT: rtt, AckDelay: waited, Smoothed: rtt, Delivered: datagram, Newest: p, InFlight: w})
	c.now += ms
}

// screamAt returns one that knows a path of 40 ms, with a window of 100 datagrams.
func screamAt() *screamer {
	c := &screamer{congestion.NewScream(datagram, 100), second}
	c.ack(40*ms, 0)
	return c
}

// TestScreamBacksOff: above 40 ms of queue the window becomes what would have made 20, and 0.7 of what it was at least; what the peer waited is no
// queue.
func TestScreamBacksOff(t *testing.T) {
	for _, tc := range []struct {
		rtt, waited int64
		share       float64 // 0: it grows
	}{
		{79, 0, 0}, {82, 0, 60.0 / 82}, {85, 0, 60.0 / 85}, {100, 0, 0.7}, {400, 0, 0.7}, {100, 25, 0}, {107, 25, 60.0 / 82},
	} {
		c := screamAt()
		w := c.Window()
		c.ack(tc.rtt*ms, tc.waited*ms)
		if tc.share == 0 {
			if c.Window() < w {
				t.Errorf("%d ms, %d of them at the peer: window %d after %d", tc.rtt, tc.waited, c.Window(), w)
			}
			continue
		}
		if got := float64(c.Window()) / float64(w); got < tc.share-0.02 || got > tc.share+0.01 {
			t.Errorf("%d ms, %d of them at the peer: %.3f of the window, want %.3f", tc.rtt, tc.waited, got, tc.share)
		}
	}
}

// TestScreamOncePerRoundTrip: packets that were sent before the window was reduced do not reduce it again, nor make it grow.
func TestScreamOncePerRoundTrip(t *testing.T) {
	c := screamAt()
	c.ack(100*ms, 0)
	w := c.Window()
	for range 90 {
		c.ack(100*ms, 0)
	}
	if c.Window() != w {
		t.Fatalf("window %d after %d in the same round trip", c.Window(), w)
	}
	for range 20 {
		c.ack(100*ms, 0)
	}
	if c.Window() >= w {
		t.Errorf("the next round trip with a queue left the window at %d", c.Window())
	}
}

// TestScreamLongPath: an RTT that does not change is no queue, however long.
func TestScreamLongPath(t *testing.T) {
	c := &screamer{congestion.NewScream(datagram, 100), second}
	w := c.Window()
	for range 1000 {
		c.ack(600*ms, 0)
	}
	if c.Window() < 4*w {
		t.Errorf("on a path of 600 ms the window went from %d to %d", w, c.Window())
	}
}

// TestScreamLoss: 0.8 of the window, once per round trip (RFC 8298, section 4.1.2.2).
func TestScreamLoss(t *testing.T) {
	c := screamAt()
	w := c.Window()
	for range 3 {
		c.OnLost(c.now, congestion.Packet{Sent: c.now - 40*ms, Size: datagram})
	}
	if got := float64(c.Window()) / float64(w); got < 0.79 || got > 0.81 {
		t.Errorf("%.3f of the window after losses, want 0.8", got)
	}
	c.OnPersistentCongestion(c.now)
	if c.Window() != 2*datagram {
		t.Errorf("window %d after persistent congestion", c.Window())
	}
	for range 10 {
		c.ack(40*ms, 0)
	}
	if c.Window() != 12*datagram {
		t.Errorf("window %d after ten packets, want fast increase", c.Window())
	}
	c.ack(51*ms, 0) // a quarter of the target and more
	w = c.Window()
	c.ack(51*ms, 0)
	if c.Window() != w {
		t.Errorf("fast increase goes on with a queue: %d after %d", c.Window(), w)
	}
	c.OnPersistentCongestion(c.now)
	c.ack(140*ms, 0)
	if c.Base() != 140*ms {
		t.Errorf("after persistent congestion the path is taken for one of %d ms", c.Base()/ms)
	}
}

// TestScreamUnused: a window of which less than half is used does not grow.
func TestScreamUnused(t *testing.T) {
	c := screamAt()
	w := c.Window()
	for range 1000 {
		c.now += ms
		p := congestion.Packet{Sent: c.now - 40*ms, Size: datagram, InFlight: w / 3}
		c.OnAcked(c.now, p, w/3)
		c.OnAck(c.now, congestion.Sample{RTT: 40 * ms, Smoothed: 40 * ms, Newest: p, InFlight: w / 3})
	}
	if c.Window() != w {
		t.Errorf("window %d after %d", c.Window(), w)
	}
}

// TestScreamGaps: a flow that always sends makes a gap every 5 s, media that leave some make none, and both know the path.
func TestScreamGaps(t *testing.T) {
	for _, bulk := range []bool{true, false} {
		b, cc := path(300), congestion.NewScream(datagram, 32)
		f := b.join(0, cc, bulk)
		if !bulk {
			f.media(0, 31*second, 4e6/8, 0)
		}
		gaps, was := 0, false
		b.watch(31*second, func() {
			if cc.Draining() && !was {
				gaps++
			}
			was = cc.Draining()
			if b.now > second && (cc.Base() < 40*ms || cc.Base() > 55*ms) && !cc.Draining() && b.now%(5*second) > 500*ms {
				t.Fatalf("at %d ms the path is taken for one of %d ms", b.now/ms, cc.Base()/ms)
			}
		})
		b.run(31 * second)
		if want := map[bool]int{true: 6, false: 0}[bulk]; gaps != want {
			t.Errorf("bulk %v: %d gaps in 31 s, want %d", bulk, gaps, want)
		}
	}
}

// TestScreamGapEnds: a gap ends also if others keep the connection full, as quic-go may, which does not ask for the window.
func TestScreamGapEnds(t *testing.T) {
	c := screamAt()
	small := 0
	for range 20_000 {
		c.OnAck(c.now, congestion.Sample{RTT: 40 * ms, Smoothed: 40 * ms, InFlight: 1 << 26})
		if c.Draining() {
			small++
		}
		c.now += ms
	}
	if small < 500 || small > 1000 {
		t.Errorf("%d of 20000 ms are gaps", small)
	}
}

// TestScreamRouteChange: a path that gets longer looks like a queue, for at most 7.5 s; a shorter one is known at once.
func TestScreamRouteChange(t *testing.T) {
	for _, bulk := range []bool{true, false} {
		b, cc := path(300), congestion.NewScream(datagram, 32)
		b.rtt = func(now int64) int64 {
			if now > 11*second && now < 30*second {
				return 140 * ms
			}
			return 40 * ms
		}
		f := b.join(0, cc, bulk)
		if !bulk {
			f.media(0, 40*second, 8e6/8, 0)
		}
		check := func(at, base int64) {
			b.at(at, func() {
				if got := cc.Base(); got < base*ms || got > (base+12)*ms {
					t.Errorf("bulk %v: at %d s the path is taken for one of %d ms, it has %d", bulk, at/second, got/ms, base)
				}
			})
		}
		check(10*second, 40)
		check(18500*ms, 140)
		check(31*second, 40)
		var before uint64
		b.at(20*second, func() { before = f.delivered })
		b.at(29*second, func() {
			if used := float64(f.delivered-before) / (9 * 10e6 / 8); used < 0.75 {
				t.Errorf("bulk %v: %.0f %% of the rate on the longer path", bulk, 100*used)
			}
		})
		b.run(40 * second)
	}
}
