package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// publisher is a publisher that writes its streams byte by byte.
type publisher struct {
	*moq.Session
	w    *world
	conn *quic.Conn
	asks chan ask
}

type ask struct {
	req   *moq.Request
	alias uint64
}

func (w *world) publisher(d wire.Draft, namespace string) *publisher {
	w.t.Helper()
	p := &publisher{w: w, conn: w.dial(d, nil), asks: make(chan ask, 100)}
	s, err := moq.Connect(w.context(), p.conn, moq.Handlers{Subscribe: func(r *moq.Request) {
		alias, err := r.Accept(nil)
		if err != nil {
			return
		}
		p.asks <- ask{r, alias}
	}})
	must(w.t, err)
	p.Session = s
	must(w.t, s.Announce(w.context(), []string{namespace}))
	return p
}

// stream opens a stream and writes the header and the objects.
func (p *publisher) stream(h wire.SubgroupHeader, objects ...wire.Object) *quic.SendStream {
	p.w.t.Helper()
	s, err := p.OpenDataStream(p.w.context())
	must(p.w.t, err)
	_, err = s.Write(h.Append(nil, p.Draft()))
	must(p.w.t, err)
	p.objects(s, h, 0, objects...)
	return s
}

// objects appends objects to a stream, of which the last one had the ID next - 1; next is 0 at the start.
func (p *publisher) objects(s *quic.SendStream, h wire.SubgroupHeader, next uint64, objects ...wire.Object) {
	p.w.t.Helper()
	for _, o := range objects {
		b := wire.AppendObjectHeader(nil, p.Draft(), h.Extensions, o.ID-next, o.Extensions, uint64(len(o.Payload)), o.Status)
		_, err := s.Write(append(b, o.Payload...))
		must(p.w.t, err)
		next = o.ID + 1
	}
}

// subscribe subscribes and waits until the relay serves it.
func (w *world) subscribe(s *moq.Session, o moq.SubscribeOptions) *moq.Subscription {
	w.t.Helper()
	sub, err := s.Subscribe(w.context(), []string{"live"}, "video", o)
	must(w.t, err)
	synctest.Wait()
	return sub
}

var allDrafts = [][2]wire.Draft{
	{wire.Draft14, wire.Draft14}, {wire.Draft14, wire.Draft16}, {wire.Draft16, wire.Draft14}, {wire.Draft16, wire.Draft16},
}

// TestKept sends every kind of header and object, and looks at what comes out: of the same draft, the same bytes but for
// the alias; of the other, the same objects.
func TestKept(t *testing.T) {
	for _, d := range allDrafts {
		t.Run(fmt.Sprintf("%v to %v", d[0], d[1]), func(t *testing.T) {
			inWorld(t, relay.Config{}, func(w *world) { testKept(w, d[0], d[1]) })
		})
	}
}

func testKept(w *world, from, to wire.Draft) {
	t := w.t
	pub := w.publisher(from, "live")
	s, _ := w.session(to, nil)
	other := w.subscribe(s, moq.SubscribeOptions{}) // takes an alias, so that the track's differ
	must(t, other.Unsubscribe())
	sub := w.subscribe(s, moq.SubscribeOptions{})
	alias := (<-pub.asks).alias
	if alias == sub.Alias {
		t.Fatal("both aliases are the same: nothing would be rewritten")
	}
	ext := wire.AppendExtensions(nil, []wire.ExtensionHeader{{Type: 2, Value: 7}, {Type: 0x21, Bytes: []byte("abc")}, {Type: 0x40, Value: 1 << 40}}, from)
	objects := []wire.Object{
		{ID: 3, Payload: []byte("three")},
		{ID: 4, Payload: bytes.Repeat([]byte("four"), 50_000)},
		{ID: 900, Payload: []byte("far")},
		{ID: 901, Status: wire.StatusEndOfGroup},
	}
	withExt := slices.Clone(objects)
	for i := range withExt[:3] {
		withExt[i].Extensions = ext
	}
	group := uint64(0)
	for _, mode := range []wire.SubgroupMode{wire.SubgroupZero, wire.SubgroupFirstObject, wire.SubgroupExplicit} {
		for _, extensions := range []bool{false, true} {
			for _, end := range []bool{false, true} {
				for _, byDefault := range []bool{false, true} {
					if byDefault && from == wire.Draft14 {
						continue
					}
					group++
					h := wire.SubgroupHeader{
						TrackAlias: alias, Group: group, SubgroupMode: mode, Subgroup: 11, Priority: 200 - uint8(group),
						Extensions: extensions, EndOfGroup: end, DefaultPriority: byDefault,
					}
					if mode != wire.SubgroupExplicit {
						h.Subgroup = 0
					}
					os := objects
					if extensions {
						os = withExt
					}
					must(t, pub.stream(h, os...).Close())
					got := readStream(w, s)
					must(t, got.err)
					want := rawStream{header: h, data: h.Append(nil, from)}
					if byDefault {
						h.Priority = wire.DefaultPriority
					}
					want.header.Len = len(want.data)
					next := uint64(0)
					for _, o := range os {
						want.data = wire.AppendObjectHeader(want.data, from, extensions, o.ID-next, o.Extensions, uint64(len(o.Payload)), o.Status)
						want.data = append(want.data, o.Payload...)
						next = o.ID + 1
					}
					if got.header.TrackAlias != sub.Alias || got.header.EndOfGroup != end || got.header.Extensions != extensions {
						t.Fatalf("group %d: header %+v", group, got.header)
					}
					if from == to {
						h.TrackAlias = sub.Alias
						if !bytes.Equal(got.data[got.header.Len:], want.data[want.header.Len:]) || !bytes.Equal(got.data[:got.header.Len], h.Append(nil, to)) {
							t.Fatalf("group %d: bytes differ", group)
						}
					}
					gotObjects, wantObjects := got.objects(t, to), want.objects(t, from)
					for i := range wantObjects {
						wantObjects[i].priority = h.Priority
						if from == to && byDefault {
							wantObjects[i].priority = 0 // not on the wire
						}
					}
					if !slices.Equal(gotObjects, wantObjects) {
						t.Fatalf("group %d:\n got %v\nwant %v", group, gotObjects, wantObjects)
					}
				}
			}
		}
	}
	testDatagrams(w, pub, s, alias, sub.Alias, ext)
}

func testDatagrams(w *world, pub *publisher, s *moq.Session, from, to uint64, ext []byte) {
	t := w.t
	for i, d := range []wire.ObjectDatagram{
		{Payload: []byte("plain"), ObjectID: 5, Priority: 7},
		{Payload: []byte("extended"), ObjectID: 6, Extensions: ext},
		{Payload: []byte("last"), ObjectID: 0, ZeroObjectID: true, EndOfGroup: true, Priority: 255},
		{HasStatus: true, Status: wire.StatusEndOfGroup, ObjectID: 9, Priority: 1},
		{Payload: bytes.Repeat([]byte("x"), 1100)},
	} {
		d.TrackAlias, d.Group = from, 1000+uint64(i)
		must(t, pub.SendDatagram(d.Append(nil, pub.Draft())))
		b, err := s.ReceiveDatagram(w.context())
		must(t, err)
		got, err := wire.ParseObjectDatagram(b, s.Draft())
		must(t, err)
		if got.TrackAlias != to || got.Group != d.Group || got.ObjectID != d.ObjectID || got.Priority != d.Priority ||
			got.HasStatus != d.HasStatus || got.Status != d.Status || got.EndOfGroup != d.EndOfGroup || !bytes.Equal(got.Payload, d.Payload) {
			t.Errorf("datagram %d: got %+v, sent %+v", i, got, d)
		}
		want, err := wire.TranscodeExtensions(nil, d.Extensions, pub.Draft(), s.Draft())
		if err != nil || !bytes.Equal(want, got.Extensions) {
			t.Errorf("datagram %d: extensions %x, want %x", i, got.Extensions, want)
		}
	}
}

// TestLateJoin subscribes in the middle of an object, with each filter: what comes has no gap and nothing that was not
// asked for.
func TestLateJoin(t *testing.T) {
	for _, d := range allDrafts {
		for _, c := range []struct {
			name string
			o    moq.SubscribeOptions
			want []string // "group/object"
		}{
			{"largest object", moq.SubscribeOptions{}, []string{"5/12", "5/13", "5/20", "6/0"}},
			{"next group", moq.SubscribeOptions{Filter: moq.FilterNextGroup}, []string{"6/0"}},
			{"absolute start", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: moq.Location{Group: 5, Object: 13}}, []string{"5/13", "5/20", "6/0"}},
			{"absolute range", moq.SubscribeOptions{Filter: moq.FilterAbsoluteRange, Start: moq.Location{Group: 5, Object: 0}, EndGroup: 5}, []string{"5/4", "5/12", "5/13", "5/20"}},
			{"range in the future", moq.SubscribeOptions{Filter: moq.FilterAbsoluteRange, Start: moq.Location{Group: 6, Object: 0}, EndGroup: 6}, []string{"6/0"}},
		} {
			t.Run(fmt.Sprintf("%s %v to %v", c.name, d[0], d[1]), func(t *testing.T) {
				inWorld(t, relay.Config{}, func(w *world) {
					t := w.t
					pub := w.publisher(d[0], "live")
					first, _ := w.session(d[1], nil)
					w.subscribe(first, moq.SubscribeOptions{})
					h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias, Group: 5, SubgroupMode: wire.SubgroupFirstObject, Priority: 9, Extensions: true}
					big := bytes.Repeat([]byte("b"), 40_000)
					out := pub.stream(h, wire.Object{ID: 10, Payload: []byte("ten")})
					b := wire.AppendObjectHeader(nil, d[0], true, 0, nil, uint64(len(big)), 0)
					_, err := out.Write(append(b, big[:25_000]...))
					must(t, err)
					sleep(t, 1)

					late, _ := w.session(d[1], nil)
					sub := w.subscribe(late, c.o)
					if sub.Largest == nil || *sub.Largest != (moq.Location{Group: 5, Object: 11}) {
						t.Errorf("largest object is %v", sub.Largest)
					}
					_, err = out.Write(big[25_000:])
					must(t, err)
					pub.objects(out, h, 12, wire.Object{ID: 12, Payload: []byte("twelve")}, wire.Object{ID: 13, Payload: big})
					must(t, out.Close())
					// A second stream of the group: one object from before, one from after the largest.
					h.SubgroupMode, h.Subgroup = wire.SubgroupExplicit, 3
					must(t, pub.stream(h, wire.Object{ID: 4, Payload: big}, wire.Object{ID: 20, Payload: []byte("twenty")}).Close())
					h.Group = 6
					must(t, pub.stream(h, wire.Object{ID: 0, Payload: []byte("next")}).Close())
					sleep(t, 1)
					must(t, pub.Close(0, "enough"))
					<-sub.Done()
					_, streams, _ := sub.Result()
					var got []string
					for range streams {
						r := readStream(w, late)
						must(t, r.err)
						for _, o := range r.objects(t, d[1]) {
							got = append(got, fmt.Sprintf("%d/%d", o.group, o.id))
							if wantSub := map[bool]uint64{true: 10, false: 3}[o.group == 5 && o.id >= 10 && o.id < 20]; o.subgroup != wantSub || o.priority != 9 {
								t.Errorf("object %v: subgroup is not %d", o, wantSub)
							}
							if o.id == 13 && o.payload != string(big) {
								t.Error("payload differs")
							}
						}
					}
					slices.SortFunc(got, compareLocations)
					if !slices.Equal(got, c.want) {
						t.Errorf("got %v, want %v", got, c.want)
					}
				})
			})
		}
	}
}

func compareLocations(a, b string) int {
	var x, y moq.Location
	_, _ = fmt.Sscanf(a, "%d/%d", &x.Group, &x.Object)
	_, _ = fmt.Sscanf(b, "%d/%d", &y.Group, &y.Object)
	switch {
	case x.Less(y):
		return -1
	case y.Less(x):
		return 1
	}
	return 0
}

// TestPublisherDies closes the publisher's connection in the middle of an object: the stream is reset, PUBLISH_DONE has
// the right count, another track goes on, and a publisher that takes over is found.
func TestPublisherDies(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		other := w.publisher(wire.Draft14, "elsewhere")
		s, _ := w.session(wire.Draft16, nil)
		sub := w.subscribe(s, moq.SubscribeOptions{})
		sub2, err := s.Subscribe(w.context(), []string{"elsewhere"}, "audio", moq.SubscribeOptions{})
		must(t, err)
		h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias, Group: 1}
		must(t, pub.stream(h, wire.Object{ID: 0, Payload: []byte("whole")}).Close())
		sleep(t, 1)
		out := pub.stream(h)
		_, err = out.Write(append(wire.AppendObjectHeader(nil, wire.Draft16, false, 1, nil, 50_000, 0), make([]byte, 20_000)...))
		must(t, err)
		sleep(t, 1)
		must(t, pub.conn.CloseWithError(0, "gone"))

		r := readStream(w, s)
		if os := r.objects(t, wire.Draft16); r.err != nil || len(os) != 1 || os[0].payload != "whole" {
			t.Errorf("first stream: %v, %v", os, r.err)
		}
		r = readStream(w, s)
		var reset *quic.StreamError
		if !errors.As(r.err, &reset) || !reset.Remote {
			t.Errorf("stream in progress ended with %v after %d bytes", r.err, len(r.data))
		}
		<-sub.Done()
		if code, streams, reason := sub.Result(); code != moq.DoneInternal || streams != 2 || reason != "publisher has gone" {
			t.Errorf("subscription ended with %d, %d streams, %q", code, streams, reason)
		}

		must(t, other.stream(wire.SubgroupHeader{TrackAlias: (<-other.asks).alias, Group: 3}, wire.Object{ID: 2, Payload: []byte("on")}).Close())
		r = readStream(w, s)
		if os := r.objects(t, wire.Draft16); r.header.TrackAlias != sub2.Alias || len(os) != 1 || os[0].payload != "on" {
			t.Errorf("other track: %v", os)
		}
		if _, err := s.Subscribe(w.context(), []string{"live"}, "video", moq.SubscribeOptions{}); err == nil {
			t.Error("track without publisher was accepted")
		}
		again := w.publisher(wire.Draft16, "live")
		w.subscribe(s, moq.SubscribeOptions{})
		if len(again.asks) != 1 {
			t.Error("new publisher was not asked")
		}
	})
}

// TestPublisherResets propagates a reset and its code.
func TestPublisherResets(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		out := pub.stream(wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias}, wire.Object{ID: 0, Payload: []byte("x")})
		sleep(t, 1)
		out.CancelWrite(77)
		r := readStream(w, s)
		var reset *quic.StreamError
		if !errors.As(r.err, &reset) || reset.ErrorCode != 77 {
			t.Errorf("stream ended with %v", r.err)
		}
		if n := w.relay.Stats().Reasons["publisher_reset"]; n != 1 {
			t.Errorf("%d resets were counted", n)
		}
	})
}

// TestEndOfTrack ends a track while a stream of it is still being sent: PUBLISH_DONE comes after the stream.
func TestEndOfTrack(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft14, "live")
		s, _ := w.session(wire.Draft14, nil)
		sub := w.subscribe(s, moq.SubscribeOptions{})
		a := <-pub.asks
		h := wire.SubgroupHeader{TrackAlias: a.alias}
		out := pub.stream(h, wire.Object{ID: 0, Payload: []byte("x")})
		must(t, a.req.Done(moq.DoneTrackEnded, 1, "the end"))
		sleep(t, 5)
		select {
		case <-sub.Done():
			t.Fatal("track ended before its stream")
		default:
		}
		must(t, out.Close())
		<-sub.Done()
		if code, streams, reason := sub.Result(); code != moq.DoneTrackEnded || streams != 1 || reason != "the end" {
			t.Errorf("subscription ended with %d, %d streams, %q", code, streams, reason)
		}
		if _, err := io.Copy(io.Discard, mustStream(w, s)); err != nil {
			t.Error(err)
		}
	})
}

func mustStream(w *world, s *moq.Session) *quic.ReceiveStream {
	w.t.Helper()
	rs, err := s.AcceptDataStream(w.context())
	must(w.t, err)
	return rs
}
