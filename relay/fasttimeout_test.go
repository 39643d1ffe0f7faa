package relay_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// cut makes the link to a host lose everything, or nothing again.
func (w *world) cut(a net.Addr, off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	down := w.down
	if off {
		down.Loss = 1
	}
	for _, h := range w.all {
		if h.LocalAddr().String() == a.String() {
			h.Reshape(w.up, down)
		}
	}
}

// TestFastDeliveryTimeout: what the datapath has sent and the subscriber did not get is sent again as long as it is of use; then the stream is reset with
// DELIVERY_TIMEOUT. The smaller timeout counts, of the subscriber or of the publisher. Others, and the next stream, are served.
func TestFastDeliveryTimeout(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		for _, c := range []struct {
			publisher, subscriber time.Duration
			reset                 bool
		}{
			{0, time.Second, true}, {time.Second, 0, true}, {time.Second, time.Minute, true}, {time.Minute, time.Second, true},
			{0, 0, false}, {time.Minute, time.Minute, false},
		} {
			t.Run(fmt.Sprintf("%v %v %v", d, c.publisher, c.subscriber), func(t *testing.T) {
				inFastWorld(t, func(w *world, _ *sim.Sim) {
					t := w.t
					pub := w.timeoutPublisher(d, c.publisher)
					s, conn := w.session(d, nil)
					sub := w.subscribe(s, moq.SubscribeOptions{DeliveryTimeout: c.subscriber})
					other, _ := w.session(d, nil)
					w.subscribe(other, moq.SubscribeOptions{})
					streams := collect(w, other)
					h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias, Group: 1}
					sleep(t, 1)
					out := pub.stream(h, wire.Object{ID: 0, Payload: make([]byte, 1000)})
					rs := mustStream(w, s)
					time.Sleep(100 * time.Millisecond)
					w.cut(conn.LocalAddr(), true)
					pub.objects(out, h, 1, wire.Object{ID: 1, Payload: make([]byte, 5000)})
					must(t, out.Close())
					sleep(t, 4)
					w.cut(conn.LocalAddr(), false)
					b := make([]byte, 1<<16)
					n, err := 0, error(nil)
					for err == nil {
						var k int
						k, err = rs.Read(b[n:])
						n += k
					}
					var reset *quic.StreamError
					if expired := errors.As(err, &reset) && reset.ErrorCode == 2; expired != c.reset || !expired && n < 6000 {
						t.Errorf("the stream ended with %v after %d bytes", err, n)
					}
					h.Group = 2
					must(t, pub.stream(h, wire.Object{ID: 0, Payload: make([]byte, 1000)}).Close())
					if r := readStream(w, s); r.err != nil || r.header.Group != 2 || r.header.TrackAlias != sub.Alias {
						t.Errorf("next stream: group %d, %v", r.header.Group, r.err)
					}
					sleep(t, 1)
					if st := subscribers(w.relay); st[0].FastStreams != 2 || st[1].FastStreams != 2 || len(streams) != 2 {
						t.Errorf("not all streams are fast, or the other subscriber has %d of 2: %+v", len(streams), st)
					}
					if n := w.relay.Stats().Tracks[0].Subscribers[0].Media[0].Reset["delivery_timeout"]; (n == 1) != c.reset {
						t.Errorf("%d streams are counted as too late", n)
					}
				})
			})
		}
	}
}
