package relay_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// TestAgeIsOfObjects sends a stream that lasts for 4 s, an object every 50 ms, to a subscriber of whom an object is of use for 500 ms: by its delivery timeout or
// by the policy, on the fast path and on the slow one. Where the path carries it, losses or not, all of it arrives. Where it does not, the stream is reset as soon as an object is too
// old, not when its last one is.
func TestAgeIsOfObjects(t *testing.T) {
	const age, every, objects, size = 500 * time.Millisecond, 50 * time.Millisecond, 80, 2000
	policy := datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, MaxAge: age}}}
	for _, c := range []struct {
		name       string
		timeout    time.Duration
		policy     datapath.Policy
		subscriber wire.Draft // the publisher speaks 16
		path       netsim.Shape
		whole      bool
	}{
		{"timeout, carried", age, datapath.Policy{}, wire.Draft16, netsim.Shape{Delay: delay, Loss: 0.03}, true},
		{"timeout, not carried", age, datapath.Policy{}, wire.Draft16, netsim.Shape{Delay: delay, Rate: size * 10, Queue: size * 2}, false},
		{"policy, carried", 0, policy, wire.Draft16, netsim.Shape{Delay: delay, Loss: 0.03}, true},
		{"policy, not carried", 0, policy, wire.Draft16, netsim.Shape{Delay: delay, Rate: size * 10, Queue: size * 2}, false},
		{"slow path, carried", 0, policy, wire.Draft14, netsim.Shape{Delay: delay, Loss: 0.03}, true},
		{"slow path, not carried", 0, policy, wire.Draft14, netsim.Shape{Delay: delay, Rate: size * 10, Queue: size * 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &fixedPolicy{policy: c.policy}
			inFastWorldWith(t, relay.Config{Heuristic: func() heuristic.Heuristic { return h }}, func(w *world, _ *sim.Sim) {
				t := w.t
				w.publisher(wire.Draft14, "other")
				pub := w.publisher(wire.Draft16, "live")
				w.down = c.path
				s, _ := w.session(c.subscriber, nil)
				_, err := s.Subscribe(w.context(), []string{"other"}, "video", moq.SubscribeOptions{}) // which makes it a client in any case
				must(t, err)
				w.subscribe(s, moq.SubscribeOptions{DeliveryTimeout: c.timeout})
				alias := (<-pub.asks).alias
				sleep(t, 1)
				ended := make(chan error, 10)
				go func() {
					for {
						rs, err := s.AcceptDataStream(w.context())
						if err != nil {
							return
						}
						go func() { // one that is reserved and never used does not end
							if b, err := io.ReadAll(rs); len(b) > 0 {
								ended <- err
							}
						}()
					}
				}()
				header := wire.SubgroupHeader{TrackAlias: alias, Group: 1}
				out := pub.stream(header, wire.Object{Payload: make([]byte, size)})
				for id := uint64(1); id < objects; id++ {
					time.Sleep(every)
					pub.objects(out, header, id, wire.Object{ID: id, Payload: make([]byte, size)})
				}
				var early bool
				var end error
				select {
				case end = <-ended:
					early = true
				default:
					must(t, out.Close())
					select {
					case end = <-ended:
					case <-time.After(time.Minute):
						t.Fatal("the stream does not end")
					}
				}
				var reset *quic.StreamError
				switch late := errors.As(end, &reset) && reset.ErrorCode == 2; {
				case c.whole && end != nil:
					t.Errorf("the stream ended with %v; %v", end, w.relay.Stats().Reasons)
				case !c.whole && (!late || !early):
					t.Errorf("the stream ended with %v, before its last object: %v; want it before, with DELIVERY_TIMEOUT", end, early)
				}
			})
		})
	}
}
