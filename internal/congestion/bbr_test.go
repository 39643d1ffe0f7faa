package congestion

import (
	"math"
	"testing"
)

// bbrIn returns a BBR in a state, with a model of 1 MB/s and 50 ms.
func bbrIn(s bbrState) *BBR {
	b := NewBBR(mss, 0)
	b.now, b.minRTT, b.minRTTStamp = 1e9, 50e6, 1e9
	b.probeRTTMinDelay, b.probeRTTMinStamp = 50e6, 1e9
	b.maxBw, b.bw, b.bwFilter = 1e6, 1e6, [2]float64{1e6, 1e6}
	b.fullBwReached, b.window, b.pacing = true, 100_000, 1e6
	b.startDown()
	b.enter(s, 1, bbrDefaultCwndGain)
	b.delivered = 500_000
	return b
}

// acked tells of an ACK of one packet that was sent 50 ms ago, and of a rate.
func acked(b *BBR, rate float64, p Packet) {
	p.Size, p.Sent = mss, b.now
	b.OnAck(b.now+50e6, Sample{
		RTT: 50e6, Smoothed: 50e6, Min: 50e6, Delivered: mss, Total: b.delivered + mss, Rate: uint64(rate), AppLimited: p.AppLimited,
		Newest: p, Lost: b.lost, InFlight: 50_000,
	})
}

// TestBBRMaxBwFilter: the largest rate of two cycles; what the application limits counts when it is larger (sections 5.5.3 to 5.5.6).
func TestBBRMaxBwFilter(t *testing.T) {
	for _, tc := range []struct {
		name    string
		rates   []float64 // 0: the next cycle
		limited bool
		want    float64
	}{
		{"larger", []float64{2e6}, false, 2e6},
		{"smaller in the same cycle", []float64{0.5e6}, false, 1e6},
		{"smaller in the next cycle", []float64{0, 0.5e6}, false, 1e6},
		{"smaller in two cycles", []float64{0, 0.5e6, 0, 0.4e6}, false, 0.5e6},
		{"larger, of the application", []float64{2e6}, true, 2e6},
		{"smaller in two cycles, of the application", []float64{0, 0.5e6, 0, 0.4e6}, true, 1e6},
	} {
		b := bbrIn(bbrCruise)
		for _, r := range tc.rates {
			if r == 0 {
				b.advanceMaxBwFilter()
				continue
			}
			b.updateMaxBw(&bbrSample{Sample: Sample{AppLimited: tc.limited}, rate: r})
		}
		if b.maxBw != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, b.maxBw, tc.want)
		}
	}
}

// TestBBRFullPipe: three rounds without a quarter more end Startup; those that the application limits do not count (section 5.3.1.2).
func TestBBRFullPipe(t *testing.T) {
	for _, tc := range []struct {
		name    string
		rates   []float64
		limited bool
		want    bbrState
	}{
		{"grows", []float64{1e6, 1.3e6, 1.7e6, 2.2e6, 2.8e6}, false, bbrStartup},
		{"two rounds without", []float64{1e6, 1.1e6, 1.1e6}, false, bbrStartup},
		{"three rounds without", []float64{1e6, 1.1e6, 1.1e6, 1.1e6}, false, bbrDrain},
		{"slow growth adds up", []float64{1e6, 1.1e6, 1.2e6, 1.3e6, 1.3e6, 1.3e6}, false, bbrStartup},
		{"the application limits", []float64{1e6, 1e6, 1e6, 1e6, 1e6, 1e6}, true, bbrStartup},
	} {
		b := NewBBR(mss, 0)
		for _, r := range tc.rates {
			b.delivered += 100_000
			b.now += 50e6
			p := Packet{Delivered: b.delivered, InFlight: 200_000, AppLimited: tc.limited}
			b.OnAck(b.now, Sample{RTT: 50e6, Smoothed: 50e6, Delivered: mss, Total: b.delivered + mss, Rate: uint64(r), AppLimited: tc.limited, Newest: p, InFlight: 200_000})
		}
		if b.state != tc.want {
			t.Errorf("%s: %s", tc.name, b.State())
		}
	}
}

// TestBBRStartupLoss: six lost packets, and more than 2 % of what was in flight, end Startup at the end of the round, with a bound of what
// arrived or of the BDP (section 5.3.1.3).
func TestBBRStartupLoss(t *testing.T) {
	for _, tc := range []struct {
		lost    int
		flight  uint64
		arrived uint64 // packets
		ends    bool
		bound   float64 // packets
	}{
		{5, 100, 90, false, math.Inf(1)},
		{6, 100, 90, true, 90},
		{6, 100, 10, true, 50_000.0 / mss},
		{6, 400, 90, false, math.Inf(1)},
	} {
		b := bbrIn(bbrStartup)
		b.fullBwReached = false
		for range tc.lost {
			b.OnLost(b.now, Packet{Size: mss, InFlight: tc.flight * mss})
		}
		if b.state != bbrStartup {
			t.Fatal("the round is not over")
		}
		sent := b.delivered
		b.delivered += (tc.arrived - 1) * mss
		acked(b, 1e6, Packet{Delivered: sent, InFlight: tc.flight * mss})
		if got := b.inflightLongterm / mss; b.state != bbrStartup != tc.ends || got != tc.bound && math.Abs(got-tc.bound) > 0.1 {
			t.Errorf("%d of %d lost: %s, at most %.1f packets in flight, want %.1f", tc.lost, tc.flight, b.State(), got, tc.bound)
		}
	}
}

// TestBBRInflightAtLoss: more than 2 % lost of what was in flight with a packet of a probe bound what is in flight by what was when 2 % were
// passed, or by 0.7 of what should be (sections 5.5.10.2 and 2.8).
func TestBBRInflightAtLoss(t *testing.T) {
	for _, tc := range []struct {
		name     string
		flight   uint64 // packets when the lost one was sent
		before   uint64 // packets lost since, of the same flight
		limited  bool
		want     float64 // packets
		wantDown bool
	}{
		{"1 of 100", 100, 0, false, math.Inf(1), false},
		{"2 of 100", 100, 1, false, math.Inf(1), false},
		{"3 of 100", 100, 2, false, 99, true},
		{"6 of 100", 100, 5, false, 99, true},
		{"1 of 40, of which a part was too much", 40, 0, false, 39.8, true},
		{"3 of 100, of the application", 100, 2, true, math.Inf(1), true},
		{"1 of 20: not below 0.7 of the BDP", 20, 0, false, 0.7 * 50_000 / mss, true},
	} {
		b := bbrIn(bbrUp)
		b.probeSample = true
		b.lost = tc.before * mss
		b.OnLost(b.now, Packet{Size: mss, InFlight: tc.flight * mss, AppLimited: tc.limited})
		if got := b.inflightLongterm / mss; got != tc.want && math.Abs(got-tc.want) > 0.2 {
			t.Errorf("%s: %.2f packets, want %.2f", tc.name, got, tc.want)
		}
		if down := b.state == bbrDown; down != tc.wantDown || b.probeSample == tc.wantDown {
			t.Errorf("%s: %s", tc.name, b.State())
		}
	}
}

// TestBBRShortTerm: a round with losses outside of probing takes rate and volume to what arrived, and not below 0.7; a probe forgets it
// (section 5.5.10.3).
func TestBBRShortTerm(t *testing.T) {
	for _, tc := range []struct {
		state      bbrState
		rate, want float64
	}{
		{bbrCruise, 0.9e6, 0.9e6}, {bbrCruise, 0.2e6, 0.7e6}, {bbrDown, 0.2e6, 0.7e6}, {bbrUp, 0.2e6, 1e6}, {bbrRefill, 0.2e6, 1e6},
	} {
		b := bbrIn(tc.state)
		b.cycleStamp = b.now
		b.OnLost(b.now, Packet{Size: mss, InFlight: 90 * mss})
		acked(b, tc.rate, Packet{Delivered: b.delivered, InFlight: 90 * mss, Lost: b.lost})
		if b.bw != tc.want {
			t.Errorf("%s: %v after a round with losses that delivered %v, want %v", b.State(), b.bw, tc.rate, tc.want)
		}
		b.startRefill()
		acked(b, tc.rate, Packet{Delivered: 0, InFlight: 90 * mss, Lost: b.lost})
		if b.bw != b.maxBw {
			t.Errorf("REFILL kept %v of %v", b.bw, b.maxBw)
		}
	}
}

// TestBBRCycle: what ends the states of ProbeBW (section 5.3.3.9).
func TestBBRCycle(t *testing.T) {
	round := func(b *BBR) Packet { return Packet{Delivered: b.delivered, InFlight: 50_000} }
	for _, tc := range []struct {
		name  string
		state bbrState
		set   func(b *BBR)
		sent  func(b *BBR) Packet
		rate  float64
		want  bbrState
	}{
		{"DOWN ends when what is in flight is the BDP", bbrDown, func(*BBR) {}, round, 1e6, bbrCruise},
		{"DOWN goes on above it", bbrDown, func(b *BBR) { b.maxBw, b.bw, b.bwFilter = 0.5e6, 0.5e6, [2]float64{0.5e6, 0.5e6} }, round, 0.5e6, bbrDown},
		{"DOWN leaves headroom", bbrDown, func(b *BBR) { b.inflightLongterm = 55_000 }, round, 1e6, bbrDown},
		{"CRUISE goes on", bbrCruise, func(*BBR) {}, round, 1e6, bbrCruise},
		{"CRUISE ends with the wait", bbrCruise, func(b *BBR) { b.cycleStamp = b.now - 3e9 }, round, 1e6, bbrRefill},
		{"CRUISE ends with Reno's rounds", bbrCruise, func(b *BBR) { b.roundsSinceProbeUp = 41 }, round, 1e6, bbrRefill},
		{"REFILL takes a round", bbrRefill, func(b *BBR) { b.startRound() }, func(*BBR) Packet { return Packet{InFlight: 50_000} }, 1e6, bbrRefill},
		{"and ends with it", bbrRefill, func(b *BBR) { b.startRound() }, round, 1e6, bbrUp},
		{"UP goes on", bbrUp, func(b *BBR) { b.fullBw = 1e6 }, round, 1.3e6, bbrUp},
		{"UP ends with a full pipe", bbrUp, func(b *BBR) { b.fullBw, b.fullBwCount = 1e6, 2 }, round, 1.1e6, bbrDown},
		{"UP is careful after losses", bbrUp, func(b *BBR) { b.prevProbeTooHigh, b.inflightLongterm = true, 50_000 }, round, 1.3e6, bbrDown},
	} {
		b := bbrIn(tc.state)
		b.ackPhase, b.cycleStamp = acksInit, b.now
		tc.set(b)
		acked(b, tc.rate, tc.sent(b))
		if b.state != tc.want {
			t.Errorf("%s: %s", tc.name, b.State())
		}
	}
}

// TestBBRTimeout: the least window is four packets (sections 5.6.4.3 and 5.6.4.4), and it grows by what is acknowledged.
func TestBBRTimeout(t *testing.T) {
	b := bbrIn(bbrCruise)
	b.OnPersistentCongestion(b.now)
	if b.Window() != 4*mss {
		t.Fatalf("window %d", b.Window())
	}
	acked(b, 1e6, Packet{InFlight: 50_000})
	if b.Window() != 5*mss {
		t.Errorf("window %d after a packet was acknowledged", b.Window())
	}
}

// TestBBRRate: before the first sample 2.77 initial windows per RTT (section 5.6.2); later the gain times the bandwidth, less 1 %.
func TestBBRRate(t *testing.T) {
	b := NewBBR(mss, 0)
	if got := b.Rate(0); got != 0 {
		t.Errorf("rate %d without an RTT", got)
	}
	if got := b.Rate(100e6); got != 332_400 {
		t.Errorf("rate %d, want 332400", got)
	}
	b.OnAck(1e9, Sample{RTT: 100e6, Smoothed: 100e6, Delivered: mss, Total: mss, Rate: 12_000, AppLimited: true, Newest: Packet{AppLimited: true}})
	if got := b.Rate(100e6); got != 332_400 {
		t.Errorf("rate %d after an application that sends little, want 332400 as before", got)
	}
	b = bbrIn(bbrUp)
	b.pacingGain = bbrUpPacingGain
	b.setPacingRate(b.pacingGain)
	if got := b.Rate(100e6); got != 1_237_500 {
		t.Errorf("rate %d, want 1237500", got)
	}
}

// TestBBRProbeRTTRates: rates of ProbeRTT do not take the model down (section 5.3.4.3).
func TestBBRProbeRTTRates(t *testing.T) {
	b := bbrIn(bbrProbeRTT)
	acked(b, 1e6, Packet{Delivered: b.delivered, InFlight: 50_000})
	b.bwFilter = [2]float64{}
	acked(b, 0.1e6, Packet{Delivered: b.delivered, InFlight: 25_000})
	if b.maxBw != 1e6 {
		t.Errorf("%v of 1e6", b.maxBw)
	}
}

// TestBBRDrainEnds: Drain ends after three rounds though what is in flight does not come down to the BDP (section 5.3.2).
func TestBBRDrainEnds(t *testing.T) {
	b := bbrIn(bbrDrain)
	b.minRTT, b.drainRound = 30e6, b.roundCount
	for round := 1; round <= 4; round++ {
		if b.state != bbrDrain {
			t.Fatalf("%s before round %d", b.State(), round)
		}
		acked(b, 1e6, Packet{Delivered: b.delivered, InFlight: 60_000})
	}
	if b.state == bbrDrain {
		t.Error("Drain goes on")
	}
}
