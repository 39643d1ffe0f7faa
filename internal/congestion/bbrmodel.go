package congestion

// The model of the path (draft-ietf-ccwg-bbr, section 5.5).

// startRound begins a packet-timed round trip: it ends when a packet that is sent from now on is acknowledged (5.5.1).
func (b *BBR) startRound() { b.nextRoundDelivered = b.delivered }

func (b *BBR) updateRound(rs *bbrSample) {
	b.roundStart = rs.Newest.Delivered >= b.nextRoundDelivered
	if b.roundStart {
		b.startRound()
		b.roundCount++
		b.roundsSinceProbeUp++
		b.windowIs, b.windowUsed = b.windowUsed, false
	}
}

// cwndLimited says whether the window was full at some time in the last round trip (C.is_cwnd_limited).
func (b *BBR) cwndLimited() bool { return b.windowIs || b.windowUsed }

// updateMaxBw takes a sample of the rate into the filter, which is of two cycles of probing (5.5.5).
func (b *BBR) updateMaxBw(rs *bbrSample) {
	b.updateRound(rs)
	if rs.rate > 0 && (rs.rate >= b.maxBw || !rs.AppLimited) {
		b.bwFilter[0] = max(b.bwFilter[0], rs.rate)
		b.maxBw = max(b.bwFilter[0], b.bwFilter[1])
	}
}

// advanceMaxBwFilter begins another cycle (5.5.6). A filter that would become empty keeps what it has: the application may have been silent.
func (b *BBR) advanceMaxBwFilter() {
	if b.bwFilter[0] == 0 {
		return
	}
	b.bwFilter = [2]float64{0, b.bwFilter[0]}
}

// updateMinRTT follows the smallest RTT, and finds when it is to be probed for (5.3.4.3).
func (b *BBR) updateMinRTT(rs *bbrSample) {
	b.probeRTTExpired = b.now > b.probeRTTMinStamp+bbrProbeRTTInterval
	if rs.RTT > 0 && (b.probeRTTMinDelay == 0 || rs.RTT < b.probeRTTMinDelay || b.probeRTTExpired) {
		if b.probeRTTMinDelay == 0 { // the clock may have begun at any time
			b.probeRTTExpired = false
		}
		b.probeRTTMinDelay, b.probeRTTMinStamp = rs.RTT, b.now
	}
	if b.probeRTTMinDelay == 0 {
		b.probeRTTExpired = false
		return
	}
	if b.minRTT == 0 || b.probeRTTMinDelay < b.minRTT || b.now > b.minRTTStamp+bbrMinRTTFilter {
		b.minRTT, b.minRTTStamp = b.probeRTTMinDelay, b.probeRTTMinStamp
	}
}

// updateACKAggregation finds by how much more is acknowledged at once than the rate explains (5.5.9).
func (b *BBR) updateACKAggregation(rs *bbrSample) {
	expected := b.bw * float64(max(b.now-b.extraAckedStart, 0)) / 1e9
	if b.extraAckedDelivered <= expected {
		b.extraAckedDelivered, b.extraAckedStart, expected = 0, b.now, 0
	}
	b.extraAckedDelivered += float64(rs.Delivered)
	rounds := uint64(1)
	if b.fullBwReached {
		rounds = bbrExtraAckedRounds
	}
	b.extraAcked.update(min(b.extraAckedDelivered-expected, float64(b.window)), b.roundCount, rounds)
}

// bdp returns the product of a rate and the smallest RTT, the initial window if that is unknown (5.6.4.2).
func (b *BBR) bdp(bw, gain float64) float64 {
	if b.minRTT == 0 {
		return float64(b.initial())
	}
	return gain * bw * float64(b.minRTT) / 1e9
}

// inflight returns how much in flight makes use of a rate (5.6.4.2).
func (b *BBR) inflight(bw, gain float64) float64 { return b.quantized(b.bdp(bw, gain)) }

func (b *BBR) quantized(n float64) float64 {
	n = max(n, b.sendQuantum(), float64(b.minPipe()))
	if b.state == bbrUp {
		n += 2 * float64(b.datagram)
	}
	return n
}

// maxFilter is the largest value of a window of time, from the best of three times (Nichols's windowed filter).
type maxFilter struct {
	best [3]struct {
		v float64
		t uint64
	}
}

func (f *maxFilter) value() float64 { return f.best[0].v }

// update takes a value at a time; those older than the window are forgotten.
func (f *maxFilter) update(v float64, t, window uint64) {
	e := f.best[0]
	e.v, e.t = v, t
	if v >= f.best[0].v || t-f.best[2].t > window {
		f.best = [3]struct {
			v float64
			t uint64
		}{e, e, e}
		return
	}
	if v >= f.best[1].v {
		f.best[1], f.best[2] = e, e
	} else if v >= f.best[2].v {
		f.best[2] = e
	}
	switch age := t - f.best[0].t; {
	case age > window:
		f.best[0], f.best[1], f.best[2] = f.best[1], f.best[2], e
		if t-f.best[0].t > window {
			f.best[0], f.best[1] = f.best[1], f.best[2]
		}
	case f.best[1].t == f.best[0].t && age > window/4:
		f.best[1], f.best[2] = e, e
	case f.best[2].t == f.best[1].t && age > window/2:
		f.best[2] = e
	}
}
