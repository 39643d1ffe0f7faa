package quicadapt

import (
	"errors"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestRefusedChange: what the datapath does not take of a client's or an upstream's change, as a new connection ID, it is told again until it
// does. Until then it does not send to the client, whose old connection ID may be retired.
func TestRefusedChange(t *testing.T) {
	for _, what := range []string{"client", "upstream"} {
		t.Run(what, func(t *testing.T) {
			w := newFuzzWorld(t)
			w.b.cfg.DrainInterval = 20 * time.Millisecond
			pass := func(d time.Duration) { w.b.start = w.b.start.Add(-d) }
			maySend := func() bool { return w.c.space.Budget(w.c.space.Now(), 1200) == datapath.Forwarded }
			ping := []byte{byte(wire.FramePing)}
			w.output(w.quic.Seal(nil, w.quic.Generation(), clientCID, w.own, 4, padded(ping)))
			told, refuse := 0, 3
			call := func() error {
				if told++; told <= refuse {
					return errors.New("refused")
				}
				return nil
			}
			if what == "client" {
				w.onClient = func(*datapath.Client) error { return call() }
			} else {
				w.onUpstream = func(*datapath.Upstream) error { return call() }
			}
			w.c.dirty = true
			for range refuse {
				again := w.b.service(w.c)
				if maySend() != (what == "upstream") {
					t.Errorf("after %d refusals the datapath may send: %v", told, maySend())
				}
				if now := w.b.now(); again <= now || again > now+int64(w.b.cfg.DrainInterval) {
					t.Errorf("after %d refusals it is told again in %v", told, time.Duration(again-now))
				}
				n := told
				if w.b.service(w.c); told != n {
					t.Error("it is told again at once")
				}
				pass(w.b.cfg.DrainInterval)
			}
			if w.b.service(w.c); told != refuse+1 || w.c.dirty || !maySend() {
				t.Errorf("told %d times, in the end the datapath may send: %v", told, maySend())
			}
			if w.b.service(w.c); told != refuse+1 {
				t.Error("it is told again although it has taken it")
			}
		})
	}
}
