package quicadapt

import (
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// sendMedia registers media packets, one a millisecond from time at on.
func sendMedia(r *registry, v *recovery, at int64, numbers ...uint64) {
	for i, n := range numbers {
		p := r.add(n)
		p.kind, p.at, p.n, p.acked = kindMedia, at+int64(i)*ms, 0, false
		r.media++
		v.lastSent = p.at
	}
}

func ackMedia(r *registry, v *recovery, numbers ...uint64) {
	for _, n := range numbers {
		if p := r.at(n); p != nil && !p.acked {
			r.done(p)
		}
		v.largest = max(v.largest, n+1)
	}
}

func lostNumbers(r *registry, f func(func(*sentPacket))) (lost []uint64) {
	f(func(p *sentPacket) {
		for n := r.base; n < r.end; n++ {
			if r.at(n) == p {
				lost = append(lost, n)
			}
		}
		r.done(p)
	})
	return lost
}

func TestRecovery(t *testing.T) {
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
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, v := newRegistry(0), &recovery{}
			v.sample(tc.rtt, 0)
			sendMedia(r, v, 0, tc.sent...)
			ackMedia(r, v, tc.ack...)
			got := lostNumbers(r, func(f func(*sentPacket)) { v.lost(r, tc.now, f) })
			if len(got) != len(tc.lost) {
				t.Fatalf("lost %v, want %v", got, tc.lost)
			}
			for i := range got {
				if got[i] != tc.lost[i] {
					t.Fatalf("lost %v, want %v", got, tc.lost)
				}
			}
		})
	}
}

// TestTimeThresholdTimer: what is not old enough yet is declared lost when the timer that deadline names strikes.
func TestTimeThresholdTimer(t *testing.T) {
	r, v := newRegistry(0), &recovery{}
	v.sample(8*ms, 0)
	sendMedia(r, v, 0, 0, 1, 2)
	ackMedia(r, v, 2)
	v.lost(r, 5*ms, func(*sentPacket) { t.Fatal("too early") })
	at := v.deadline(r)
	if at != 9*ms {
		t.Fatalf("deadline %d ms, want 9", at/ms)
	}
	got := lostNumbers(r, func(f func(*sentPacket)) { v.onTimer(r, at, f) })
	if len(got) != 1 || got[0] != 0 {
		t.Fatalf("lost %v, want [0]", got)
	}
}

// TestProbeTimeout: without any acknowledgment the two oldest are sent again, at times that double.
func TestProbeTimeout(t *testing.T) {
	r, v := newRegistry(0), &recovery{maxAckDelay: 25 * ms}
	v.sample(20*ms, 0)
	sendMedia(r, v, 0, 0, 1, 2)
	// RFC 9002, section 6.2.1: smoothed_rtt + max(4 * rttvar, granularity) + max_ack_delay
	want := 2*ms + 20*ms + 40*ms + 25*ms
	if at := v.deadline(r); at != want {
		t.Fatalf("deadline %v, want %v", time.Duration(at), time.Duration(want))
	}
	got := lostNumbers(r, func(f func(*sentPacket)) { v.onTimer(r, want, f) })
	if len(got) != 2 || got[0] != 0 || got[1] != 1 {
		t.Fatalf("probe sends %v again, want [0 1]", got)
	}
	if at := v.deadline(r); at != want+2*85*ms {
		t.Fatalf("second deadline %v, want %v", time.Duration(at), time.Duration(want+2*85*ms))
	}
}

func TestRegistryGrowsAndTrims(t *testing.T) {
	r := newRegistry(1000)
	for n := uint64(1000); n < 1500; n++ {
		p := r.add(n)
		p.kind, p.own, p.at = kindOwn, n-1000, int64(n)
	}
	for n := uint64(1000); n < 1500; n++ {
		if p := r.at(n); p == nil || p.own != n-1000 {
			t.Fatalf("packet %d is lost: %+v", n, p)
		}
	}
	if r.add(1200) != nil {
		t.Error("a number was entered twice")
	}
	if r.add(999) != nil || r.add(1000+maxWindow) != nil {
		t.Error("a number outside the window was entered")
	}
	for n := uint64(1000); n < 1400; n++ {
		r.done(r.at(n))
	}
	r.trim(1450)
	if r.base != 1400 {
		t.Errorf("base %d, want 1400", r.base)
	}
	// quic-go gives up packets that are not acknowledged for long.
	r.trim(1450 + registrySlack)
	if r.base != 1451 {
		t.Errorf("base %d, want 1451", r.base)
	}
}
