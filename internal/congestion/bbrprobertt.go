package congestion

// Probing for the smallest RTT (draft-ietf-ccwg-bbr, section 5.3.4): after 5 s in which it was not seen, half a BDP in flight for 200 ms and a round trip.

func (b *BBR) checkProbeRTT(rs *bbrSample) {
	if b.state != bbrProbeRTT && b.probeRTTExpired && !b.idleRestart {
		b.saveCwnd()
		b.enter(bbrProbeRTT, 1, bbrProbeRTTCwndGain)
		b.probeRTTDoneStamp = 0
		b.ackPhase = acksProbeStopping
		b.startRound()
	}
	if b.state == bbrProbeRTT {
		b.handleProbeRTT(rs)
	}
	if rs.Delivered > 0 {
		b.idleRestart = false
	}
}

func (b *BBR) handleProbeRTT(rs *bbrSample) {
	// Rates of what is sent now say nothing.
	b.appLimitedUntil, b.marked = b.delivered+rs.InFlight, true
	if b.probeRTTDoneStamp == 0 {
		if float64(rs.InFlight) <= b.probeRTTCwnd() {
			b.probeRTTDoneStamp = b.now + bbrProbeRTTDuration
			b.probeRTTRoundDone = false
			b.startRound()
		}
		return
	}
	b.probeRTTRoundDone = b.probeRTTRoundDone || b.roundStart
	if b.probeRTTRoundDone {
		b.checkProbeRTTDone()
	}
}

func (b *BBR) checkProbeRTTDone() {
	if b.probeRTTDoneStamp == 0 || b.now <= b.probeRTTDoneStamp {
		return
	}
	b.probeRTTMinStamp = b.now // the next one is from now
	b.window = max(b.window, b.priorCwnd)
	b.resetShortTermModel()
	if b.fullBwReached {
		b.startDown()
		b.startCruise()
	} else {
		b.enterStartup()
	}
}

// saveCwnd remembers the last window that was not that of ProbeRTT.
func (b *BBR) saveCwnd() {
	if b.state != bbrProbeRTT {
		b.priorCwnd = b.window
	}
}

func (b *BBR) probeRTTCwnd() float64 {
	return max(b.bdp(b.bw, bbrProbeRTTCwndGain), float64(b.minPipe()))
}
