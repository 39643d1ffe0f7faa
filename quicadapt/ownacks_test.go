package quicadapt

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestP5OwnAcks: quic-go is told of every acknowledged packet of its own and of no other until it has processed a packet that
// names it, whatever packets it drops; what is remembered is bounded.
func TestP5OwnAcks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a ownAcks
		acked, processed := map[uint64]bool{}, map[uint64]bool{}
		carriers := map[uint64][]wire.AckRange{}
		carrier := uint64(0)
		tell := func() (told int) {
			carrier++
			rs, _ := a.tell(carrier, maxAckRanges, 0)
			if len(rs) > maxAckRanges {
				t.Fatalf("%d ranges", len(rs))
			}
			for i, r := range rs {
				if r.Smallest > r.Largest || i > 0 && r.Largest+1 >= rs[i-1].Smallest {
					t.Fatalf("ranges %v are not in order", rs)
				}
				for n := r.Smallest; n <= r.Largest; n++ {
					if !acked[n] {
						t.Fatalf("%d was not acknowledged", n)
					}
					told++
				}
			}
			carriers[carrier] = append([]wire.AckRange(nil), rs...)
			return told
		}
		for range rapid.IntRange(1, 60).Draw(t, "acks") {
			for range rapid.IntRange(0, 40).Draw(t, "numbers") {
				n := rapid.Uint64Range(0, 300).Draw(t, "number")
				if acked[n] {
					continue // a Sender tells each once
				}
				a.add(n)
				acked[n] = true
			}
			tell()
			if rapid.Bool().Draw(t, "dropped") {
				continue
			}
			a.processed(carrier)
			for _, r := range carriers[carrier] {
				for n := r.Smallest; n <= r.Largest; n++ {
					processed[n] = true
				}
			}
		}
		// What is left comes within a few frames.
		for range 10 {
			tell()
			a.processed(carrier)
			for _, r := range carriers[carrier] {
				for n := r.Smallest; n <= r.Largest; n++ {
					processed[n] = true
				}
			}
		}
		for n := range acked {
			if !processed[n] {
				t.Fatalf("%d was never told", n)
			}
		}
		if told := tell(); told > 0 {
			t.Fatalf("%d numbers are told again after they were processed", told)
		}
	})
}

func TestOwnAcksAreBounded(t *testing.T) {
	var a ownAcks
	for n := range uint64(10_000) {
		a.add(2 * n)
	}
	if len(a.unprocessed) > maxUnprocessed {
		t.Errorf("%d ranges wait", len(a.unprocessed))
	}
}

// TestAckDelay: quic-go's RTT sample, now − sent − delay, is the same whichever packet made the peer acknowledge and however
// often it is told.
func TestAckDelay(t *testing.T) {
	c := benchConn()
	ack := func(now int64, carrier, largest, delay uint64) (own wire.AckRange, reported int64) {
		t.Helper()
		b := wire.AppendAck(nil, []wire.AckRange{{Smallest: 0, Largest: largest}}, delay, nil)
		if _, err := c.frame.Parse(b); err != nil {
			t.Fatal(err)
		}
		out := c.onAck(nil, carrier, 0, 1200, now)
		var f wire.Frame
		if _, err := f.Parse(out); err != nil {
			t.Fatalf("no ACK: %v", err)
		}
		return f.AppendAckRanges(nil)[0], int64(f.V[1]) << 3 * 1000
	}
	send := func(at int64, own uint64, media bool) uint64 {
		n := c.space.TakeNumber()
		e := c.sent(n, at, 1200, 1)
		e.own, e.media = own, media
		return n
	}
	const ms = int64(1e6)
	send(0, 70, false)
	last := send(8*ms, 0, true)
	// The peer got the media packet at 28 ms and waited 4 ms: 500 × 8 µs. The own packet was on the way for 20 ms as well.
	own, delay := ack(52*ms, 1, last, 500)
	if own != (wire.AckRange{Smallest: 70, Largest: 70}) || 52*ms-0-delay != 40*ms {
		t.Errorf("own %v, delay %d: RTT %d ms, want 40", own, delay, (52*ms-delay)/ms)
	}
	// quic-go dropped that packet: the next acknowledgment, 30 ms later, tells it again.
	last = send(60*ms, 0, true)
	if _, delay := ack(82*ms, 2, last, 0); 82*ms-delay != 40*ms {
		t.Errorf("told again, the RTT is %d ms, want 40", (82*ms-delay)/ms)
	}
}

// TestSkips: numbers are skipped now and then, first soon and then rarely, and not where the peer expects it.
func TestSkips(t *testing.T) {
	at := func(seed byte) (skipped []uint64) {
		s := newSkips([32]byte{seed}, 1000)
		for n := uint64(1000); n < 1<<20; n++ {
			if s.due(n) {
				skipped = append(skipped, n)
			}
		}
		return skipped
	}
	a, b := at(1), at(2)
	if a[0] > 1000+2*firstSkipPeriod+1 || len(a) < 1<<20/(2*lastSkipPeriod) || len(a) > 200 {
		t.Errorf("skipped %d numbers, the first %d", len(a), a[0])
	}
	if a[0] == b[0] && a[1] == b[1] {
		t.Error("the skipped numbers do not depend on the seed")
	}
}

// TestOptimisticAck: an acknowledgment of a skipped number, or of one that nobody has taken, makes quic-go close the
// connection: it is told of a packet far beyond its own.
func TestOptimisticAck(t *testing.T) {
	for _, tc := range []struct {
		name  string
		extra uint64
		lie   bool
	}{{"honest", 0, false}, {"skipped", 1, true}, {"never taken", 2, true}} {
		t.Run(tc.name, func(t *testing.T) {
			c := benchConn()
			c.nextOwn = 1
			e := c.sent(c.space.TakeNumber(), 0, 1200, 1)
			e.own = 0
			c.loss.Skip(c.space.TakeNumber())
			b := wire.AppendAck(nil, []wire.AckRange{{Smallest: 0, Largest: tc.extra}}, 0, nil)
			c.frame.Parse(b)
			var f wire.Frame
			if _, err := f.Parse(c.onAck(nil, 1, 0, 1200, 1e6)); err != nil {
				t.Fatal(err)
			}
			if lie := f.V[0] >= c.nextOwn; lie != tc.lie {
				t.Errorf("quic-go is told of %d, of %d that it sent", f.V[0], c.nextOwn)
			}
		})
	}
}
