package quicadapt

import "time"

// Constants of RFC 9002, section 6.
const (
	packetThreshold = 3
	granularity     = int64(time.Millisecond)
	initialRTT      = int64(333 * time.Millisecond)
	maxBackoff      = 6
)

// recovery finds lost media packets (RFC 9002): packet threshold, time threshold, probe timeout. Own packets are quic-go's
// to find, but their acknowledgments count. It has no clock: times are nanoseconds of one clock, given by the caller.
type recovery struct {
	srtt, rttvar, latest, min int64
	largest                   uint64 // largest acknowledged, plus one; 0: none
	lastSent                  int64  // time of the last media packet
	lossTime                  int64  // when the time threshold will strike next; 0: not set
	backoff                   uint8
	maxAckDelay               int64
}

// sample takes an RTT sample (section 5.3).
func (v *recovery) sample(rtt, ackDelay int64) {
	if rtt <= 0 {
		return
	}
	v.latest = rtt
	if v.srtt == 0 {
		v.min, v.srtt, v.rttvar = rtt, rtt, rtt/2
		return
	}
	v.min = min(v.min, rtt)
	ackDelay = min(ackDelay, v.maxAckDelay)
	if rtt >= v.min+ackDelay {
		rtt -= ackDelay
	}
	d := v.srtt - rtt
	if d < 0 {
		d = -d
	}
	v.rttvar += (d - v.rttvar) / 4
	v.srtt += (rtt - v.srtt) / 8
}

func (v *recovery) lossDelay() int64 {
	rtt := max(v.srtt, v.latest)
	if rtt == 0 {
		rtt = initialRTT
	}
	return max(rtt*9/8, granularity)
}

func (v *recovery) pto() int64 {
	srtt, rttvar := v.srtt, v.rttvar
	if srtt == 0 {
		srtt, rttvar = initialRTT, initialRTT/2
	}
	return (srtt + max(4*rttvar, granularity) + v.maxAckDelay) << min(v.backoff, maxBackoff)
}

// lost calls f for each media packet of r that is lost at a time, after which the caller forgets it.
func (v *recovery) lost(r *registry, now int64, f func(*sentPacket)) {
	v.lossTime = 0
	if r.media == 0 || v.largest == 0 {
		return
	}
	delay := v.lossDelay()
	for n := r.base; n < min(v.largest, r.end); n++ {
		p := r.at(n)
		if p.kind != kindMedia || p.acked {
			continue
		}
		if v.largest-1 >= n+packetThreshold || p.at+delay <= now {
			f(p)
			continue
		}
		if t := p.at + delay; v.lossTime == 0 || t < v.lossTime {
			v.lossTime = t
		}
	}
}

// deadline returns when onTimer is to be called, 0 for never.
func (v *recovery) deadline(r *registry) int64 {
	switch {
	case r.media == 0:
		return 0
	case v.lossTime != 0:
		return v.lossTime
	default:
		return v.lastSent + v.pto()
	}
}

// onTimer is to be called at the deadline. It declares packets lost; at a probe timeout the two oldest, so that what they
// carried is sent again as the probe (section 6.2.4).
func (v *recovery) onTimer(r *registry, now int64, f func(*sentPacket)) {
	if v.lossTime != 0 {
		v.lost(r, now, f)
		return
	}
	v.backoff++
	v.lastSent = now
	probes := 2
	for n := r.base; n < r.end && probes > 0; n++ {
		if p := r.at(n); p.kind == kindMedia && !p.acked {
			f(p)
			probes--
		}
	}
}
