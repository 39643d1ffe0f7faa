package relay_test

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestKeyUpdateBeforeJoin: a subscriber and a publisher whose connections have updated their keys before the datapath knows of them are
// served with the keys of that time.
func TestKeyUpdateBeforeJoin(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		in := &innocents{w: w, got: make(map[uint64][]byte), wire: w.hostile(wire.Draft16, nil)}
		in.pub = w.publisherOn(in.wire.conn, "live")
		h := w.hostile(wire.Draft16, nil)
		s, err := moq.Connect(w.context(), h.conn, moq.Handlers{})
		must(t, err)
		for range 300 { // quic-go's first key update comes after 100 packets
			must(t, h.conn.SendDatagram([]byte{1}))
			must(t, in.wire.conn.SendDatagram([]byte{1}))
			time.Sleep(10 * time.Millisecond)
		}
		h.with(func() {
			if h.in.Generation() == 0 {
				t.Fatal("keys were not updated")
			}
		})
		in.sub, in.conn = s, h.conn
		in.own = w.subscribe(s, moq.SubscribeOptions{}).Alias
		in.alias = (<-in.pub.asks).alias
		go in.collect()
		sleep(t, 1)
		in.publish(20)
		sleep(t, 1)
		if st := w.relay.Stats(); st.Boundary.LostPackets > 0 || subscribers(w.relay)[0].FastStreams != 20 {
			t.Errorf("%d packets are lost, %+v; %v", st.Boundary.LostPackets, subscribers(w.relay)[0], st.Reasons)
		}
	})
}
