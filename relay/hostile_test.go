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

// TestStalledFetch has a publisher that stops in the middle of an object of a FETCH, and one that never starts: the subscriber's FETCH
// is reset after a while.
func TestStalledFetch(t *testing.T) {
	for _, stalls := range []int{0, 10} {
		inWorld(t, relay.Config{CacheBytes: -1, SetupTimeout: 3 * time.Second}, func(w *world) {
			t := w.t
			conn := w.dial(wire.Draft16, nil)
			asks := make(chan uint64, 1)
			pub, err := moq.Connect(w.context(), conn, moq.Handlers{
				Subscribe: func(r *moq.Request) {
					alias, err := r.Accept(nil)
					must(t, err)
					asks <- alias
				},
				Fetch: func(r *moq.FetchRequest) {
					must(t, r.Accept(wire.OrderAscending, r.End, false, nil))
					out, fw, err := r.Open()
					must(t, err)
					b := fw.AppendHeader(nil, &wire.FetchObject{Group: 1, PayloadLen: 1000})
					_, err = out.Write(append(b, make([]byte, stalls)...))
					must(t, err)
					<-r.Context().Done()
				},
			})
			must(t, err)
			must(t, pub.Announce(w.context(), []string{"live"}))
			s, _ := w.session(wire.Draft16, nil)
			go fetches(s)
			w.subscribe(s, moq.SubscribeOptions{})
			out, err := pub.OpenDataStream(w.context())
			must(t, err)
			b := (&wire.SubgroupHeader{TrackAlias: <-asks, Group: 1}).Append(nil, wire.Draft16)
			_, err = out.Write(append(wire.AppendObjectHeader(b, wire.Draft16, false, 0, nil, 1, 0), 'x'))
			must(t, err)
			must(t, out.Close())
			sleep(t, 1)
			f, err := s.Fetch(w.context(), []string{"live"}, "video", moq.FetchOptions{Start: moq.Location{Group: 1}, End: moq.Location{Group: 1}})
			must(t, err)
			f.Patience = time.Minute // so that this test ends in any case
			began := time.Now()
			got := fetched(w.context(), f, func(wire.FetchObject, []byte) {})
			if took := time.Since(began); len(got) != 1 || got[0] != "reset 0" || took > 4*time.Second {
				t.Errorf("after %v and %d bytes: %v", took, stalls, got)
			}
			must(t, context.Cause(conn.Context()))
		})
	}
}
