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
