package congestion

import (
	"math"
	"testing"
)

// cubicAt returns a Cubic whose window was w datagrams when it lost a packet at 0, and whose first packet since is acknowledged at 0 too.
func cubicAt(w int) *Cubic {
	c := NewCubic(mss, w)
	c.OnLost(0, Packet{Sent: 0, Size: mss})
	return c
}

// play acknowledges a window of packets per RTT until a time in seconds. RTT is in seconds.
func play(c *Cubic, until, rtt float64) {
	c.OnAck(0, Sample{Smoothed: int64(rtt * 1e9)})
	for at := float64(c.last) / 1e9; at < until; {
		n := max(c.Window()/mss, 1)
		step := rtt / float64(n)
		for range n {
			at += step
			now := int64(at * 1e9)
			c.OnAcked(now, Packet{Sent: now, Size: mss}, c.Window())
		}
	}
}

// TestCubicFunction: the window is 0.7 W_max at the beginning, W_max at K, and beyond it W_max + C (t - K)³ (RFC 9438, section 4.2), an
// RTT ahead.
func TestCubicFunction(t *testing.T) {
	const w, rtt = 1000, 0.1
	k := math.Cbrt(w * (1 - cubicBeta) / cubicC) // 9.09 s
	for _, tc := range []struct{ at, want, within float64 }{
		{0, 700, 1}, {k / 2, w - 0.3*w/8, 8}, {k, w, 2}, {1.5 * k, w + 0.3*w/8, 8}, {2 * k, 1300, 20},
	} {
		c := cubicAt(w)
		play(c, tc.at, rtt)
		if got := float64(c.Window()) / mss; math.Abs(got-tc.want) > tc.within {
			t.Errorf("after %.2f s: %.1f datagrams, want %.1f", tc.at, got, tc.want)
		}
	}
}

// TestCubicRenoFriendly: on a short path the window is W_est, that of a Reno whose share is the same: alpha datagrams per RTT, and one once
// it is where it was (section 4.3).
func TestCubicRenoFriendly(t *testing.T) {
	const w, rtt = 20, 0.01
	rounds := func(c *Cubic) float64 { return c.exact / mss }
	c := cubicAt(w)
	play(c, 5*rtt, rtt)
	if got, want := rounds(c), 14+5*cubicAlpha; math.Abs(got-want) > 0.2 {
		t.Errorf("after 5 RTT %.2f datagrams, want %.2f", got, want)
	}
	play(c, 12*rtt, rtt) // 14 + 11.3 alpha are 20
	before := rounds(c)
	play(c, 22*rtt, rtt)
	if got := rounds(c) - before; got < 9 || got > 11.5 {
		t.Errorf("10 RTT beyond W_max %.2f datagrams more, want one each", got)
	}
}

// TestCubicFastConvergence: a window that did not get back to where it was lets go of more (section 4.7).
func TestCubicFastConvergence(t *testing.T) {
	c := cubicAt(100)
	if c.max != 100*mss || c.Window() != 70*mss || c.prior != 100*mss {
		t.Fatalf("W_max %v, window %d", c.max/mss, c.Window()/mss)
	}
	c.OnAcked(1, Packet{Sent: 1, Size: mss}, c.Window())
	c.OnLost(2, Packet{Sent: 1, Size: mss})
	if got := c.max / mss; math.Abs(got-70*(1+cubicBeta)/2) > 0.1 {
		t.Errorf("W_max %v after a loss below it, want 59.5", got)
	}
	if got := float64(c.Window()) / mss; math.Abs(got-49) > 0.1 {
		t.Errorf("window %v, want 49", got)
	}
	c.OnLost(3, Packet{Sent: 1, Size: mss}) // of the same period
	if got := float64(c.Window()) / mss; math.Abs(got-49) > 0.1 {
		t.Errorf("window %v after a second loss of the period", got)
	}
}

// TestCubicTargetIsBounded: in one RTT the window grows to 1.5 times at most (section 4.2).
func TestCubicTargetIsBounded(t *testing.T) {
	c := cubicAt(10)
	c.OnAcked(0, Packet{Sent: 1, Size: mss}, c.Window())
	c.rtt = 10e9
	before := c.exact
	c.OnAcked(100e9, Packet{Sent: 1, Size: mss}, c.Window())
	if want := before + 0.5*mss; c.exact > want+1 {
		t.Errorf("window %v after one packet, want at most %v", c.exact, want)
	}
}

// TestCubicIdle: time in which the window is not used does not count (section 5.8).
func TestCubicIdle(t *testing.T) {
	c := cubicAt(1000)
	play(c, 1, 0.1)
	w := c.Window()
	for now := c.last; now < 60e9; now += 10e6 {
		c.OnAcked(now, Packet{Sent: now, Size: mss}, c.Window()/4)
	}
	if c.Window() != w {
		t.Fatalf("a window that is not used went from %d to %d", w, c.Window())
	}
	c.OnAcked(c.last+10e6, Packet{Sent: c.last, Size: mss}, c.Window())
	if c.Window() > w+mss {
		t.Errorf("after a minute of little use the window jumped from %d to %d", w, c.Window())
	}
}

// TestCubicTimeout: slow start to 0.7 of the window, and from there on a window that is W_max (section 4.8).
func TestCubicTimeout(t *testing.T) {
	c := cubicAt(100)
	c.OnPersistentCongestion(1)
	if c.Window() != 2*mss {
		t.Fatalf("window %d, want two datagrams", c.Window())
	}
	for c.Window() < 70*mss {
		w := c.Window()
		c.OnAcked(2, Packet{Sent: 2, Size: mss}, w)
		if c.Window() != w+mss {
			t.Fatalf("no slow start: %d after %d", c.Window(), w)
		}
	}
	c.OnAcked(3, Packet{Sent: 2, Size: mss}, c.Window())
	if c.k != 0 || c.max != 70*mss {
		t.Errorf("K %v and W_max %v, want 0 and 70", c.k, c.max/mss)
	}
}

func TestCubicSlowStart(t *testing.T) {
	c := NewCubic(mss, 0)
	w := c.Window()
	for range w / mss {
		c.OnAcked(1, Packet{Sent: 1, Size: mss}, c.Window())
	}
	if c.Window() != 2*w {
		t.Errorf("window %d after a round trip, want %d", c.Window(), 2*w)
	}
	c.OnAcked(1, Packet{Sent: 1, Size: mss}, c.Window()/2-1)
	if c.Window() != 2*w {
		t.Error("slow start grew a window of which less than half was used")
	}
}

var _ Controller = (*Cubic)(nil)
