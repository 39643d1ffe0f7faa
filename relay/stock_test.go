package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// TestStock sends objects and datagrams from a moqtransport publisher to a moqtransport subscriber, in every pair of drafts.
func TestStock(t *testing.T) {
	for _, from := range []wire.Draft{wire.Draft14, wire.Draft16} {
		for _, to := range []wire.Draft{wire.Draft14, wire.Draft16} {
			t.Run(fmt.Sprintf("%v to %v", from, to), func(t *testing.T) {
				inWorld(t, relay.Config{}, func(w *world) { testStock(w, from, to) })
			})
		}
	}
}

func testStock(w *world, from, to wire.Draft) {
	t := w.t
	pub := w.stock(from, "live")
	sub := w.stock(to)
	track, err := sub.Subscribe(w.context(), []string{"live"}, "video")
	must(t, err)
	out := <-pub.subs

	want := make(map[string]string)
	name := func(g, sg, id uint64) string { return fmt.Sprintf("%d/%d/%d", g, sg, id) }
	// One extension: moqtransport has no delta encoding, which with one makes no difference.
	ext := moqtransport.KVPList{{Type: 0x21, ValueBytes: []byte("captured")}}
	read := func(n int) {
		t.Helper()
		for range n {
			o, err := track.ReadObject(w.context())
			if err != nil {
				t.Fatalf("%v; missing %d objects; %+v", err, len(want), w.relay.Stats())
			}
			k := name(o.GroupID, o.SubGroupID, o.ObjectID)
			if o.ObjectID == 99 { // the library does not tell datagrams apart
				k = "datagram " + k
			}
			payload, ok := want[k]
			if !ok || payload != string(o.Payload) {
				t.Errorf("object %s of %d bytes is not what was sent", k, len(o.Payload))
			}
			delete(want, k)
			if o.ObjectID == 99 {
				continue
			}
			if len(o.ExtensionHeaders) != 1 || o.ExtensionHeaders[0].Type != 0x21 || string(o.ExtensionHeaders[0].ValueBytes) != "captured" {
				t.Errorf("object %s has extensions %v", k, o.ExtensionHeaders)
			}
		}
	}
	for g := range uint64(3) {
		n := 0
		for sg := range uint64(2) {
			s, err := out.OpenSubgroup(g, sg, uint8(10*sg))
			must(t, err)
			for i := range uint64(5) {
				id := 2*i + sg // with gaps
				payload := strings.Repeat(name(g, sg, id)+" ", int(1+i*i*i*700))
				want[name(g, sg, id)] = payload
				_, err := s.WriteObjectWithHeaders(id, ext, []byte(payload))
				must(t, err)
				n++
			}
			must(t, s.Close())
		}
		// No extensions in datagrams: the library's subscriber never stops reading them.
		must(t, out.SendDatagram(moqtransport.Object{GroupID: g, ObjectID: 99, Payload: []byte("datagram")}))
		want["datagram "+name(g, 0, 99)] = "datagram"
		read(n + 1)
	}
	if len(want) > 0 {
		t.Errorf("%d objects are missing", len(want))
	}
	must(t, out.CloseWithError(moqtransport.SubscribeStatusTrackEnded, "the end"))
	_, err = track.ReadObject(w.context())
	var done *moqtransport.ErrSubscribeDone
	if !errors.As(err, &done) || done.Reason != "the end" || done.Status != moqtransport.SubscribeStatusTrackEnded {
		t.Errorf("track ended with %v", err)
	}
	reasons := w.relay.Stats().Reasons
	if mismatch := reasons["draft_mismatch"] > 0; mismatch != (from != to) {
		t.Errorf("reasons: %v", reasons)
	}
}

// TestAggregation has several subscribers of one track: the publisher sees one subscription.
func TestAggregation(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		pub := w.stock(wire.Draft14, "live")
		var tracks []*moqtransport.RemoteTrack
		for i := range 5 {
			sub := w.stock([]wire.Draft{wire.Draft14, wire.Draft16}[i%2])
			track, err := sub.Subscribe(w.context(), []string{"live"}, "video")
			must(t, err)
			tracks = append(tracks, track)
		}
		out := <-pub.subs
		sg, err := out.OpenSubgroup(7, 0, 1)
		must(t, err)
		payload := bytes.Repeat([]byte("x"), 10_000)
		_, err = sg.WriteObject(0, payload)
		must(t, err)
		must(t, sg.Close())
		for i, track := range tracks {
			o, err := track.ReadObject(w.context())
			if err != nil || !bytes.Equal(o.Payload, payload) {
				t.Errorf("subscriber %d got %v, %v", i, o, err)
			}
		}
		if len(pub.subs) > 0 {
			t.Error("publisher has a second subscription")
		}
		s := w.relay.Stats()
		if s.Sessions != 6 || len(s.Tracks) != 1 || len(s.Tracks[0].Subscribers) != 5 || s.Tracks[0].Objects != 1 || s.Tracks[0].Streams != 1 {
			t.Errorf("stats: %+v", s)
		}
		for _, s := range s.Tracks[0].Subscribers {
			if s.SlowStreams != 1 || s.FastStreams != 0 || s.Bytes < 10_000 || s.Lost != 0 {
				t.Errorf("subscriber's stats: %+v", s)
			}
		}
	})
}

// TestRefused subscribes to what there is not, and to what the publisher refuses.
func TestRefused(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		inWorld(t, relay.Config{}, func(w *world) {
			w.stock(d, "live")
			sub := w.stock(d)
			for _, c := range []struct {
				namespace, track string
				code             map[wire.Draft]uint64
				reason           string
			}{
				{"nowhere", "video", map[wire.Draft]uint64{wire.Draft14: 4, wire.Draft16: 0x10}, "track does not exist"},
				{"live", "refused", map[wire.Draft]uint64{wire.Draft14: 1, wire.Draft16: 1}, "not for you"},
			} {
				_, err := sub.Subscribe(w.context(), []string{c.namespace}, c.track)
				var perr moqtransport.ProtocolError
				if !errors.As(err, &perr) || perr.Code() != c.code[d] || !strings.Contains(perr.Error(), c.reason) {
					t.Errorf("%v, %s/%s: %v", d, c.namespace, c.track, err)
				}
			}
			if n := len(w.relay.Stats().Tracks); n != 0 {
				t.Errorf("%d tracks are left", n)
			}
		})
	}
}

// TestResubscribe unsubscribes and subscribes again, within and after the time that the relay lingers, with publishers
// that may or may not see it.
func TestResubscribe(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		pub := w.stock(wire.Draft16, "live")
		sub := w.stock(wire.Draft16)
		var out *moqtransport.SubscribeResponseWriter
		for i, c := range []struct {
			linger bool
			asked  bool
		}{{false, true}, {false, false}, {true, false}, {false, true}} {
			track, err := sub.Subscribe(w.context(), []string{"live"}, "video")
			must(t, err)
			synctest.Wait()
			if (len(pub.subs) == 1) != c.asked {
				t.Fatalf("%d: publisher was asked: %v", i, !c.asked)
			}
			if c.asked {
				out = <-pub.subs
			}
			sg, err := out.OpenSubgroup(uint64(i), 0, 0)
			must(t, err)
			_, err = sg.WriteObject(0, []byte("x"))
			must(t, err)
			must(t, sg.Close())
			o, err := track.ReadObject(w.context())
			if err != nil || o.GroupID != uint64(i) {
				t.Fatalf("%d: %v, %v", i, o, err)
			}
			must(t, track.Close())
			_, err = track.ReadObject(w.context()) // PUBLISH_DONE answers UNSUBSCRIBE
			var done *moqtransport.ErrSubscribeDone
			if !errors.As(err, &done) {
				t.Fatal(err)
			}
			if c.linger {
				sleep(t, 3)
				if _, err := out.OpenSubgroup(9, 0, 0); !errors.Is(err, moqtransport.ErrUnsusbcribed) {
					t.Fatalf("publisher was not unsubscribed from: %v", err)
				}
			}
		}
		if err := context.Cause(sub.conn.Context()); err != nil {
			t.Error(err)
		}
	})
}
