package congestion

import "math"

// What losses say of the path (draft-ietf-ccwg-bbr, section 5.5.10).

// OnLost implements Controller (5.5.10.2).
func (b *BBR) OnLost(now int64, p Packet) {
	b.now = max(b.now, now)
	if !b.lossInRound {
		b.lossRoundDelivered = b.delivered
	}
	b.lossInRound = true
	b.lostInRound += uint64(p.Size)
	b.lostPackets++
	b.lost += uint64(p.Size)
	if !b.probeSample {
		return
	}
	flight, lost, size := float64(p.InFlight), float64(b.lost-min(p.Lost, b.lost)), float64(p.Size)
	if !tooHigh(lost, flight) {
		return
	}
	// What was in flight when losses began to be too many.
	before := flight - size
	prefix := max((bbrLossThresh*before-(lost-size))/(1-bbrLossThresh), 0)
	b.handleInflightTooHigh(before+prefix, p.AppLimited)
}

func tooHigh(lost, flight float64) bool { return lost > flight*bbrLossThresh }

// handleInflightTooHigh bounds what is in flight in the long term, once per probe.
func (b *BBR) handleInflightTooHigh(flight float64, appLimited bool) {
	b.prevProbeTooHigh, b.probeSample = true, false
	if !appLimited {
		b.inflightLongterm = max(flight, b.targetInflight()*bbrBeta)
	}
	if b.state == bbrUp {
		b.startDown()
	}
}

// OnPersistentCongestion implements Controller: what the draft does at a retransmission timeout (5.6.4.4), with its least window.
func (b *BBR) OnPersistentCongestion(int64) {
	b.window = b.minPipe()
}

// checkStartupHighLoss ends Startup when more than 2 % of a round are lost (5.3.1.3).
func (b *BBR) checkStartupHighLoss(rs *bbrSample) {
	if !b.lossRoundStart || b.lostPackets < bbrFullLossCount || !tooHigh(float64(b.lostInRound), float64(rs.Newest.InFlight)) {
		return
	}
	b.fullBwReached = true
	b.inflightLongterm = max(b.bdp(b.maxBw, 1), b.inflightLatest)
}

func (b *BBR) resetShortTermModel() {
	b.bwShortterm, b.inflightShortterm = math.Inf(1), math.Inf(1)
}

func (b *BBR) resetCongestionSignals() { b.lossInRound, b.bwLatest, b.inflightLatest = false, 0, 0 }

// Signals of the round trip that is measured, for the short-term model (5.5.10.3).

func (b *BBR) updateLatestDeliverySignals(rs *bbrSample) {
	b.lossRoundStart = false
	b.bwLatest = max(b.bwLatest, rs.rate)
	b.inflightLatest = max(b.inflightLatest, rs.volume)
	if rs.Newest.Delivered >= b.lossRoundDelivered {
		b.lossRoundDelivered = b.delivered
		b.lossRoundStart = true
	}
}

func (b *BBR) updateCongestionSignals(rs *bbrSample) {
	b.updateMaxBw(rs)
	if !b.lossRoundStart {
		return
	}
	if b.lossInRound && b.state != bbrStartup && b.state != bbrRefill && b.state != bbrUp {
		b.lowerBounds()
	}
	b.lossInRound = false
}

// lowerBounds lets go of a share, as far as what arrived does not say that it is too much.
func (b *BBR) lowerBounds() {
	if math.IsInf(b.bwShortterm, 1) {
		b.bwShortterm = b.maxBw
	}
	if math.IsInf(b.inflightShortterm, 1) {
		b.inflightShortterm = float64(b.window)
	}
	b.bwShortterm = max(b.bwLatest, bbrBeta*b.bwShortterm)
	b.inflightShortterm = max(b.inflightLatest, bbrBeta*b.inflightShortterm)
}

func (b *BBR) advanceLatestDeliverySignals(rs *bbrSample) {
	if b.lossRoundStart {
		b.bwLatest, b.inflightLatest = rs.rate, rs.volume
		b.lostInRound, b.lostPackets = 0, 0
	}
}
