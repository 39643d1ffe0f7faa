package recovery

import "time"

// Constants of RFC 9002, appendix A.2 and section 7.6.1.
const (
	packetThreshold     = 3
	granularity         = int64(time.Millisecond)
	initialRTT          = int64(333 * time.Millisecond)
	persistentThreshold = 3
)

// maxBackoff keeps the doubling of the probe timeout from overflowing. By then a connection has long timed out.
const maxBackoff = 16

// RTT is what is known of a path's round-trip time (RFC 9002, section 5), in nanoseconds. Its zero value knows nothing.
type RTT struct {
	Latest, Smoothed, Var, Min int64
	// MaxAckDelay is the peer's max_ack_delay. It is what delays are capped to once the handshake is confirmed.
	MaxAckDelay int64
	// Confirmed says that the handshake is.
	Confirmed bool
}

// Known says whether there was a sample.
func (r *RTT) Known() bool { return r.Smoothed > 0 }

// Sample takes a sample (section 5.3). ackDelay is what the peer says it waited.
func (r *RTT) Sample(rtt, ackDelay int64) {
	if rtt <= 0 {
		rtt = 1 // the clock is coarser than the path is long
	}
	r.Latest = rtt
	if !r.Known() {
		r.Min, r.Smoothed, r.Var = rtt, rtt, rtt/2
		return
	}
	if r.Min == 0 || rtt < r.Min {
		r.Min = rtt
	}
	if r.Confirmed {
		ackDelay = min(ackDelay, r.MaxAckDelay)
	}
	if rtt-ackDelay >= r.Min {
		rtt -= ackDelay
	}
	d := r.Smoothed - rtt
	if d < 0 {
		d = -d
	}
	r.Var += (d - r.Var) / 4
	r.Smoothed = max(r.Smoothed+(rtt-r.Smoothed)/8, 1)
}

// Seed takes another's estimate of the same path, if there is none yet.
func (r *RTT) Seed(smoothed, variance, least int64) {
	if !r.Known() && smoothed > 0 {
		r.Latest, r.Smoothed, r.Var, r.Min = smoothed, smoothed, variance, least
	}
}

// lossDelay is how long after a later packet was acknowledged a packet counts as lost (section 6.1.2).
func (r *RTT) lossDelay() int64 {
	rtt := max(r.Smoothed, r.Latest)
	if rtt == 0 {
		rtt = initialRTT
	}
	return max(rtt*9/8, granularity)
}

// PTO returns the probe timeout without backoff (section 6.2.1).
func (r *RTT) PTO() int64 {
	smoothed, variance := r.Smoothed, r.Var
	if smoothed == 0 {
		smoothed, variance = initialRTT, initialRTT/2
	}
	return smoothed + max(4*variance, granularity) + r.MaxAckDelay
}
