package congestion

// NewReno is the controller of RFC 9002, section 7: slow start, congestion avoidance, one reduction to a half per recovery
// period, no growth while the window is not used.
type NewReno struct {
	windowed
	credit uint64 // bytes acknowledged towards the next datagram of growth
}

// NewNewReno returns a controller for a new path on which datagrams have up to n bytes. The initial window is of as many datagrams
// as first says, with 0 what RFC 9002, section 7.2, recommends: ten, and at most 14720 bytes.
func NewNewReno(n, first int) *NewReno {
	return &NewReno{windowed: newWindowed(n, first, minimumDatagrams)}
}

// OnAcked implements Controller (sections 7.3.1, 7.3.3 and 7.8).
func (c *NewReno) OnAcked(_ int64, p Packet, inFlight uint64) {
	if c.before(p) || !c.limited(inFlight) {
		return
	}
	if c.slowStart() {
		c.set(c.window + uint64(p.Size))
		return
	}
	c.credit += uint64(p.Size)
	if c.credit >= c.window {
		c.credit -= c.window
		c.set(c.window + c.datagram)
	}
}

// OnLost implements Controller (section 7.3.2).
func (c *NewReno) OnLost(now int64, p Packet) {
	if c.before(p) {
		return
	}
	c.reduce(now, 0.5)
	c.credit = 0
}

// OnPersistentCongestion implements Controller (section 7.6.2).
func (c *NewReno) OnPersistentCongestion(int64) {
	c.set(0)
	c.recovering, c.credit = false, 0
}

// OnAck implements Controller.
func (c *NewReno) OnAck(int64, Sample) {}
