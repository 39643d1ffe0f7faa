package congestion

import "math"

// Constants of RFC 9002, sections 7.2 and 7.7.
const (
	initialDatagrams = 10
	initialBytes     = 14720
	minimumDatagrams = 2
	// paceNumerator/paceDenominator is by how much pacing is faster than a window per RTT, so that it does not hold back
	// a sender that could use its window.
	paceNumerator, paceDenominator = 5, 4
)

// maxWindow keeps a window that nothing limits from growing without end. It is more than a second of 1 Gbit/s.
const maxWindow = 1 << 27

// NewReno is the controller of RFC 9002, section 7: slow start, congestion avoidance, one reduction to a half per recovery
// period, no growth while the window is not used.
type NewReno struct {
	datagram  uint64
	first     uint64 // datagrams of the initial window; 0: those of the RFC
	window    uint64
	threshold uint64 // slow start below
	credit    uint64 // bytes acknowledged towards the next datagram of growth
	// recovery is when the recovery period began: packets sent until then neither grow nor reduce the window.
	recovery   int64
	recovering bool // there was a recovery period
}

// NewNewReno returns a controller for a new path on which datagrams have up to n bytes. The initial window is of as many datagrams
// as first says, with 0 what RFC 9002, section 7.2, recommends: ten, and at most 14720 bytes.
func NewNewReno(n, first int) *NewReno {
	c := &NewReno{datagram: uint64(max(n, 1)), first: uint64(max(first, 0)), threshold: math.MaxUint64}
	c.window = c.initial()
	return c
}

// initial returns the initial window (section 7.2).
func (c *NewReno) initial() uint64 {
	if c.first > 0 {
		return c.first * c.datagram
	}
	return min(initialDatagrams*c.datagram, max(initialBytes, minimumDatagrams*c.datagram))
}

// SetDatagramSize implements Controller. A window that is still the initial one is worked out anew.
func (c *NewReno) SetDatagramSize(n int) {
	untouched := c.threshold == math.MaxUint64 && c.window == c.initial()
	c.datagram = uint64(max(n, 1))
	if untouched {
		c.window = c.initial()
	}
	c.window = max(c.window, minimumDatagrams*c.datagram)
}

// OnSent implements Controller.
func (c *NewReno) OnSent(Packet, uint64) {}

// OnAcked implements Controller (sections 7.3.1, 7.3.3 and 7.8).
func (c *NewReno) OnAcked(_ int64, p Packet, inFlight uint64) {
	if c.recovering && p.Sent <= c.recovery {
		return
	}
	slowStart := c.window < c.threshold
	if !c.limited(inFlight, slowStart) || c.window >= maxWindow {
		return
	}
	if slowStart {
		c.window += uint64(p.Size)
		return
	}
	c.credit += uint64(p.Size)
	if c.credit >= c.window {
		c.credit -= c.window
		c.window += c.datagram
	}
}

// limited says whether the window is what limits the sender. Media come in bursts that are seen as acknowledgments take them
// out of flight, so in slow start half a window in flight counts as used; otherwise all but a burst of three datagrams does.
func (c *NewReno) limited(inFlight uint64, slowStart bool) bool {
	if slowStart {
		return 2*inFlight >= c.window
	}
	return inFlight+3*c.datagram > c.window
}

// OnLost implements Controller (section 7.3.2).
func (c *NewReno) OnLost(now int64, p Packet) {
	if c.recovering && p.Sent <= c.recovery {
		return
	}
	c.recovery, c.recovering = now, true
	c.threshold = c.window / 2
	c.window = max(c.threshold, minimumDatagrams*c.datagram)
	c.credit = 0
}

// OnPersistentCongestion implements Controller (section 7.6.2).
func (c *NewReno) OnPersistentCongestion(int64) {
	c.window = minimumDatagrams * c.datagram
	c.recovering, c.credit = false, 0
}

// OnAck implements Controller.
func (c *NewReno) OnAck(int64, Sample) {}

// Window implements Controller.
func (c *NewReno) Window() uint64 { return c.window }

// Rate implements Controller (section 7.7).
func (c *NewReno) Rate(smoothed int64) uint64 {
	if smoothed <= 0 {
		return 0
	}
	return max(uint64(float64(c.window)*paceNumerator/paceDenominator*1e9/float64(smoothed)), 1)
}
