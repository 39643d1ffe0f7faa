package congestion

import "math"

// Rate and window (draft-ietf-ccwg-bbr, section 5.6).

var inf = math.Inf(1)

// initialRate is that of the initial window, as fast as Startup (5.6.2).
func (b *BBR) initialRate(smoothed int64) float64 {
	return bbrStartupPacingGain * float64(b.initial()) * 1e9 / float64(smoothed)
}

// setPacingRate sends at a gain times the bandwidth, less a margin; in Startup it does not get slower (5.6.2).
func (b *BBR) setPacingRate(gain float64) {
	rate := gain * b.bw * (1 - bbrPacingMargin)
	if rate > 0 && (b.fullBwReached || rate > b.pacing) {
		b.pacing = rate
	}
}

// sendQuantum is what leaves at once: a millisecond's worth (5.6.3).
func (b *BBR) sendQuantum() float64 {
	return max(min(b.pacing/1000, 64<<10), 2*float64(b.datagram))
}

// setCwnd moves the window towards what the model allows (5.6.4.6), within its bounds (5.6.4.5 and 5.6.4.7).
func (b *BBR) setCwnd(rs *bbrSample) {
	b.maxInflight = b.quantized(b.bdp(b.bw, b.cwndGain) + b.extraAcked.value())
	w := float64(b.window)
	if b.fullBwReached {
		w = min(w+float64(rs.Delivered), b.maxInflight)
	} else if w < b.maxInflight || b.delivered < b.initial() {
		w += float64(rs.Delivered)
	}
	least := float64(b.minPipe())
	w = max(w, least)
	limit := inf
	switch {
	case b.state == bbrProbeRTT:
		w = min(w, b.probeRTTCwnd())
		limit = b.inflightWithHeadroom()
	case b.state == bbrCruise:
		limit = b.inflightWithHeadroom()
	case b.probing():
		limit = b.inflightLongterm
	}
	w = min(w, max(min(limit, b.inflightShortterm), least))
	b.window = max(uint64(min(w, maxWindow)), b.minPipe())
}
