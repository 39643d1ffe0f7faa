package recovery

import (
	"testing"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestDemand: packets are marked when the one before them, or they, came later than window and rate allowed, until what was in flight
// then has arrived.
func TestDemand(t *testing.T) {
	const size, window, rate = 1000, 5000, 1_000_000 // a packet per millisecond
	for _, tc := range []struct {
		name string
		play func(d *demand) bool
		want bool
	}{
		{"as fast as the rate allows", func(d *demand) (marked bool) {
			d.sent(0, size, 0, 0, window, rate)
			d.acked(1)
			for n := range int64(4) {
				marked = marked || d.sent((n+1)*ms, size, 1000, 1, window, rate)
			}
			return marked
		}, false},
		{"a burst, and then at the rate", func(d *demand) (marked bool) {
			for n := range uint64(4) {
				d.sent(0, size, n*size, 0, 1<<20, rate)
			}
			return d.sent(1*ms, size, 3000, 1000, 1<<20, rate)
		}, false},
		{"a burst, and then what it cost is not over", func(d *demand) bool {
			for n := range uint64(4) {
				d.sent(0, size, n*size, 0, 1<<20, rate)
			}
			return d.sent(4*ms, size, 3000, 1000, 1<<20, rate)
		}, false},
		{"a burst, and then nothing for longer than it cost", func(d *demand) bool {
			for n := range uint64(4) {
				d.sent(0, size, n*size, 0, 1<<20, rate)
			}
			return d.sent(5*ms, size, 3000, 1000, 1<<20, rate)
		}, true},
		{"a full window that somebody does not keep to", func(d *demand) bool {
			for n := range uint64(5) {
				d.sent(int64(n)*ms, size, n*size, 0, window, rate)
			}
			return d.sent(30*ms, size, 5000, 0, window, rate)
		}, false},
		{"half the rate", func(d *demand) bool {
			d.sent(0, size, 0, 0, window, rate)
			return d.sent(2*ms, size, 1000, 0, window, rate)
		}, true},
		{"a full window", func(d *demand) bool {
			for n := range uint64(5) {
				d.sent(int64(n)*ms, size, n*size, 0, window, rate)
			}
			d.acked(1000)
			d.room(20*ms, 4000, window)
			return d.sent(20*ms, size, 4000, 1000, window, rate)
		}, false},
		{"a full window, and then nothing for long", func(d *demand) bool {
			for n := range uint64(5) {
				d.sent(int64(n)*ms, size, n*size, 0, window, rate)
			}
			d.acked(1000)
			d.room(20*ms, 4000, window)
			return d.sent(22*ms, size, 4000, 1000, window, rate)
		}, true},
		{"what was in flight has not arrived", func(d *demand) bool {
			d.sent(0, size, 0, 0, window, rate)
			d.sent(5*ms, size, 1000, 0, window, rate)
			d.acked(1000)
			return d.sent(6*ms, size, 1000, 1000, window, rate)
		}, true},
		{"what was in flight has arrived", func(d *demand) bool {
			d.sent(0, size, 0, 0, window, rate)
			d.sent(5*ms, size, 1000, 0, window, rate)
			d.acked(2000)
			return d.sent(6*ms, size, 0, 2000, window, rate)
		}, false},
		{"no rate, and room since the last packet", func(d *demand) bool {
			d.sent(ms, size, 0, 0, window, 0)
			return d.sent(2*ms, size, 1000, 0, window, 0)
		}, true},
	} {
		d := demand{since: -1 << 62, paced: 0}
		if got := tc.play(&d); got != tc.want {
			t.Errorf("%s: marked %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestCountsOfPackets: what a controller learns of a packet is how things stood when it was sent.
func TestCountsOfPackets(t *testing.T) {
	s, rec := newSender(0)
	s.RTT.MaxAckDelay = 25 * ms
	ack := func(now, delay int64, number uint64) {
		if err := s.OnAck(now, []wire.AckRange{{Smallest: number, Largest: number}}, delay); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint64(6) {
		s.Add(n, int64(n)*ms/10, 1200, Ours)
	}
	ack(7*ms, 0, 5) // 0, 1 and 2 are lost
	s.Add(6, 8*ms, 1200, Ours)
	ack(12*ms, 3*ms, 6) // 3 and 4 are too old
	first, last := rec.samples[0], rec.samples[1]
	if p := first.Newest; p.InFlight != 6*1200 || p.Delivered != 0 || p.Lost != 0 || p.Sent != 5*ms/10 {
		t.Errorf("newest of the first ACK %+v", p)
	}
	if p := last.Newest; p.InFlight != 3*1200 || p.Delivered != 1200 || p.Lost != 3*1200 || p.Sent != 8*ms {
		t.Errorf("newest of the second ACK %+v", p)
	}
	if first.Lost != 3*1200 || last.Lost != 5*1200 || last.AckDelay != 3*ms {
		t.Errorf("lost %d and %d, ACK delay %d", first.Lost, last.Lost, last.AckDelay)
	}
}
