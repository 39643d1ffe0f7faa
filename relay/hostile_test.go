package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// TestManyStreams: a publisher keeps as many streams open as it may, and opens many more that end at once. Another publisher's
// track goes on by the fast path, and the datapath keeps no entry of what has ended.
func TestManyStreams(t *testing.T) {
	const share = 100
	inFastWorldWith(t, relay.Config{MaxFastStreams: share}, func(w *world, dp *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		other := w.publisher(wire.Draft16, "elsewhere")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		good, _ := w.session(wire.Draft16, nil)
		sub, err := good.Subscribe(w.context(), []string{"elsewhere"}, "audio", moq.SubscribeOptions{})
		must(t, err)
		got := collect(w, good)
		go fetches(s)
		alias := (<-pub.asks).alias
		sleep(t, 1)
		const open, ended = 500, 4000
		var held []*quic.SendStream
		for i := range uint64(open + ended) {
			out := pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: i}, wire.Object{ID: 0, Payload: []byte("x")})
			if i < open {
				held = append(held, out)
				continue
			}
			must(t, out.Close())
			if i%100 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		sleep(t, 2)
		must(t, other.stream(wire.SubgroupHeader{TrackAlias: (<-other.asks).alias, Group: 7}, wire.Object{ID: 0, Payload: []byte("on")}).Close())
		sleep(t, 2)
		if groups := take(got)[sub.Alias]; len(groups) != 1 {
			t.Errorf("the other track's subscriber got groups %v", groups)
		}
		for _, tr := range w.relay.Stats().Tracks {
			if tr.Name == "audio" && tr.Subscribers[0].FastStreams != 1 {
				t.Errorf("the other track left the fast path: %+v", tr)
			}
		}
		if n, _ := dp.Entries(); n > share {
			t.Errorf("the datapath has %d streams, %d of one publisher are allowed", n, share)
		}
		for _, out := range held {
			must(t, out.Close())
		}
		sleep(t, 2)
		if n, _ := dp.Entries(); n > 0 {
			t.Errorf("the datapath has %d streams at the end", n)
		}
	})
}

// TestDuplicateAlias has a publisher that answers every subscription with the same alias. Its session is closed when that is
// for a second track, and another publisher's goes on.
func TestDuplicateAlias(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		other := w.publisher(wire.Draft14, "live")
		conn := w.dial(wire.Draft14, nil)
		ctl, err := conn.OpenStream()
		must(t, err)
		send := func(msgType uint64, payload ...byte) {
			m, err := wire.AppendControl(nil, msgType, payload)
			must(t, err)
			if _, err := ctl.Write(m); err != nil && conn.Context().Err() == nil {
				t.Error(err)
			}
		}
		send(wire.MsgClientSetup, 1, 0xc0, 0, 0, 0, 0xff, 0, 0, 14, 2, 1, 0, 2, 0x40, 0x64)
		scan := wire.ControlScanner{Message: func(msgType uint64, payload []byte) error {
			switch msgType {
			case wire.MsgServerSetup:
				send(wire.MsgPublishNamespace, 0, 1, 4, 'e', 'v', 'i', 'l', 0)
			case wire.MsgSubscribe:
				m, err := wire.ParseSubscribe(payload, wire.Draft14)
				if err != nil {
					return err
				}
				send(wire.MsgSubscribeOK, byte(m.RequestID), 9, 0, 1, 0, 0)
			}
			return nil
		}}
		go func() {
			for buf := make([]byte, 1000); ; {
				n, err := ctl.Read(buf)
				if err != nil {
					return
				}
				if err := scan.Write(buf[:n]); err != nil {
					t.Error(err)
				}
			}
		}()
		sleep(t, 1)
		s, _ := w.session(wire.Draft14, nil)
		_, err = s.Subscribe(w.context(), []string{"evil"}, "one", moq.SubscribeOptions{})
		must(t, err)
		must(t, context.Cause(conn.Context()))
		if _, err = s.Subscribe(w.context(), []string{"evil"}, "two", moq.SubscribeOptions{}); err == nil {
			t.Error("the second track was accepted")
		}
		sleep(t, 1)
		var closed *quic.ApplicationError
		if err := context.Cause(conn.Context()); !errors.As(err, &closed) || closed.ErrorCode != moq.CodeDuplicateAlias {
			t.Errorf("publisher's session ended with %v", err)
		}
		w.subscribe(s, moq.SubscribeOptions{})
		must(t, context.Cause(other.conn.Context()))
	})
}
