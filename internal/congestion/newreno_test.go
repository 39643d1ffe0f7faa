package congestion

import "testing"

const mss = 1200

// full acknowledges one packet while the window is full.
func full(c *NewReno, now, sent int64) {
	c.OnAcked(now, Packet{Sent: sent, Size: mss}, c.Window())
}

// TestInitialWindow: RFC 9002, section 7.2: ten datagrams, at most 14720 bytes or two datagrams, whichever is more.
func TestInitialWindow(t *testing.T) {
	for _, tc := range []struct {
		datagram int
		want     uint64
	}{{1200, 12000}, {1452, 14520}, {1472, 14720}, {1500, 14720}, {9000, 18000}} {
		if got := NewNewReno(tc.datagram, 0).Window(); got != tc.want {
			t.Errorf("datagrams of %d bytes: window %d, want %d", tc.datagram, got, tc.want)
		}
	}
}

func TestInitialWindowOfAnotherSize(t *testing.T) {
	c := NewNewReno(1200, 32)
	c.SetDatagramSize(1452)
	if c.Window() != 32*1452 {
		t.Errorf("window %d, want %d", c.Window(), 32*1452)
	}
}

func TestDatagramSize(t *testing.T) {
	c := NewNewReno(1200, 0)
	c.SetDatagramSize(1452)
	if c.Window() != 14520 {
		t.Errorf("initial window %d after path MTU discovery, want 14520", c.Window())
	}
	full(c, 1, 0)
	w := c.Window()
	c.SetDatagramSize(1300)
	if c.Window() != w {
		t.Errorf("a window in use changed from %d to %d with the datagram size", w, c.Window())
	}
	c.OnPersistentCongestion(2)
	c.SetDatagramSize(1400)
	if c.Window() != 2800 {
		t.Errorf("window %d, want the minimum of two datagrams", c.Window())
	}
}

// TestSlowStart: the window grows by what is acknowledged, so it doubles each round trip (section 7.3.1).
func TestSlowStart(t *testing.T) {
	c := NewNewReno(mss, 0)
	for round := range 3 {
		before := c.Window()
		for range before / mss {
			full(c, int64(round), int64(round))
		}
		if c.Window() != 2*before {
			t.Fatalf("round %d: window %d, want %d", round, c.Window(), 2*before)
		}
	}
}

// TestRecoveryPeriod: a loss halves the window once; what was sent before has no more effect, neither lost nor acknowledged
// (section 7.3.2). What was sent later ends the period.
func TestRecoveryPeriod(t *testing.T) {
	c := NewNewReno(mss, 0)
	for range 30 {
		full(c, 1, 1)
	}
	w := c.Window()
	c.OnLost(100, Packet{Sent: 50, Size: mss})
	if c.Window() != w/2 {
		t.Fatalf("window %d after a loss, want %d", c.Window(), w/2)
	}
	c.OnLost(110, Packet{Sent: 60, Size: mss})
	c.OnLost(110, Packet{Sent: 100, Size: mss})
	full(c, 110, 70)
	if c.Window() != w/2 {
		t.Fatalf("window %d in the recovery period, want %d", c.Window(), w/2)
	}
	c.OnLost(200, Packet{Sent: 101, Size: mss})
	if c.Window() != w/4 {
		t.Fatalf("window %d after a loss in the next period, want %d", c.Window(), w/4)
	}
}

// TestCongestionAvoidance: one datagram for each window that is acknowledged (section 7.3.3).
func TestCongestionAvoidance(t *testing.T) {
	c := NewNewReno(mss, 0)
	c.OnLost(1, Packet{Sent: 0, Size: mss})
	for range 5 {
		w := c.Window()
		for range (w + mss - 1) / mss {
			full(c, 3, 2)
		}
		if got := c.Window(); got != w+mss {
			t.Fatalf("window %d after a round trip, want %d", got, w+mss)
		}
	}
}

// TestUnderutilized: a window that is not used does not grow (section 7.8).
func TestUnderutilized(t *testing.T) {
	c := NewNewReno(mss, 0)
	w := c.Window()
	c.OnAcked(2, Packet{Sent: 1, Size: mss}, w/2-1)
	if c.Window() != w {
		t.Errorf("slow start grew a window of which less than half was used")
	}
	c.OnAcked(2, Packet{Sent: 1, Size: mss}, w/2)
	if c.Window() != w+mss {
		t.Errorf("slow start did not grow a window of which half was used")
	}
	c.OnLost(3, Packet{Sent: 1, Size: mss})
	w = c.Window()
	for range 100 {
		c.OnAcked(5, Packet{Sent: 4, Size: mss}, w-3*mss)
	}
	if c.Window() != w {
		t.Errorf("congestion avoidance grew a window that was not used")
	}
}

// TestMinimumWindow: two datagrams (sections 7.2 and 7.6.2).
func TestMinimumWindow(t *testing.T) {
	c := NewNewReno(mss, 0)
	for now := int64(1); now < 20; now++ {
		c.OnLost(2*now, Packet{Sent: 2*now - 1, Size: mss})
	}
	if c.Window() != 2*mss {
		t.Errorf("window %d after many losses, want %d", c.Window(), 2*mss)
	}
	c = NewNewReno(mss, 0)
	c.OnLost(10, Packet{Sent: 1, Size: mss})
	threshold := c.Window()
	c.OnPersistentCongestion(10)
	if c.Window() != 2*mss {
		t.Errorf("window %d after persistent congestion, want %d", c.Window(), 2*mss)
	}
	// The recovery period is over, and slow start goes up to the threshold.
	for c.Window() < threshold {
		w := c.Window()
		full(c, 11, 5)
		if c.Window() != w+mss {
			t.Fatalf("no slow start after persistent congestion: %d after %d", c.Window(), w)
		}
	}
}

func TestRate(t *testing.T) {
	c := NewNewReno(mss, 0)
	if got := c.Rate(0); got != 0 {
		t.Errorf("rate %d without an RTT, want none", got)
	}
	if got, want := c.Rate(100e6), uint64(150_000); got != want { // 12000 bytes in 100 ms, and a quarter more
		t.Errorf("rate %d, want %d", got, want)
	}
}

func TestWindowIsBounded(t *testing.T) {
	c := NewNewReno(mss, 0)
	for range 40 {
		c.OnAcked(2, Packet{Sent: 1, Size: maxWindow}, maxWindow)
	}
	if c.Window() > 2*maxWindow {
		t.Errorf("window %d", c.Window())
	}
}

var _ Controller = (*NewReno)(nil)
