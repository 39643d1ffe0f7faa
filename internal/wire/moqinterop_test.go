package wire_test

import (
	"context"
	"testing"

	"github.com/Eyevinn/moqtransport"
	"github.com/google/go-cmp/cmp"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// scan returns the messages of one type in the bytes of a control stream.
func scan(t testing.TB, b []byte, typ uint64) (payloads [][]byte) {
	t.Helper()
	s := wire.ControlScanner{Message: func(got uint64, p []byte) error {
		if got == typ {
			payloads = append(payloads, append([]byte{}, p...))
		}
		return nil
	}}
	if err := s.Write(b); err != nil || s.Pending() != 0 {
		t.Fatalf("control stream %x: %v, %d bytes pending", b, err, s.Pending())
	}
	return payloads
}

// What a publisher of the library writes, read by this package: SUBSCRIBE_OK, a subgroup stream, a datagram, PUBLISH_DONE.
func TestReadLibraryPublisher(t *testing.T) {
	ext := moqtransport.KVPList{{Type: 0x0e, ValueVarInt: 300}, {Type: 0x11, ValueBytes: []byte("ab")}}
	for _, d := range drafts {
		t.Run(d.String(), func(t *testing.T) {
			c := newFakeConn(d, false)
			s := newSession(func(w *moqtransport.SubscribeResponseWriter, m *moqtransport.SubscribeMessage) {
				check := func(err error) {
					if err != nil {
						t.Error(err)
					}
				}
				check(w.Accept(moqtransport.WithLargestLocation(&moqtransport.Location{Group: 70, Object: 6})))
				sg, err := w.OpenSubgroup(71, 2, 9, moqtransport.WithEndOfGroup())
				check(err)
				_, err = sg.WriteObject(0, []byte("first"))
				check(err)
				_, err = sg.WriteObjectWithHeaders(4, ext, []byte("fifth"))
				check(err)
				_, err = sg.WriteObject(5, nil)
				check(err)
				check(w.SendDatagram(moqtransport.Object{GroupID: 71, ObjectID: 8, Payload: []byte("dgram")}))
				check(w.SendDatagram(moqtransport.Object{GroupID: 71, ObjectID: 9, ExtensionHeaders: ext[:1]}))
				check(w.CloseWithError(2, "ended"))
			})
			c.feed <- peerSetup(d, true)
			if err := s.Run(c); err != nil {
				t.Fatal(err)
			}
			m := goodMessages[d][0]
			b, err := wire.AppendControl(nil, m.typ, unhex(t, m.payload))
			if err != nil {
				t.Fatal(err)
			}
			c.feed <- b
			close(c.feed)
			<-c.ended
			_ = s.Close()

			control := c.bytes()
			setup := scan(t, control, wire.MsgServerSetup)
			if got, err := wire.ParseServerSetup(setup[0], d); err != nil || got != d {
				t.Errorf("SERVER_SETUP: %v, %v", got, err)
			}
			ok, err := wire.ParseSubscribeOK(scan(t, control, wire.MsgSubscribeOK)[0], d)
			if err != nil {
				t.Fatal(err)
			}
			if ok.GroupOrder != 1 || !ok.ContentExists || ok.LargestGroup != 70 || ok.LargestObject != 6 || ok.DefaultPriority != 128 {
				t.Errorf("SUBSCRIBE_OK: %+v", ok)
			}
			done, err := wire.ParsePublishDone(scan(t, control, wire.MsgPublishDone)[0], d)
			if err != nil || done.StatusCode != 2 || done.StreamCount != 1 || done.Reason != "ended" {
				t.Errorf("PUBLISH_DONE: %+v, %v", done, err)
			}
			readLibrarySubgroup(t, d, ok.TrackAlias, c.uni[0].bytes())
			readLibraryDatagrams(t, d, ok.TrackAlias, c.datagrams)
		})
	}
}

func readLibrarySubgroup(t *testing.T, d wire.Draft, alias uint64, b []byte) {
	h, err := wire.ParseSubgroupHeader(b, d)
	if err != nil {
		t.Fatal(err)
	}
	want := wire.SubgroupHeader{Type: 0x1d, TrackAlias: alias, Group: 71, Subgroup: 2, SubgroupMode: wire.SubgroupExplicit,
		Priority: 9, Extensions: true, EndOfGroup: true, AliasOff: 1, AliasLen: 1, Len: h.Len}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(b[:h.Len], h.Append(nil, d)); diff != "" {
		t.Errorf("header's bytes (-library +appended):\n%s", diff)
	}
	var r wire.ObjectReader
	r.Init(&h, d)
	again := h.Append(nil, d)
	next := uint64(0)
	var objects []wire.Object
	for rest := b[h.Len:]; len(rest) > 0; {
		var o wire.Object
		n, err := r.ParseHeader(rest, &o)
		if err != nil {
			t.Fatalf("%x: %v", rest, err)
		}
		rest = rest[n+int(o.PayloadLen):]
		again = wire.AppendObjectHeader(again, d, true, o.ID-next, o.Extensions, o.PayloadLen, o.Status)
		again = append(again, o.Payload...)
		next = o.ID + 1
		objects = append(objects, o)
	}
	if diff := cmp.Diff(b, again); diff != "" {
		t.Errorf("stream's bytes (-library +appended):\n%s", diff)
	}
	if len(objects) != 3 || objects[0].ID != 0 || objects[1].ID != 4 || objects[2].ID != 5 || string(objects[1].Payload) != "fifth" {
		t.Fatalf("objects %+v", objects)
	}
	// In either draft the library writes absolute types, so draft 14 reads them.
	var got []wire.ExtensionHeader
	if err := wire.ParseExtensions(objects[1].Extensions, wire.Draft14, func(e wire.ExtensionHeader) bool {
		got = append(got, e)
		return true
	}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]wire.ExtensionHeader{{Type: 0x0e, Value: 300}, {Type: 0x11, Bytes: []byte("ab")}}, got); diff != "" {
		t.Errorf("extensions (-want +got):\n%s", diff)
	}
}

func readLibraryDatagrams(t *testing.T, d wire.Draft, alias uint64, datagrams [][]byte) {
	want := []wire.ObjectDatagram{
		{TrackAlias: alias, Group: 71, ObjectID: 8, Payload: []byte("dgram")},
		{Type: 1, TrackAlias: alias, Group: 71, ObjectID: 9, Extensions: []byte{0x0e, 0x41, 0x2c}, Payload: []byte{}},
	}
	if len(datagrams) != len(want) {
		t.Fatalf("%d datagrams", len(datagrams))
	}
	for i, b := range datagrams {
		got, err := wire.ParseObjectDatagram(b, d)
		if err != nil {
			t.Errorf("%x: %v", b, err)
			continue
		}
		want[i].AliasOff, want[i].AliasLen, want[i].HeaderLen = got.AliasOff, got.AliasLen, got.HeaderLen
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("datagram (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(b, got.Append(nil, d)); diff != "" {
			t.Errorf("datagram's bytes (-library +appended):\n%s", diff)
		}
	}
}

// What a subscriber of the library writes, and every other request of it.
func TestReadLibrarySubscriber(t *testing.T) {
	for _, d := range drafts {
		t.Run(d.String(), func(t *testing.T) {
			c := newFakeConn(d, true)
			s := newSession(nil)
			c.feed <- peerSetup(d, false)
			if err := s.Run(c); err != nil {
				t.Fatal(err)
			}
			<-c.writes
			ctx, cancel := context.WithCancel(t.Context())
			wait := startRequests(ctx, t, s, c)
			wait2 := make(chan struct{})
			go func() {
				defer close(wait2)
				_, _ = s.Subscribe(ctx, []string{"a", "b"}, "track", moqtransport.WithSubscriberPriority(7), moqtransport.WithForward(false),
					moqtransport.WithFilterType(moqtransport.FilterTypeAbsoluteRange), moqtransport.WithEndGroup(9),
					moqtransport.WithStartLocation(moqtransport.Location{Group: 3, Object: 4}), moqtransport.WithAuthorizationToken("tok"))
			}()
			<-c.writes
			cancel()
			wait()
			<-wait2
			_ = s.Close()

			done := false
			scanner := wire.ControlScanner{Message: func(typ uint64, p []byte) error {
				defer func() { done = true }()
				return wire.ValidateControl(typ, p, d, done)
			}}
			control := c.bytes()
			if err := scanner.Write(control); err != nil {
				t.Errorf("a message of the library is refused: %v", err)
			}
			subscribes := scan(t, control, wire.MsgSubscribe)
			got, err := wire.ParseSubscribe(subscribes[len(subscribes)-1], d)
			if err != nil {
				t.Fatal(err)
			}
			got.Params = nil
			want := wire.Subscribe{RequestID: 12, Namespace: []string{"a", "b"}, Track: []byte("track"), SubscriberPriority: 7, GroupOrder: 1,
				FilterType: wire.FilterAbsoluteRange, StartGroup: 3, StartObject: 4, EndGroup: 9}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("SUBSCRIBE (-want +got):\n%s", diff)
			}
		})
	}
}
