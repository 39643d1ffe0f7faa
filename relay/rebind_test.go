package relay_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestBoundLate: what a datapath that has got room late for a publisher, or a track, sees first of a stream that has begun is a retransmission of
// its start. It does not take the stream, which is the slow path's; and a datagram comes once, whether it came before or after.
func TestBoundLate(t *testing.T) {
	for _, call := range []string{"SetUpstream", "SetTrack"} {
		t.Run(call, func(t *testing.T) {
			inFallback(t, datapath.Limits{}, func(f *fallback) {
				t := f.t
				refuse(call, datapath.ErrFull)(f)
				f.start(1, wire.Draft16, nil)
				datagrams := make(chan uint64, 100)
				go func() {
					for {
						b, err := f.readers[0].session.ReceiveDatagram(f.context())
						if err != nil {
							return
						}
						o, err := wire.ParseObjectDatagram(b, wire.Draft16)
						if err != nil {
							t.Error(err)
							return
						}
						datagrams <- o.ObjectID
					}
				}()
				send := func(id uint64) {
					o := wire.ObjectDatagram{TrackAlias: f.alias, Group: 9, ObjectID: id, Payload: []byte("x")}
					must(t, f.pub.SendDatagram(o.Append(nil, wire.Draft16)))
					sleep(t, 1)
				}
				h := wire.SubgroupHeader{TrackAlias: f.alias, Group: 1}
				out := f.pub.stream(h, wire.Object{Payload: patterned(1, 0)})
				send(0)
				if n := f.relay.Stats().Reasons["forwarded"]; n > 0 {
					t.Fatalf("%d frames were forwarded", n)
				}
				f.fail(nil)
				sleep(t, 2)
				f.wire.send(wire.AppendStream(nil, uint64(out.StreamID()), 0, h.Append(nil, wire.Draft16), false, true))
				sleep(t, 1)
				f.pub.objects(out, h, 1, wire.Object{ID: 1, Payload: patterned(1, 1)})
				must(t, out.Close())
				sleep(t, 1)
				if n := f.relay.Stats().Reasons["forwarded"]; n > 0 {
					t.Errorf("%d frames of a stream were forwarded that userspace sends", n)
				}
				send(1)
				if n := f.relay.Stats().Reasons["forwarded"]; n != 1 {
					t.Errorf("%d datagrams were forwarded, want 1", n)
				}
				two, endTwo := f.group(2)
				two(0)
				endTwo()
				sleep(t, 2)
				if n := f.fast(); n != 1 {
					t.Errorf("%d streams are fast, want the next one", n)
				}
				if got, want := f.received(f.readers[0], 0), []string{"1/0", "1/1", "2/0"}; !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				ctx, cancel := context.WithTimeout(f.context(), time.Second)
				defer cancel()
				for want := range uint64(2) {
					select {
					case id := <-datagrams:
						if id != want {
							t.Errorf("datagram %d came, want %d", id, want)
						}
					case <-ctx.Done():
						t.Fatalf("datagram %d did not come", want)
					}
				}
				if len(datagrams) > 0 {
					t.Errorf("datagram %d came again", <-datagrams)
				}
				if n, clients := f.sim.Entries(); n+clients > 0 {
					t.Errorf("datapath has %d streams and %d streams of clients left", n, clients)
				}
			})
		})
	}
}
