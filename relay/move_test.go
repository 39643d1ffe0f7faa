package relay_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// TestFastReset: the publisher resets a stream in the middle of an object that the datapath forwards; the next stream is forwarded whole.
func TestFastReset(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias, Group: 1}
		sleep(t, 1)
		out := pub.stream(h)
		_, err := out.Write(append(wire.AppendObjectHeader(nil, wire.Draft16, false, 0, nil, 9000, 0), make([]byte, 3000)...))
		must(t, err)
		sleep(t, 1)
		out.CancelWrite(77)
		r := readStream(w, s)
		var reset *quic.StreamError
		if !errors.As(r.err, &reset) || reset.ErrorCode != 77 {
			t.Errorf("stream ended with %v after %d bytes", r.err, len(r.data))
		}
		if st := subscribers(w.relay); st[0].FastStreams != 1 {
			t.Errorf("subscriber: %+v", st)
		}
	})
}

// TestMigration moves a subscriber to another address in mid-stream, twice: its streams go on, and the datapath serves it at the new
// address, under the connection IDs that come with it.
func TestMigration(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, conn := w.session(wire.Draft16, nil)
		streams := collect(w, s)
		sub := w.subscribe(s, moq.SubscribeOptions{})
		alias := (<-pub.asks).alias
		sleep(t, 1)
		group := uint64(1)
		at := conn.LocalAddr()
		for range 3 {
			h := wire.SubgroupHeader{TrackAlias: alias, Group: group}
			out := pub.stream(h, wire.Object{ID: 0, Payload: make([]byte, 5000)})
			sleep(t, 1)
			if group < 3 {
				pc, _ := w.host()
				tr := &quic.Transport{Conn: pc}
				t.Cleanup(func() { _ = tr.Close(); _ = pc.Close() })
				path, err := conn.AddPath(tr)
				must(t, err)
				must(t, path.Probe(w.context()))
				synctest.Wait() // the client may be about to send, and would send what follows on the old path
				must(t, path.Switch())
				must(t, conn.SendDatagram([]byte("from here"))) // the first packet that is not a probe moves the path
				sleep(t, 1)
				w.die(at) // nobody is there any more
				at = pc.LocalAddr()
			}
			pub.objects(out, h, 1, wire.Object{ID: 1, Payload: make([]byte, 5000)})
			must(t, out.Close())
			sleep(t, 3)
			if got := take(streams)[sub.Alias]; len(got) != 1 || got[0] != group {
				t.Errorf("group %d: got groups %v", group, got)
			}
			group++
		}
		if st := subscribers(w.relay); st[0].FastStreams != 3 || st[0].Remote == "" {
			t.Errorf("subscriber: %+v; %v", st, w.relay.Stats().Reasons)
		}
		t.Log(w.relay.Stats().Reasons, w.relay.Stats().Boundary)
	})
}

// TestPublisherRotates: a publisher that retires connection IDs, as stock ones do after some 10,000 packets, and updates its keys loses the
// fast path at no moment.
func TestPublisherRotates(t *testing.T) {
	inFastWorld(t, func(w *world, dp *sim.Sim) {
		t := w.t
		h := w.hostile(wire.Draft16, nil)
		pub := w.publisherOn(h.conn, "live")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		alias := (<-pub.asks).alias
		go func() {
			for {
				if _, err := s.ReceiveDatagram(s.Context()); err != nil {
					return
				}
			}
		}()
		sleep(t, 1)
		const datagrams = 70_000
		ids := make(map[string]bool)
		for i := range uint64(datagrams) {
			must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: alias, Group: i, Payload: []byte("x")}).Append(nil, wire.Draft16)))
			time.Sleep(time.Millisecond)
			h.with(func() {
				ids[string(h.dcid)] = true
				h.sent = nil
			})
		}
		sleep(t, 1)
		st := subscribers(w.relay)[0]
		t.Logf("%d connection IDs, key generation %d, %d of %d forwarded", len(ids), h.out.Generation(), st.ForwardedDatagrams, st.Datagrams)
		if len(ids) < 5 || h.out.Generation() == 0 {
			t.Errorf("%d connection IDs were used, keys were updated %d times", len(ids), h.out.Generation())
		}
		if st.Datagrams != datagrams || st.ForwardedDatagrams < datagrams-10 { // 10 ms there and back at a packet each millisecond
			t.Errorf("%d of %d datagrams came, %d by the datapath; %v", st.Datagrams, datagrams, st.ForwardedDatagrams, w.relay.Stats().Reasons)
		}
	})
}
