package congestion

import "math"

// BBR is version 3 of the controller of draft-ietf-ccwg-bbr: it models the path by the largest delivery rate and the smallest RTT that it saw, sends at
// that rate, and probes in turns for more of the one and less of the other.
//
//	Startup ─► Drain ─► ProbeBW: DOWN ─► CRUISE ─► REFILL ─► UP ─┐
//	                             ▲───────────────────────────────┘      ProbeRTT from any of them
//
// Names of the fields are those of the draft; sections are those of its version of August 2026. The parts: bbr.go has states and what happens
// per packet and per ACK (sections 5.2 to 5.4), bbrmodel.go the path's model (5.5), bbrloss.go what losses say (5.5.10), bbrprobe.go
// ProbeBW (5.3.3), bbrprobertt.go ProbeRTT (5.3.4), and bbrcontrol.go rate and window (5.6).
//
// Left out: undoing what was done for a loss that turns out spurious (5.5.11), ECN, and the restoring of the window at the end of loss recovery
// (5.6.4.4), which QUIC has not: the window grows back by what is acknowledged. The offload budget is that of QUIC. Startup ends for
// losses by the count of lost packets, not of ranges (5.3.1.3).
type BBR struct {
	datagram uint64
	first    uint64 // initial window in datagrams; 0: as RFC 9002
	state    bbrState
	now      int64

	// Output.
	window     uint64  // C.cwnd
	pacing     float64 // C.pacing_rate, bytes per second; 0: no RTT is known
	priorCwnd  uint64
	pacingGain float64
	cwndGain   float64

	// Rounds (5.5.1).
	delivered          uint64
	nextRoundDelivered uint64
	roundStart         bool
	roundCount         uint64

	// Data rate (5.5.2 to 5.5.6).
	maxBw       float64
	bwFilter    [2]float64 // largest of this cycle and of the last one
	bw          float64
	bwLatest    float64
	bwShortterm float64

	// Data volume.
	minRTT               int64 // 0: unknown
	minRTTStamp          int64
	maxInflight          float64
	inflightLatest       float64
	inflightLongterm     float64
	inflightShortterm    float64
	extraAckedStart      int64
	extraAckedDelivered  float64
	extraAcked           maxFilter
	appLimitedUntil      uint64 // samples of packets sent while less was delivered are application-limited
	marked               bool
	windowUsed, windowIs bool // the window was full in this round; in the last or in this

	// Losses (5.5.10).
	lossInRound        bool
	lossRoundStart     bool
	lossRoundDelivered uint64
	lostInRound        uint64 // bytes
	lostPackets        int    // in this round
	lost               uint64 // all bytes
	probeSample        bool   // is_bw_probe_sample

	// Startup and full pipe (5.3.1.2).
	fullBw        float64
	fullBwCount   int
	fullBwNow     bool
	fullBwReached bool
	drainRound    uint64

	// ProbeBW (5.3.3).
	ackPhase             ackPhase
	cycleStamp           int64
	probeWait            int64
	roundsSinceProbeUp   uint64
	probeUpRounds        uint
	probeUpAcked         float64
	probeUpAckedPerInc   float64
	prevProbeTooHigh     bool
	prevProbePrecautious bool
	random               uint64

	// ProbeRTT (5.3.4).
	probeRTTMinDelay  int64 // 0: unknown
	probeRTTMinStamp  int64
	probeRTTExpired   bool
	probeRTTDoneStamp int64
	probeRTTRoundDone bool
	idleRestart       bool
}

type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrDown
	bbrCruise
	bbrRefill
	bbrUp
	bbrProbeRTT
)

type ackPhase uint8

const (
	acksInit ackPhase = iota
	acksRefilling
	acksProbeStarting
	acksProbeFeedback
	acksProbeStopping
)

// Constants of the draft, sections 2.5 to 2.16.
const (
	bbrStartupPacingGain = 2.77
	bbrDrainPacingGain   = 0.5
	bbrDefaultCwndGain   = 2.0
	bbrUpPacingGain      = 1.25
	bbrUpCwndGain        = 2.25
	bbrDownPacingGain    = 0.90
	bbrProbeRTTCwndGain  = 0.5
	bbrPacingMargin      = 0.01
	bbrLossThresh        = 0.02
	bbrBeta              = 0.7
	bbrHeadroom          = 0.15
	bbrMinPipe           = 4 // datagrams
	bbrFullLossCount     = 6
	bbrExtraAckedRounds  = 10
	bbrMinRTTFilter      = 10e9
	bbrProbeRTTInterval  = 5e9
	bbrProbeRTTDuration  = 200e6
)

// NewBBR returns a controller for a new path; see NewNewReno.
func NewBBR(n, first int) *BBR {
	b := &BBR{
		datagram: datagramSize(n), first: uint64(min(max(first, 0), maxInitial)),
		inflightLongterm: math.Inf(1), probeUpAckedPerInc: math.Inf(1),
	}
	b.window = b.initial()
	b.resetShortTermModel()
	b.enterStartup()
	return b
}

// initial returns the initial window (5.6.4.1), which RFC 9002 gives where none is asked for.
func (b *BBR) initial() uint64 {
	n := newWindowed(int(b.datagram), int(b.first), bbrMinPipe)
	return n.window
}

func (b *BBR) minPipe() uint64 { return bbrMinPipe * b.datagram }

// SetDatagramSize implements Controller.
func (b *BBR) SetDatagramSize(n int) {
	untouched := b.delivered == 0 && b.window == b.initial()
	b.datagram = datagramSize(n)
	if untouched {
		b.window = b.initial()
	}
	b.window = max(b.window, b.minPipe())
}

// OnSent implements Controller (5.4.1).
func (b *BBR) OnSent(p Packet, inFlight uint64) {
	b.windowUsed = b.windowUsed || inFlight+b.datagram > b.window
	if inFlight > uint64(p.Size) || !p.AppLimited {
		return
	}
	b.now = max(b.now, p.Sent)
	b.idleRestart = true
	b.extraAckedStart = p.Sent
	if b.probing() {
		b.setPacingRate(1)
	} else if b.state == bbrProbeRTT {
		b.checkProbeRTTDone()
	}
}

// OnAcked implements Controller. All is done once per ACK.
func (b *BBR) OnAcked(int64, Packet, uint64) {}

// OnAck implements Controller (5.2.3).
func (b *BBR) OnAck(now int64, s Sample) {
	b.now = max(b.now, now)
	b.delivered = s.Total
	if b.marked && s.Newest.Delivered > b.appLimitedUntil {
		b.marked = false
	}
	rs := &bbrSample{Sample: s, rate: float64(s.Rate)}
	rs.AppLimited = rs.AppLimited || b.marked
	rs.volume = float64(s.Total - min(s.Newest.Delivered, s.Total))
	rs.lost = float64(s.Lost - min(s.Newest.Lost, s.Lost))

	if b.pacing == 0 && s.Smoothed > 0 {
		b.pacing = b.initialRate(s.Smoothed) // Startup does not get slower than this
	}
	b.updateLatestDeliverySignals(rs)
	b.updateCongestionSignals(rs)
	b.updateACKAggregation(rs)
	b.checkFullBWReached(rs)
	b.checkStartupDone(rs)
	b.checkDrainDone(rs)
	b.updateProbeBW(rs)
	b.updateMinRTT(rs)
	b.checkProbeRTT(rs)
	b.advanceLatestDeliverySignals(rs)
	b.bw = min(b.maxBw, b.bwShortterm)

	b.setPacingRate(b.pacingGain)
	b.setCwnd(rs)
}

// bbrSample is a Sample (RS) with what follows from it.
type bbrSample struct {
	Sample
	rate   float64 // delivery_rate
	volume float64 // delivered: since the newest packet was sent
	lost   float64 // since then
}

// Startup (5.3.1) and Drain (5.3.2).

func (b *BBR) enter(s bbrState, pacing, cwnd float64) {
	b.state, b.pacingGain, b.cwndGain = s, pacing, cwnd
}

func (b *BBR) enterStartup() { b.enter(bbrStartup, bbrStartupPacingGain, bbrDefaultCwndGain) }

func (b *BBR) resetFullBW() { b.fullBw, b.fullBwCount, b.fullBwNow = 0, 0, false }

// checkFullBWReached finds that the rate has not grown by a quarter in three rounds (5.3.1.2).
func (b *BBR) checkFullBWReached(rs *bbrSample) {
	if b.fullBwNow || !b.roundStart || rs.AppLimited {
		return
	}
	if rs.rate >= b.fullBw*1.25 {
		b.resetFullBW()
		b.fullBw = rs.rate
		return
	}
	b.fullBwCount++
	if b.fullBwNow = b.fullBwCount >= 3; b.fullBwNow {
		b.fullBwReached = true
	}
}

func (b *BBR) checkStartupDone(rs *bbrSample) {
	if b.state != bbrStartup {
		return
	}
	b.checkStartupHighLoss(rs)
	if b.fullBwReached {
		b.enter(bbrDrain, bbrDrainPacingGain, bbrDefaultCwndGain)
		b.drainRound = b.roundCount
	}
}

func (b *BBR) checkDrainDone(rs *bbrSample) {
	if b.state == bbrDrain && (float64(rs.InFlight) <= b.inflight(b.bw, 1) || b.roundCount > b.drainRound+3) {
		b.cwndGain = bbrDefaultCwndGain
		b.startDown()
	}
}

// Window implements Controller.
func (b *BBR) Window() uint64 { return b.window }

// Rate implements Controller. Before the first sample it is that of the initial window (5.6.2).
func (b *BBR) Rate(smoothed int64) uint64 {
	if smoothed <= 0 {
		return 0
	}
	rate := b.pacing
	if rate == 0 {
		rate = b.initialRate(smoothed)
	}
	return uint64(min(max(rate, 1), math.MaxInt64))
}

var _ Controller = (*BBR)(nil)
