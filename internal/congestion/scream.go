package congestion

// Scream is a controller for live media after SCReAM (RFC 8298, section 4.1.2): it keeps the queue at the bottleneck at a target by its
// delay, whatever the media are. It differs where there are no one-way delays, and where several of its kind are to share a path:
//
//   - The queueing delay is the RTT, less what the peer waited, less the smallest such RTT (the RFC: one-way delay by timestamps).
//   - The smallest RTT is that of the last 2.5 to 5 s. A flow that left no gap for so long makes one, as BBR does, but at multiples of 5 s of
//     the clock: flows of one sender do so together, and one that came late learns how long the path is. Media have gaps.
//   - Above the target the window becomes, once per round trip, what makes half of it, and not less than 0.7 of what it was; below, it grows by a
//     datagram for each 40 ms of a round trip, and by an eighth while there is hardly a queue (the RFC: both in proportion to the distance from the
//     target, which does not make flows equal, and fast increase again after 5 s).
//   - A queue of twice the target shows a path whose rate fell. 0.7 for each of the round trips that have become long would keep it for a second, so
//     once it is known how fast the path empties it, the window becomes what half of the target is at that rate.
//   - The target is no less than a datagram takes the path and a little: behind another one is not a queue (RFC 8289, section 4.2, says so of its own).
//   - Bursts are three quarters of the target long. While the smoothed RTT is far beyond what the window is for, it is paced for that.
//   - Growth needs a window of which half is used, as media come in bursts; there is no adaptation of the target to flows that fill queues (section
//     4.1.2.4 of the RFC), beside which it gets little.
//
// The media's rate control of the RFC (section 4.1.3) is the publisher's, who is not here.
type Scream struct {
	windowed
	credit uint64 // bytes acknowledged towards the next datagram of growth

	least    [2]int64 // the smallest RTTs of this bucket of time and of the last one, ns; 0: none
	bucket   int64
	base     int64 // the smaller one
	gap      int64 // when there was last hardly anything in flight
	draining bool  // a gap is made
	until    int64 // when it ends

	delay    int64 // of the last sample
	rtt      int64 // of the last sample
	smoothed int64 // RTT
	target   int64 // delay of the queue that is kept to
	fast     bool  // fast increase: as slow start

	// What the path carries since the delay was above the target.
	over     int64 // since when it has been, 0: it is not
	had      uint64
	measured bool // the window was set by it
}

// Constants of Scream: those of RFC 8298, section 4.1.1.1, where they are named so.
const (
	screamTarget = 40e6             // QDELAY_TARGET, ns; the RFC's is 100 ms
	screamLoss   = 0.8              // BETA_LOSS
	screamMin    = minimumDatagrams // MIN_CWND, datagrams
	screamBurst  = 2                // datagrams that may always leave at once
	// screamFast is the delay at which fast increase ends, and screamMost the most that one round trip reduces a window to.
	screamFast = screamTarget / 4
	screamStep = 40e6 // ns of RTT for each datagram of growth
	screamMost = 0.7
	// screamPackets is the least target as a multiple of the time that a datagram takes, as long as that is at most screamTargetMost.
	screamPackets    = 1.1
	screamTargetMost = 100e6
	// screamMeasure is for how long, in ns, the delay must have been above the target for the path's rate to be known: a path that has stood
	// still, as in a handover, and goes on as before does not look slower then.
	screamMeasure = 60e6
	// screamBucket is for how long, in ns, the smallest RTT is believed at least. A gap is made when the clock is at a multiple of two of them, of
	// screamGap and two round trips: one for what is in flight to come down, and one to see what the path is like then.
	screamBucket = 2500e6
	screamGap    = 100e6
)

// NewScream returns a controller for a new path; see NewNewReno.
func NewScream(n, first int) *Scream {
	return &Scream{windowed: newWindowed(n, first, screamMin), target: screamTarget, fast: true}
}

// OnAcked implements Controller: the window grows by what is acknowledged in fast increase, and otherwise by a datagram per round trip.
func (c *Scream) OnAcked(_ int64, p Packet, inFlight uint64) {
	if c.before(p) || c.draining || 2*inFlight < c.window {
		return
	}
	if c.fast {
		c.set(c.window + uint64(p.Size))
		return
	}
	step := c.step()
	c.credit += uint64(p.Size)
	if c.credit >= c.window/step {
		c.credit -= c.window / step
		c.set(c.window + c.datagram)
	}
}

// step returns by how many datagrams the window grows in a round trip.
func (c *Scream) step() uint64 {
	step := uint64(min(max(c.rtt/screamStep, 1), 8))
	if c.delay <= screamFast { // hardly a queue
		step = max(step, c.window/c.datagram/8)
	}
	return step
}

// OnLost implements Controller (RFC 8298, section 4.1.2.2: on loss).
func (c *Scream) OnLost(now int64, p Packet) {
	if c.before(p) {
		return
	}
	c.lower(now, screamLoss)
}

// lower reduces the window to a share, and ends fast increase.
func (c *Scream) lower(now int64, share float64) {
	c.reduce(now, share)
	c.fast, c.credit = false, 0
}

// OnPersistentCongestion implements Controller (RFC 9002, section 7.6.2).
func (c *Scream) OnPersistentCongestion(int64) {
	c.set(0)
	c.recovering, c.credit, c.fast = false, 0, true
	c.over, c.measured = 0, false
	c.least, c.draining = [2]int64{}, false
}

// OnAck implements Controller.
func (c *Scream) OnAck(now int64, s Sample) {
	if s.RTT == 0 {
		return
	}
	rtt := max(s.RTT-s.AckDelay, 1)
	c.rtt, c.smoothed = rtt, s.Smoothed
	c.aim()
	c.follow(now, rtt, s)
	c.delay = max(rtt-c.base, 0)
	if c.draining {
		return
	}
	c.fast = c.fast && c.delay <= screamFast
	if c.delay <= c.target {
		c.over, c.measured = 0, false
		return
	}
	if c.over == 0 {
		c.over, c.had = now, s.Total
	}
	switch {
	case !c.before(s.Newest):
		// What is in flight is the rate times the RTT, so this share of it makes half of the target.
		c.lower(now, max(float64(c.base+c.target/2)/float64(rtt), screamMost))
	case c.delay > 2*c.target && now-c.over >= screamMeasure && !c.measured:
		rate := float64(s.Total-c.had) / float64(now-c.over)
		c.measured = true
		c.lower(now, min(rate*float64(c.base+c.target/2)/float64(c.window), 1))
	}
}

// aim sets the target: 40 ms, or a little more than a datagram takes.
func (c *Scream) aim() {
	c.target = screamTarget
	if packet := int64(c.datagram) * c.rtt / int64(c.window); packet > screamTarget/2 {
		c.target = int64(max(screamTarget, min(screamPackets*float64(packet), screamTargetMost)))
	}
}

// follow keeps the smallest RTT, and makes a gap when there was none for long.
func (c *Scream) follow(now, rtt int64, s Sample) {
	slot := now - now%(2*screamBucket)
	if c.base == 0 {
		c.gap = slot - screamBucket // the next slot is the first one for a gap
	}
	if bucket := now / screamBucket; bucket != c.bucket {
		if bucket != c.bucket+1 {
			c.least[0] = 0
		}
		c.least[0], c.least[1], c.bucket = 0, c.least[0], bucket
	}
	if c.least[0] == 0 || rtt < c.least[0] {
		c.least[0] = rtt
	}
	c.base = c.least[0]
	if c.least[1] > 0 {
		c.base = min(c.base, c.least[1])
	}
	switch {
	case c.draining && now >= c.until:
		c.draining, c.gap = false, now // whether or not it became one: others may send on the same connection
	case c.draining:
	case s.InFlight <= c.drainWindow():
		c.gap = now
	case c.gap < slot-screamBucket:
		c.draining, c.until = true, now+2*rtt+screamGap
	}
}

// drainWindow is what may be in flight while a gap is made.
func (c *Scream) drainWindow() uint64 {
	share := 0.5 * float64(c.base) / float64(c.base+c.target)
	return max(uint64(share*float64(c.window)), c.minimum())
}

// Window implements Controller.
func (c *Scream) Window() uint64 {
	if c.draining {
		return min(c.drainWindow(), c.window)
	}
	return c.window
}

// meant returns the smoothed RTT, but no more than with half as much queue again as the window may make: after a long queue it takes long to come back.
func (c *Scream) meant(smoothed int64) int64 {
	if c.base == 0 {
		return smoothed
	}
	return min(smoothed, c.base+c.target*3/2)
}

// Rate implements Controller.
func (c *Scream) Rate(smoothed int64) uint64 { return c.windowed.Rate(c.meant(smoothed)) }

// Bandwidth implements Estimator: a window in the RTT that it is meant for.
func (c *Scream) Bandwidth() uint64 {
	if c.base == 0 {
		return 0
	}
	return uint64(float64(c.window) * 1e9 / float64(c.meant(c.smoothed)))
}

// Burst implements Burster: what passes within three quarters of the target, and half a window at most.
func (c *Scream) Burst(rate uint64) uint64 {
	return max(screamBurst*c.datagram, min(c.window/2, uint64(float64(rate)*float64(c.target)*3/4e9)))
}

var (
	_ Controller = (*Scream)(nil)
	_ Estimator  = (*Scream)(nil)
	_ Burster    = (*Scream)(nil)
)
