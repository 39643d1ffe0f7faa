package congestion

// MaxWindow is the bound of all windows.
const MaxWindow = maxWindow

// State names the state of the draft.
func (b *BBR) State() string {
	return [...]string{"Startup", "Drain", "ProbeBW_DOWN", "ProbeBW_CRUISE", "ProbeBW_REFILL", "ProbeBW_UP", "ProbeRTT"}[b.state]
}

// Gains returns the gains of rate and window.
func (b *BBR) Gains() (pacing, cwnd float64) { return b.pacingGain, b.cwndGain }

// Model returns the largest rate in bytes per second, the smallest RTT, and the bound of what is in flight in the long term.
func (b *BBR) Model() (bw float64, rtt int64, longterm float64) {
	return b.maxBw, b.minRTT, b.inflightLongterm
}

// Base returns the RTT without queue, as far as is known.
func (c *Scream) Base() int64 { return c.base }

// Draining says whether a gap is made.
func (c *Scream) Draining() bool { return c.draining }
