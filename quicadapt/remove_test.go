package quicadapt

import (
	"errors"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
)

// TestRemovalFails: who has left and cannot be taken out of the datapath keeps its IDs, so that nobody gets what is left of it, until the
// removal has been repeated.
func TestRemovalFails(t *testing.T) {
	w := newFuzzWorld(t)
	b, refused := w.b, true
	call := func() error {
		if refused {
			return errors.New("refused")
		}
		return nil
	}
	w.onClient = func(*datapath.Client) error { return call() }
	w.onUpstream = func(*datapath.Upstream) error { return call() }
	b.remove(w.c)
	var conns []*conn
	for range 3 {
		if at := b.tick(&conns); b.clients[0] == nil || b.ups[0] == nil {
			t.Fatal("the IDs are free, and the datapath still knows them")
		} else if now := b.now(); at <= now || at > now+int64(removeAgainAfter) {
			t.Fatalf("it is told again in %v ns", at-now)
		}
		b.start = b.start.Add(-removeAgainAfter)
	}
	refused = false
	if at := b.tick(&conns); b.clients[0] != nil || b.ups[0] != nil || at != 0 {
		t.Errorf("client %v, upstream %v, again at %d", b.clients[0], b.ups[0], at)
	}
}
