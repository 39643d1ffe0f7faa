package congestion

import "math"

// Constants of RFC 9438, sections 4.1, 4.2, 4.3 and 4.6.
const (
	cubicC     = 0.4 // datagrams per second³
	cubicBeta  = 0.7
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// Cubic is the controller of RFC 9438: in congestion avoidance the window is a cubic function of the time since the last reduction, flat where
// the window was when a packet was last lost, and never less than what Reno would have. Left out are spurious congestion
// events (section 4.9) and HyStart++ (section 4.10), so slow start ends with a loss.
type Cubic struct {
	windowed
	// The RFC counts windows in segments; here they are bytes, in fractions.
	max   float64 // W_max
	prior float64 // cwnd_prior
	reno  float64 // W_est
	exact float64 // the window; windowed's is this, rounded
	k     float64 // K, seconds
	epoch int64   // when congestion avoidance began, later by the time in which the window was not used
	begun bool    // there is an epoch
	last  int64   // when the last packet was acknowledged
	rtt   int64   // smoothed
}

// NewCubic returns a controller for a new path; see NewNewReno.
func NewCubic(n, first int) *Cubic {
	return &Cubic{windowed: newWindowed(n, first, minimumDatagrams)}
}

// OnAcked implements Controller (sections 4.2 to 4.5 and, for windows that are not used, 5.8).
func (c *Cubic) OnAcked(now int64, p Packet, inFlight uint64) {
	idle := max(now-c.last, 0)
	c.last = now
	if c.before(p) {
		return
	}
	if !c.limited(inFlight) {
		c.epoch += idle
		return
	}
	if c.slowStart() {
		c.set(c.window + uint64(p.Size))
		return
	}
	if !c.begun {
		c.begin(now)
	}
	window := c.exact
	c.reno += c.alpha() * float64(p.Size) * float64(c.datagram) / window
	t := float64(max(now-c.epoch, 0)) / 1e9
	if w := c.cubic(t); w < c.reno { // section 4.3
		c.exact = max(c.reno, window)
	} else {
		target := min(max(c.cubic(t+float64(c.rtt)/1e9), window), 1.5*window)
		c.exact += (target - window) * float64(p.Size) / window
	}
	c.exact = min(c.exact, maxWindow)
	c.set(uint64(c.exact))
}

// begin begins congestion avoidance. Without a reduction before it, or after a timeout, the window is W_max (sections 4.8 and 4.10).
func (c *Cubic) begin(now int64) {
	c.epoch, c.begun = now, true
	c.exact, c.reno = float64(c.window), float64(c.window)
	c.max = max(c.max, c.exact)
	c.k = math.Cbrt((c.max - c.exact) / float64(c.datagram) / cubicC)
}

// cubic returns the cubic function at a time in seconds since the epoch (section 4.2, figure 1).
func (c *Cubic) cubic(t float64) float64 {
	d := t - c.k
	return cubicC*d*d*d*float64(c.datagram) + c.max
}

// alpha is how fast W_est grows: as Reno, once it is where the last reduction began (section 4.3).
func (c *Cubic) alpha() float64 {
	if c.reno >= c.prior {
		return 1
	}
	return cubicAlpha
}

// OnLost implements Controller (sections 4.6 and 4.7).
func (c *Cubic) OnLost(now int64, p Packet) {
	if c.before(p) {
		return
	}
	w := float64(c.window)
	c.prior = w
	if w < c.max { // others need room
		c.max = w * (1 + cubicBeta) / 2
	} else {
		c.max = w
	}
	c.begun = false
	c.reduce(now, cubicBeta)
}

// OnPersistentCongestion implements Controller (section 4.8): slow start up to the threshold, and from there on the window is W_max.
func (c *Cubic) OnPersistentCongestion(int64) {
	c.set(0)
	c.recovering, c.begun, c.max = false, false, 0
}

// OnAck implements Controller.
func (c *Cubic) OnAck(_ int64, s Sample) { c.rtt = s.Smoothed }

// SetDatagramSize implements Controller.
func (c *Cubic) SetDatagramSize(n int) {
	c.windowed.SetDatagramSize(n)
	c.exact = max(c.exact, float64(c.window))
}
