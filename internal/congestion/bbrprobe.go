package congestion

// Probing for bandwidth (draft-ietf-ccwg-bbr, section 5.3.3): DOWN leaves the queue, CRUISE keeps to the model, REFILL fills the pipe for a
// round, UP sends a quarter faster until the path is full or loses.

// probing says whether the state is one of ProbeBW.
func (b *BBR) probing() bool { return b.state >= bbrDown && b.state <= bbrUp }

func (b *BBR) startDown() {
	b.resetCongestionSignals()
	b.probeUpAckedPerInc = inf
	b.pickProbeWait()
	b.cycleStamp = b.now
	b.ackPhase = acksProbeStopping
	b.startRound()
	b.enter(bbrDown, bbrDownPacingGain, bbrDefaultCwndGain)
}

func (b *BBR) startCruise() { b.enter(bbrCruise, 1, bbrDefaultCwndGain) }

func (b *BBR) startRefill() {
	b.resetShortTermModel()
	b.probeUpRounds, b.probeUpAcked = 0, 0
	b.prevProbePrecautious = false
	b.ackPhase = acksRefilling
	b.startRound()
	b.enter(bbrRefill, 1, bbrDefaultCwndGain)
}

func (b *BBR) startUp(rs *bbrSample) {
	b.ackPhase = acksProbeStarting
	b.startRound()
	b.resetFullBW()
	b.fullBw = rs.rate
	b.enter(bbrUp, bbrUpPacingGain, bbrUpCwndGain)
	b.raiseInflightLongtermSlope()
}

// updateProbeBW is the state machine of ProbeBW (5.3.3.9).
func (b *BBR) updateProbeBW(rs *bbrSample) {
	if !b.fullBwReached || b.adaptLongTermModel(rs) || !b.probing() {
		return
	}
	switch b.state {
	case bbrDown:
		if !b.checkTimeToProbe() && b.timeToCruise(rs) {
			b.startCruise()
		}
	case bbrCruise:
		b.checkTimeToProbe()
	case bbrRefill:
		if b.roundStart {
			b.probeSample = true
			b.startUp(rs)
		}
	case bbrUp:
		if b.timeToGoDown(rs) {
			b.prevProbeTooHigh = false
			b.startDown()
		}
	}
}

// checkTimeToProbe begins to probe after 2 to 3 s, or after as many rounds as Reno would need to win back what a loss costs (5.3.3.8).
func (b *BBR) checkTimeToProbe() bool {
	reno := uint64(min(b.targetInflight()/float64(b.datagram), 63))
	if b.now <= b.cycleStamp+b.probeWait && b.roundsSinceProbeUp < max(reno, 1) {
		return false
	}
	b.startRefill()
	return true
}

// pickProbeWait draws how long to wait. What it draws from is the time, so that flows differ, and a flow that is played again does not.
func (b *BBR) pickProbeWait() {
	b.random = (b.random ^ uint64(b.now)) * 0x9e3779b97f4a7c15
	b.random ^= b.random >> 29
	b.roundsSinceProbeUp = b.random >> 40 & 1
	b.probeWait = 2e9 + int64(b.random%1e9)
}

// targetInflight is what should be in flight: the BDP, unless the window is smaller.
func (b *BBR) targetInflight() float64 { return min(b.bdp(b.bw, 1), float64(b.window)) }

func (b *BBR) timeToCruise(rs *bbrSample) bool {
	flight := float64(rs.InFlight)
	return flight <= b.inflightWithHeadroom() && flight <= b.inflight(b.maxBw, 1)
}

func (b *BBR) timeToGoDown(rs *bbrSample) bool {
	if b.prevProbeTooHigh && float64(rs.InFlight) >= b.inflightLongterm {
		b.prevProbePrecautious = true
		return true
	}
	if b.cwndLimited() && float64(b.window) >= b.inflightLongterm {
		b.resetFullBW()
		b.fullBw = rs.rate
		return false
	}
	return b.fullBwNow
}

// inflightWithHeadroom leaves room for other flows.
func (b *BBR) inflightWithHeadroom() float64 {
	if b.inflightLongterm == inf {
		return inf
	}
	return max(b.inflightLongterm-max(float64(b.datagram), bbrHeadroom*b.inflightLongterm), float64(b.minPipe()))
}

func (b *BBR) raiseInflightLongtermSlope() {
	growth := float64(uint64(1) << b.probeUpRounds)
	b.probeUpRounds = min(b.probeUpRounds+1, 30)
	b.probeUpAckedPerInc = max(float64(b.window)/growth, float64(b.datagram))
}

func (b *BBR) probeInflightLongtermUpward(rs *bbrSample) {
	if !b.cwndLimited() || float64(b.window) < b.inflightLongterm {
		return
	}
	b.probeUpAcked += float64(rs.Delivered)
	if b.probeUpAcked >= b.probeUpAckedPerInc {
		steps := float64(int64(b.probeUpAcked / b.probeUpAckedPerInc))
		b.probeUpAcked -= steps * b.probeUpAckedPerInc
		b.inflightLongterm += steps * float64(b.datagram)
	}
	if b.roundStart {
		b.raiseInflightLongtermSlope()
	}
}

// adaptLongTermModel follows a probe by what is acknowledged of it. It says whether it changed the state.
func (b *BBR) adaptLongTermModel(rs *bbrSample) bool {
	if b.ackPhase == acksProbeStarting && b.roundStart {
		b.ackPhase = acksProbeFeedback
	}
	if b.ackPhase == acksProbeStopping && b.roundStart {
		b.probeSample, b.ackPhase = false, acksInit
		if b.probing() && !rs.AppLimited {
			b.advanceMaxBwFilter()
		}
		if b.probing() && b.prevProbePrecautious && !b.prevProbeTooHigh {
			b.startRefill()
			return true
		}
	}
	if tooHigh(rs.lost, float64(rs.Newest.InFlight)) || b.inflightLongterm == inf {
		return false
	}
	b.inflightLongterm = max(b.inflightLongterm, float64(rs.Newest.InFlight))
	if b.state == bbrUp {
		b.probeInflightLongtermUpward(rs)
	}
	return false
}
