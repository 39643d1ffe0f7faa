package recovery

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
)

const ms = int64(time.Millisecond)

// upTo is the ranges that acknowledge numbers, which are ascending.
func upTo(numbers ...uint64) (r []wire.AckRange) {
	for _, n := range slices.Backward(numbers) {
		if k := len(r); k > 0 && r[k-1].Smallest == n+1 {
			r[k-1].Smallest = n
		} else {
			r = append(r, wire.AckRange{Smallest: n, Largest: n})
		}
	}
	return r
}

// sendOurs sends packets, one a millisecond from time at on.
func sendOurs(s *Sender[int], at int64, numbers ...uint64) {
	for i, n := range numbers {
		s.Add(n, at+int64(i)*ms, 1200, Ours)
	}
}

// TestLoss: RFC 9002, section 6.1.
func TestLoss(t *testing.T) {
	for _, tc := range []struct {
		name string
		rtt  int64
		sent []uint64
		ack  []uint64
		now  int64
		lost []uint64
	}{
		{"packet threshold", 100 * ms, []uint64{0, 1, 2, 3, 4, 5}, []uint64{4}, 10 * ms, []uint64{0, 1}},
		{"reordering within the threshold", 100 * ms, []uint64{0, 1, 2}, []uint64{2}, 10 * ms, nil},
		{"time threshold", 8 * ms, []uint64{0, 1, 2}, []uint64{2}, 9 * ms, []uint64{0}},
		{"nothing acknowledged", 8 * ms, []uint64{0, 1, 2}, nil, 500 * ms, nil},
		{"beyond the largest", 8 * ms, []uint64{0, 1, 2, 3}, []uint64{0}, 500 * ms, nil},
		{"gaps in the ranges", 100 * ms, []uint64{0, 1, 2, 3, 4, 5, 6}, []uint64{1, 3, 6}, 10 * ms, []uint64{0, 2}},
		{"granularity", 1, []uint64{0, 1, 2}, []uint64{2}, ms, []uint64{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, rec := newSender(0)
			s.RTT.Sample(tc.rtt, 0)
			sendOurs(s, 0, tc.sent...)
			if len(tc.ack) > 0 {
				s.RTT.Smoothed, s.RTT.Latest = tc.rtt, tc.rtt
				s.largest = tc.ack[len(tc.ack)-1] + 1
				for _, n := range tc.ack {
					s.land(s.at(n))
					s.drop(s.at(n))
				}
				s.detect(tc.now)
			}
			if !slices.Equal(rec.lost, tc.lost) {
				t.Fatalf("lost %v, want %v", rec.lost, tc.lost)
			}
		})
	}
}

// TestRTT: the example is worked out by hand with the formulas of section 5.3.
func TestRTT(t *testing.T) {
	r := RTT{MaxAckDelay: 25 * ms, Confirmed: true}
	r.Sample(100*ms, 10*ms) // the first takes no delay off
	if r.Smoothed != 100*ms || r.Var != 50*ms || r.Min != 100*ms {
		t.Fatalf("first sample: %+v", r)
	}
	r.Sample(140*ms, 20*ms) // 120 adjusted
	if r.Smoothed != 102500*ms/1000 || r.Var != 42500*ms/1000 || r.Min != 100*ms || r.Latest != 140*ms {
		t.Fatalf("delay taken off: %+v", r)
	}
	r.Sample(110*ms, 20*ms) // 90 would be below the minimum: nothing is taken off
	if want := 102500*ms/1000 + (110*ms-102500*ms/1000)/8; r.Smoothed != want {
		t.Fatalf("delay that is not plausible: smoothed %d, want %d", r.Smoothed, want)
	}
	capped, free := r, r
	capped.Sample(200*ms, 90*ms)
	free.Confirmed = false
	free.Sample(200*ms, 90*ms)
	if want := r.Smoothed + (175*ms-r.Smoothed)/8; capped.Smoothed != want {
		t.Errorf("delay above max_ack_delay: smoothed %d, want %d", capped.Smoothed, want)
	}
	if want := r.Smoothed + (110*ms-r.Smoothed)/8; free.Smoothed != want {
		t.Errorf("before the handshake is confirmed the delay is not capped: smoothed %d, want %d", free.Smoothed, want)
	}
}

// TestSamplesOfRTT: one for each ACK that newly acknowledges its largest and anything that elicits (section 5.1).
func TestSamplesOfRTT(t *testing.T) {
	s, _ := newSender(0)
	s.Add(0, 0, 1200, Eliciting)
	s.Add(1, 0, 1200, Silent)
	s.Add(2, 0, 1200, Ours)
	s.Add(3, 0, 40, Silent)
	check := func(what string, want int64) {
		t.Helper()
		if s.RTT.Latest != want {
			t.Errorf("%s: latest RTT %d ms, want %d", what, s.RTT.Latest/ms, want/ms)
		}
	}
	s.OnAck(10*ms, upTo(1), 0)
	check("nothing that elicits", 0)
	s.OnAck(20*ms, upTo(0, 1), 0)
	check("largest acknowledged before", 0)
	s.OnAck(30*ms, upTo(0, 1, 2, 3), 0)
	check("a silent largest along with one that elicits", 30*ms)
	s.OnAck(40*ms, upTo(0, 1, 2, 3), 0)
	check("nothing new", 30*ms)
}

func TestTimeThresholdTimer(t *testing.T) {
	s, rec := newSender(0)
	sendOurs(s, 0, 0, 1, 2)
	s.OnAck(10*ms, upTo(2), 0) // RTT 8 ms, threshold 9
	if !slices.Equal(rec.lost, []uint64{0, 1}) && s.Deadline() != 0 {
		t.Logf("lost at once: %v", rec.lost)
	}
	s, rec = newSender(0)
	s.RTT.Sample(8*ms, 0)
	sendOurs(s, 0, 0, 1, 2)
	s.OnAck(8*ms, upTo(2), 0)
	want := max(s.RTT.Smoothed, s.RTT.Latest) * 9 / 8
	if s.Deadline() <= 8*ms && len(rec.lost) == 0 || s.OnTimer(s.Deadline()-1) != 0 {
		t.Fatalf("deadline %d, want %d", s.Deadline(), want)
	}
	for at := s.Deadline(); at != 0 && len(rec.lost) < 2; at = s.Deadline() {
		s.OnTimer(at)
	}
	if !slices.Equal(rec.lost, []uint64{0, 1}) {
		t.Fatalf("lost %v, want [0 1]", rec.lost)
	}
	if s.Deadline() != 0 {
		t.Errorf("nothing is in flight, and the timer runs: %d", s.Deadline())
	}
}

// TestProbeTimeout: sections 6.2.1, 6.2.2 and 6.2.4: the timeout doubles, loses nothing, and an acknowledgment ends the backoff.
func TestProbeTimeout(t *testing.T) {
	s, rec := newSender(0)
	s.RTT.MaxAckDelay = 25 * ms
	s.RTT.Sample(20*ms, 0)
	sendOurs(s, 0, 0, 1, 2)
	pto := 20*ms + 4*10*ms + 25*ms
	at := 2*ms + pto
	for i := range 4 {
		if s.Deadline() != at {
			t.Fatalf("timeout %d at %d ms, want %d", i, s.Deadline()/ms, at/ms)
		}
		if s.OnTimer(at-1) != 0 {
			t.Fatal("probes before the timeout")
		}
		if n := s.OnTimer(at); n != 2 {
			t.Fatalf("%d probes, want 2", n)
		}
		at += pto << (i + 1)
	}
	if len(rec.lost) > 0 || s.Outstanding() != 3 {
		t.Fatalf("a timeout declared %v lost", rec.lost)
	}
	var oldest []uint64
	s.Oldest(func(p *Packet[int]) bool { oldest = append(oldest, p.Number); return len(oldest) < 2 })
	if !slices.Equal(oldest, []uint64{0, 1}) {
		t.Errorf("probes carry %v, want [0 1]", oldest)
	}
	s.OnAck(at, upTo(0), 0)
	if want := s.lastEliciting + s.RTT.PTO(); s.Deadline() != want {
		t.Errorf("deadline %d after an acknowledgment, want %d: without backoff", s.Deadline(), want)
	}
	s.OnAck(at, upTo(0, 1, 2), 0)
	if s.Deadline() != 0 {
		t.Error("nothing is in flight, and the timer runs")
	}
}

// TestOthersProbe: for packets of kind Eliciting there is no probe timeout, but they restart the one of ours.
func TestOthersProbe(t *testing.T) {
	s, _ := newSender(0)
	s.Add(0, 0, 1200, Eliciting)
	if s.Deadline() != 0 {
		t.Error("a timer runs for somebody else's packet")
	}
	s.Add(1, 5*ms, 1200, Ours)
	s.Add(2, 9*ms, 1200, Eliciting)
	if want := 9*ms + s.RTT.PTO(); s.Deadline() != want {
		t.Errorf("deadline %d, want %d", s.Deadline(), want)
	}
}

// TestPersistentCongestion: section 7.6. PTO is 60 ms, the duration 180 ms.
func TestPersistentCongestion(t *testing.T) {
	for _, tc := range []struct {
		name string
		sent []int64 // in ms; the last is acknowledged at the end
		ack  []uint64
		want bool
	}{
		{"two lost far apart", []int64{20, 250, 260, 270, 280, 290}, nil, true},
		{"everything between lost", []int64{20, 80, 150, 201, 239, 239, 240}, nil, true},
		{"not far enough", []int64{20, 80, 150, 199, 239, 239, 240}, nil, false},
		{"one between acknowledged", []int64{20, 80, 150, 250, 279, 279, 280}, []uint64{2}, false},
		{"before the first sample", []int64{5, 250, 260, 270, 280, 290}, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, rec := newSender(0)
			s.Add(0, 0, 1200, Ours)
			s.OnAck(10*ms, upTo(0), 0)
			s.RTT = RTT{Latest: 20 * ms, Smoothed: 20 * ms, Var: 10 * ms, Min: 20 * ms}
			var acked []uint64
			for i, at := range tc.sent {
				s.Add(uint64(i+1), at*ms, 1200, Ours)
			}
			rtt := s.RTT
			if tc.ack != nil {
				acked = append(acked, tc.ack...)
			}
			acked = append(acked, uint64(len(tc.sent)))
			// The sample of this acknowledgment is made such that the duration stays what it is.
			now := tc.sent[len(tc.sent)-1]*ms + rtt.Smoothed
			s.RTT.Var = 10 * ms * 4 / 3
			s.OnAck(now, upTo(acked...), 0)
			if rec.persistent != tc.want {
				t.Errorf("persistent congestion %v, want %v; PTO %d ms", rec.persistent, tc.want, s.RTT.PTO()/ms)
			}
			if tc.want {
				s.Add(100, now, 1200, Ours)
				s.OnAck(now+500*ms, upTo(100), 0)
				if s.RTT.Min != 500*ms {
					t.Errorf("minimum RTT %d ms after persistent congestion, want that of the next sample", s.RTT.Min/ms)
				}
			}
		})
	}
}

// TestMTUProbe: a lost probe of the path's MTU is no sign of congestion.
func TestMTUProbe(t *testing.T) {
	s, rec := newSender(0)
	s.Add(0, 0, 1452, MTUProbe)
	s.Add(1, 0, 1200, Eliciting)
	sendOurs(s, 0, 2, 3, 4, 5)
	s.OnAck(10*ms, upTo(2, 3, 4, 5), 0)
	if !slices.Equal(rec.lost, []uint64{0, 1}) || rec.ccLost != 1 {
		t.Errorf("lost %v, of which congestion control learns %d, want 1", rec.lost, rec.ccLost)
	}
}

// TestLateAcknowledgment: what was declared lost and arrives after all is told as acknowledged, once.
func TestLateAcknowledgment(t *testing.T) {
	s, rec := newSender(0)
	sendOurs(s, 0, 0, 1, 2, 3)
	s.OnAck(10*ms, upTo(3), 0)
	if !slices.Contains(rec.lost, 0) {
		t.Fatalf("lost %v", rec.lost)
	}
	flight := s.InFlight()
	s.OnAck(11*ms, upTo(0, 3), 0)
	s.OnAck(12*ms, upTo(0, 3), 0)
	if !slices.Equal(rec.acked, []uint64{3, 0}) || s.InFlight() != flight {
		t.Errorf("acknowledged %v, want [3 0]", rec.acked)
	}
}

// TestNeverSent: a skipped number that is acknowledged is a lie, and changes nothing.
func TestNeverSent(t *testing.T) {
	s, _ := newSender(0)
	sendOurs(s, 0, 0, 1)
	s.Skip(2)
	sendOurs(s, 2, 3)
	if err := s.OnAck(ms, upTo(0, 1, 3), 0); err != nil {
		t.Fatalf("honest acknowledgment: %v", err)
	}
	s, rec := newSender(0)
	sendOurs(s, 0, 0, 1)
	s.Skip(2)
	sendOurs(s, 2, 3)
	if err := s.OnAck(ms, upTo(0, 1, 2, 3), 0); !errors.Is(err, ErrNeverSent) {
		t.Fatalf("error %v, want %v", err, ErrNeverSent)
	}
	if len(rec.acked) > 0 || s.RTT.Known() {
		t.Error("a lying acknowledgment changed something")
	}
}

func TestSendFailed(t *testing.T) {
	s, rec := newSender(0)
	sendOurs(s, 0, 0, 1)
	if !s.Lose(1, ms) || s.Lose(1, ms) || s.Lose(7, ms) {
		t.Error("a packet is lost once, if it is known")
	}
	if !slices.Equal(rec.lost, []uint64{1}) || s.InFlight() != 1200 {
		t.Errorf("lost %v, %d bytes in flight", rec.lost, s.InFlight())
	}
}

// TestSendFailedForLong: a link that is down for long is not persistent congestion.
func TestSendFailedForLong(t *testing.T) {
	s, rec := newSender(0)
	sendOurs(s, 0, 0)
	if err := s.OnAck(10*ms, upTo(0), 0); err != nil {
		t.Fatal(err)
	}
	for i := range int64(2) {
		s.Add(uint64(i+1), (20+5000*i)*ms, 1200, Ours)
	}
	s.Lose(1, 5020*ms)
	s.Lose(2, 5020*ms)
	if len(rec.lost) != 2 || rec.persistent {
		t.Errorf("lost %v, persistent congestion %v", rec.lost, rec.persistent)
	}
}

// TestMemoryIsBounded: a peer that never acknowledges; packets that only acknowledge may be forgotten, others block.
func TestMemoryIsBounded(t *testing.T) {
	s, _ := newSender(0)
	for n := range uint64(3 * maxSpan) {
		if s.Add(n, int64(n), 50, Silent) == nil {
			t.Fatalf("silent packet %d was refused", n)
		}
	}
	s, _ = newSender(0)
	refused := 0
	for n := range uint64(3 * maxSpan) {
		room := s.Room(n)
		if added := s.Add(n, int64(n), 1200, Ours) != nil; added != room {
			t.Fatalf("packet %d: room %v, added %v", n, room, added)
		} else if !added {
			refused++
		}
	}
	if refused != 2*maxSpan || len(s.ring) != maxSpan {
		t.Errorf("%d refused, ring of %d", refused, len(s.ring))
	}
	if s.Limit() != uint64(refused)*1200+s.Window() {
		t.Errorf("limit %d: packets that are not known must not count as in flight", s.Limit())
	}
	s.OnAck(int64(maxSpan), []wire.AckRange{{Smallest: 0, Largest: maxSpan - 1}}, 0)
	if s.base != maxSpan || !s.Room(2*maxSpan-1) {
		t.Errorf("base %d after all was acknowledged", s.base)
	}
}

// TestTrim: base moves past what is done, and past what is too old.
func TestTrim(t *testing.T) {
	s, rec := newSender(1000)
	for n := range uint64(2 * slack) {
		s.Add(1000+n, int64(n), 1200, Ours)
	}
	if s.Add(1200, 0, 1, Ours) != nil || s.Add(999, 0, 1, Ours) != nil {
		t.Error("a number was taken twice, or below the first")
	}
	s.OnAck(ms, []wire.AckRange{{Smallest: 1101, Largest: 1400}, {Smallest: 1000, Largest: 1099}}, 0)
	if s.base != 1100 || !slices.Contains(rec.lost, 1100) {
		t.Fatalf("base %d, want 1100, which is lost", s.base)
	}
	s.OnAck(ms, []wire.AckRange{{Smallest: 1101, Largest: 1100 + slack + 1}}, 0)
	if s.base != 1100+slack+2 {
		t.Errorf("base %d, want %d", s.base, 1100+slack+2)
	}
}

// TestDeliveryRate: 10 packets of 1200 bytes a millisecond apart, acknowledged in the same rhythm: 1.2 MB/s.
func TestDeliveryRate(t *testing.T) {
	s, rec := newSender(0)
	for n := range uint64(30) {
		s.Add(n, int64(n)*ms, 1200, Ours)
		if n >= 10 {
			s.OnAck(int64(n)*ms, []wire.AckRange{{Smallest: 0, Largest: n - 10}}, 0)
		}
	}
	last := rec.samples[len(rec.samples)-1]
	if last.Rate < 1_100_000 || last.Rate > 1_300_000 || last.Total != 20*1200 || last.Delivered != 1200 {
		t.Errorf("sample %+v", last)
	}
}
