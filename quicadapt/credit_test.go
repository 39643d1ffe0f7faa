package quicadapt

import (
	"testing"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestCreditComes: a fast stream that waits for credit, of its own or of the connection's, goes on as soon as the frame that grants it comes; nothing
// else need happen. Up to there nothing is sent beyond it.
func TestCreditComes(t *testing.T) {
	for _, c := range []struct {
		name  string
		block func(w *fuzzWorld)
		grant func(id uint64) []byte
	}{
		{"of the stream", func(w *fuzzWorld) { w.c.streamLimit = 900 },
			func(id uint64) []byte { return wire.AppendMaxStreamData(nil, id, 1500) }},
		{"of the connection", func(w *fuzzWorld) {
			w.c.maxData, w.c.toldMaxData = 900, 900
			w.c.updateCredit()
		}, func(uint64) []byte { return wire.AppendMaxData(nil, 1500) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newFuzzWorld(t)
			c.block(w)
			w.reserve()
			w.forward(4, 0)
			s := w.newest()
			if _, err := s.Write(make([]byte, 2000)); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			for _, most := range []uint64{900, 1500} {
				w.b.service(w.c)
				if n := w.highest[s.id]; n != most {
					t.Fatalf("%d bytes are sent, %d are allowed", n, most)
				}
				if most == 900 {
					w.input(w.sealPeer(c.grant(s.id)))
				}
			}
			w.check()
		})
	}
}

// TestSkipsAmongForwarded: numbers are skipped also while only the datapath sends: a client that acknowledges what it has not received is found
// out then, too.
func TestSkipsAmongForwarded(t *testing.T) {
	w := newFuzzWorld(t)
	w.c.maxData = 1 << 30
	w.c.streamLimit = 1 << 30
	w.c.updateCredit()
	w.reserve()
	w.forward(1, 0)
	const packets = 10_000
	for i := range packets {
		w.forward(1, 0)
		w.b.drain()
		if i%100 == 0 {
			next := w.c.space.Next()
			w.input(w.sealPeer(wire.AppendAck(nil, ranges100(w, next), 3, nil)))
		}
	}
	skipped := 0
	for n := range w.c.space.Next() {
		if !w.used[n] {
			skipped++
		}
	}
	if skipped < 5 || skipped > packets/10 {
		t.Errorf("%d numbers were skipped among %d packets", skipped, packets)
	}
}

// ranges100 acknowledges those of the last hundred and some numbers that were sent.
func ranges100(w *fuzzWorld, next uint64) (ranges []wire.AckRange) {
	for n := next - 1; n+1 > next-min(next, 150); n-- {
		switch {
		case !w.used[n]:
		case len(ranges) > 0 && ranges[len(ranges)-1].Smallest == n+1:
			ranges[len(ranges)-1].Smallest = n
		default:
			ranges = append(ranges, wire.AckRange{Smallest: n, Largest: n})
		}
		if n == 0 {
			break
		}
	}
	return ranges
}

// TestReserveForQUIC: however much the datapath forwards, some of the connection's credit is left for what quic-go sends, as control messages.
func TestReserveForQUIC(t *testing.T) {
	w := newFuzzWorld(t)
	w.c.streamLimit = 1 << 20
	for range 10 {
		w.reserve()
		w.forward(1, len(w.streams))
		w.forward(w.c.maxData/8-1, len(w.streams)-1) // until there is no credit for it
	}
	before := w.highest[0]
	w.output(w.quic.Seal(nil, w.quic.Generation(), clientCID, w.own, 4, wire.AppendStream(nil, 0, 0, make([]byte, 1000), false, true)))
	if w.highest[0] != before+1000 || w.c.stats.FlowControlDrops > 0 {
		t.Errorf("quic-go's 1000 bytes were not sent: %d of %d are used", w.c.space.DataUsed(), w.c.maxData)
	}
	w.check()
}
