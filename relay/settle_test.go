package relay_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestSlowStreamIsSettled: the datapath leaves a stream alone that began while nobody was bound to it. It may not have seen the stream's
// start, and would take a retransmission of that for a new stream, for a subscriber that is bound meanwhile and has the stream from
// userspace: every object twice.
func TestSlowStreamIsSettled(t *testing.T) {
	inFastWorld(t, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft14, "live")
		s, _ := w.session(wire.Draft16, nil) // of another draft: it is never bound
		w.subscribe(s, moq.SubscribeOptions{})
		a := <-pub.asks
		out := pub.stream(wire.SubgroupHeader{TrackAlias: a.alias}, wire.Object{Payload: []byte("x")})
		sleep(t, 1)
		if n, _ := dp.Entries(); n != 0 {
			t.Errorf("the datapath has %d streams that userspace sends", n)
		}
		must(t, out.Close())
		if r := readStream(w, s); r.err != nil || len(r.objects(t, wire.Draft16)) != 1 {
			t.Errorf("stream of %d bytes: %v", len(r.data), r.err)
		}
	})
}
