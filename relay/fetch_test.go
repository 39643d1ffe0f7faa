package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// fetches hands the streams of a session to its fetches.
func fetches(s *moq.Session) {
	for {
		rs, err := s.AcceptDataStream(s.Context())
		if err != nil {
			return
		}
		go func() {
			var b []byte
			for {
				c := make([]byte, 1)
				n, err := rs.Read(c)
				b = append(b, c[:n]...)
				if derr := s.DeliverFetch(rs, b); derr == nil || err != nil {
					return // ours no more
				} else if !errors.Is(derr, wire.ErrShort) {
					_, _ = io.Copy(io.Discard, rs) // a subgroup's
					return
				}
			}
		}()
	}
}

// fetched reads a FETCH to its end; objects are "group/subgroup/object", and the last line is how it ended.
func fetched(ctx context.Context, f *moq.Fetch, payload func(wire.FetchObject, []byte)) (out []string) {
	for {
		o, err := f.Next(ctx)
		if err == nil {
			var b []byte
			b, err = io.ReadAll(f)
			if err == nil {
				out = append(out, fmt.Sprintf("%d/%d/%d", o.Group, o.Subgroup, o.ID))
				payload(o, b)
				continue
			}
		}
		var reset *quic.StreamError
		if errors.As(err, &reset) {
			return append(out, fmt.Sprintf("reset %d", reset.ErrorCode))
		}
		return append(out, err.Error())
	}
}

func content(g, id uint64) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%d/%d ", g, id)), int(1+id*id*700))
}

// fetchWorld publishes groups 3–5 of a track with a subscriber: subgroup 0 has the even and subgroup 9 the odd objects 0–7, and
// object 8 comes in a datagram. The last object of group 5's subgroup 0, which is 6, is still on its way: finish ends it.
func fetchWorld(w *world, d, to wire.Draft) (s *moq.Session, sub *moq.Subscription, finish func()) {
	t := w.t
	pub := w.publisher(d, "live")
	s, _ = w.session(to, nil)
	early := w.subscribe(s, moq.SubscribeOptions{})
	go fetches(s)
	alias := (<-pub.asks).alias
	ext := wire.AppendExtensions(nil, []wire.ExtensionHeader{{Type: 0x21, Bytes: []byte("abc")}, {Type: 0x40, Value: 7}}, d)
	for g := uint64(3); g <= 5; g++ {
		for _, subgroup := range []uint64{9, 0} {
			h := wire.SubgroupHeader{TrackAlias: alias, Group: g, Subgroup: subgroup, SubgroupMode: wire.SubgroupExplicit, Priority: uint8(g), Extensions: true}
			out := pub.stream(h)
			next := uint64(0)
			for id := subgroup % 2; id < 8; id += 2 {
				b := wire.AppendObjectHeader(nil, d, true, id-next, ext, uint64(len(content(g, id))), 0)
				b = append(b, content(g, id)...)
				next = id + 1
				if g == 5 && id == 6 {
					_, err := out.Write(b[:len(b)-100])
					must(t, err)
					finish = func() {
						_, err := out.Write(b[len(b)-100:])
						must(t, err)
						must(t, out.Close())
					}
					break
				}
				_, err := out.Write(b)
				must(t, err)
			}
			if g != 5 || subgroup != 0 {
				must(t, out.Close())
			}
			sleep(t, 1)
		}
		if g < 5 {
			must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: alias, Group: g, ObjectID: 8, Priority: uint8(g), Payload: []byte("datagram")}).Append(nil, d)))
			sleep(t, 1)
		}
	}
	sub = w.subscribe(s, moq.SubscribeOptions{})
	must(t, early.Unsubscribe())
	sleep(t, 1)
	return s, sub, finish
}

// TestFetch fetches from the cache, in every pair of drafts: ranges, both orders, joining, and an object that has not come whole.
func TestFetch(t *testing.T) {
	group := func(g uint64, ids ...uint64) (out []string) {
		for _, id := range ids {
			subgroup := 9 * (id % 2)
			out = append(out, fmt.Sprintf("%d/%d/%d", g, subgroup, id))
		}
		return out
	}
	all := []uint64{0, 1, 2, 3, 4, 5, 6, 7}
	whole := append(slices.Clone(all), 8)
	for _, d := range allDrafts {
		t.Run(fmt.Sprintf("%v to %v", d[0], d[1]), func(t *testing.T) {
			inWorld(t, relay.Config{}, func(w *world) {
				t := w.t
				s, sub, finish := fetchWorld(w, d[0], d[1])
				if sub.Largest == nil || *sub.Largest != (moq.Location{Group: 5, Object: 7}) {
					t.Fatalf("largest object is %v", sub.Largest)
				}
				for i, c := range []struct {
					o    moq.FetchOptions
					end  moq.Location
					want []string
				}{
					{moq.FetchOptions{Start: moq.Location{Group: 3}, End: moq.Location{Group: 4}}, moq.Location{Group: 4}, slices.Concat(group(3, whole...), group(4, whole...))},
					{moq.FetchOptions{Start: moq.Location{Group: 3, Object: 5}, End: moq.Location{Group: 4, Object: 2}, Order: wire.OrderDescending}, moq.Location{Group: 4, Object: 2}, slices.Concat(group(4, 0, 1), group(3, 5, 6, 7, 8))},
					{moq.FetchOptions{Start: moq.Location{Group: 4, Object: 3}, End: moq.Location{Group: 4, Object: 4}}, moq.Location{Group: 4, Object: 4}, group(4, 3)},
					{moq.FetchOptions{Start: moq.Location{Group: 0}, End: moq.Location{Group: 99}, Order: wire.OrderDescending}, moq.Location{Group: 5, Object: 8}, slices.Concat(group(5, all...), group(4, whole...), group(3, whole...))},
					{moq.FetchOptions{Joining: sub}, moq.Location{Group: 5, Object: 8}, group(5, all...)},
					{moq.FetchOptions{Joining: sub, JoiningStart: 1}, moq.Location{Group: 5, Object: 8}, slices.Concat(group(4, whole...), group(5, all...))},
					{moq.FetchOptions{Joining: sub, JoiningStart: 5, Absolute: true}, moq.Location{Group: 5, Object: 8}, group(5, all...)},
				} {
					f, err := s.Fetch(w.context(), []string{"live"}, "video", c.o)
					must(t, err)
					if f.End != c.end {
						t.Errorf("%d: end is %v, want %v", i, f.End, c.end)
					}
					if c.o.Joining != nil && finish != nil {
						time.AfterFunc(time.Second, finish) // while it waits for object 6
						finish = nil
					}
					done := make(chan []string)
					go func() {
						done <- fetched(w.context(), f, func(o wire.FetchObject, b []byte) {
							want := string(content(o.Group, o.ID))
							if o.ID == 8 {
								want = "datagram"
							}
							if string(b) != want || o.Priority != uint8(o.Group) || (o.ID != 8) != (len(o.Extensions) > 0) {
								t.Errorf("%d: object %+v with %d bytes is not what was sent", i, o, len(b))
							}
						})
					}()
					want := c.want
					if f.End == (moq.Location{Group: 5, Object: 8}) && finish != nil {
						// Object 6 is still to come: nothing before it waits, and nothing overtakes it.
						sleep(t, 1)
						select {
						case got := <-done:
							t.Errorf("%d: ended without the object in progress: %v", i, got)
						default:
						}
						time.AfterFunc(time.Second, finish)
						finish = nil
					}
					got := <-done
					for j := range want { // datagrams have no subgroup; draft 14 says their ID instead
						if strings.HasSuffix(want[j], "/8") && d[1] == wire.Draft14 || strings.HasSuffix(want[j], "/8") && strings.HasSuffix(got[min(j, len(got)-1)], "/8/8") {
							want[j] = strings.TrimSuffix(want[j], "/0/8") + "/8/8"
						}
					}
					if !slices.Equal(got, append(want, "EOF")) {
						t.Errorf("%d:\n got %v\nwant %v", i, got, want)
					}
					must(t, f.Close())
				}
				if r := w.relay.Stats().Reasons; r["fetch_from_publisher"] != 0 || r["fetch_from_cache"] != 7 {
					t.Errorf("reasons: %v", r)
				}
			})
		})
	}
}

// TestFetchRefused asks for what there is not.
func TestFetchRefused(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		inWorld(t, relay.Config{}, func(w *world) {
			t := w.t
			s, sub, finish := fetchWorld(w, d, d)
			finish()
			for i, c := range []struct {
				namespace string
				o         moq.FetchOptions
				code      uint64
			}{
				{"nowhere", moq.FetchOptions{}, moq.FetchTrackDoesNotExist},
				{"live", moq.FetchOptions{Start: moq.Location{Group: 4, Object: 2}, End: moq.Location{Group: 4, Object: 2}}, moq.FetchInvalidRange},
				{"live", moq.FetchOptions{Start: moq.Location{Group: 5, Object: 8}, End: moq.Location{Group: 6}}, moq.FetchInvalidRange},
				{"live", moq.FetchOptions{Joining: sub, JoiningStart: 6, Absolute: true}, moq.FetchInvalidRange},
				{"live", moq.FetchOptions{Joining: &moq.Subscription{ID: 900}}, moq.FetchInvalidJoiningID},
				{"live", moq.FetchOptions{Start: moq.Location{Group: 4, Object: 9}, End: moq.Location{Group: 4}}, moq.FetchNoObjects},
			} {
				f, err := s.Fetch(w.context(), []string{c.namespace}, "video", c.o)
				if c.code == moq.FetchNoObjects && d == wire.Draft16 {
					must(t, err)
					if got := fetched(w.context(), f, nil); !slices.Equal(got, []string{"EOF"}) {
						t.Errorf("%v, %d: %v", d, i, got)
					}
					continue
				}
				var refused *moq.FetchError
				if !errors.As(err, &refused) || refused.Code != c.code {
					t.Errorf("%v, %d: %v, want code %d", d, i, err, c.code)
				}
			}
		})
	}
}

// TestFetchEvicted: what the cache has no more, by age or for lack of room, comes from the publisher, whose refusal is passed on.
func TestFetchEvicted(t *testing.T) {
	for _, cfg := range []relay.Config{{CacheAge: 5 * time.Second}, {CacheBytes: 10_000}, {CacheBytes: -1}} {
		inWorld(t, cfg, func(w *world) {
			t := w.t
			s, _, finish := fetchWorld(w, wire.Draft16, wire.Draft16)
			finish()
			sleep(t, 6)
			_, err := s.Fetch(w.context(), []string{"live"}, "video", moq.FetchOptions{Start: moq.Location{Group: 3}, End: moq.Location{Group: 4}})
			var refused *moq.FetchError
			if !errors.As(err, &refused) || refused.Code != moq.FetchNotSupported {
				t.Errorf("%+v: %v", cfg, err)
			}
			if n := w.relay.Stats().CacheBytes; cfg.CacheAge > 0 && n != 0 || cfg.CacheBytes > 0 && n > cfg.CacheBytes {
				t.Errorf("%+v: %d bytes are held", cfg, n)
			}
		})
	}
}

// TestFetchCancel ends a FETCH in the middle of an object.
func TestFetchCancel(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		s, sub, finish := fetchWorld(w, wire.Draft16, wire.Draft16)
		f, err := s.Fetch(w.context(), nil, "", moq.FetchOptions{Joining: sub})
		must(t, err)
		for range 7 { // the seventh is the one that does not end
			_, err := f.Next(w.context())
			must(t, err)
		}
		must(t, f.Close())
		sleep(t, 1)
		if n := w.relay.Stats().Reasons["fetch_reset"]; n != 1 {
			t.Errorf("%d streams were reset", n)
		}
		finish()
	})
}

// TestFetchReset: a stream that the publisher resets in the middle of an object takes the object along, and resets a FETCH that waits for it.
func TestFetchReset(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		w.subscribe(s, moq.SubscribeOptions{})
		go fetches(s)
		h := wire.SubgroupHeader{TrackAlias: (<-pub.asks).alias, Group: 1}
		out := pub.stream(h, wire.Object{ID: 0, Payload: []byte("whole")})
		_, err := out.Write(append(wire.AppendObjectHeader(nil, wire.Draft16, false, 0, nil, 1000, 0), make([]byte, 10)...))
		must(t, err)
		sleep(t, 1)
		fetch := func() *moq.Fetch {
			f, err := s.Fetch(w.context(), []string{"live"}, "video", moq.FetchOptions{End: moq.Location{Group: 1}})
			must(t, err)
			return f
		}
		waiting := fetch()
		sleep(t, 1)
		out.CancelWrite(3)
		if got := fetched(w.context(), waiting, func(wire.FetchObject, []byte) {}); got[len(got)-1] != "reset 4" {
			t.Errorf("FETCH of an object that was reset: %v", got)
		}
		if got := fetched(w.context(), fetch(), func(wire.FetchObject, []byte) {}); !slices.Equal(got, []string{"1/0/0", "EOF"}) {
			t.Errorf("FETCH afterwards: %v", got)
		}
	})
}

// TestStockFetch has stock moqtransport at both ends: a FETCH from the cache, a joining one, and one that goes to the publisher,
// which has objects from before the relay came.
func TestStockFetch(t *testing.T) {
	for _, d := range allDrafts {
		t.Run(fmt.Sprintf("%v to %v", d[0], d[1]), func(t *testing.T) {
			inWorld(t, relay.Config{}, func(w *world) { stockFetch(w, d[0], d[1]) })
		})
	}
}

func stockFetch(w *world, from, to wire.Draft) {
	t := w.t
	pub := w.stock(from, "live")
	pub.FetchHandler = moqtransport.FetchHandlerFunc(func(rw *moqtransport.FetchResponseWriter, m *moqtransport.FetchMessage) {
		must(t, rw.Accept())
		out, err := rw.FetchStream()
		must(t, err)
		_, err = out.WriteObject(m.StartLocation.Group, 2, m.StartLocation.Object, 7, []byte("from the publisher"))
		must(t, err)
		must(t, out.Close())
	})
	sub := w.stock(to)
	track, err := sub.Subscribe(w.context(), []string{"live"}, "video")
	must(t, err)
	out := <-pub.subs
	send := func(g uint64) {
		sg, err := out.OpenSubgroup(g, 0, 1)
		must(t, err)
		for id := range uint64(3) {
			_, err := sg.WriteObject(id, content(g, id))
			must(t, err)
		}
		must(t, sg.Close())
		sleep(t, 1)
	}
	send(5)
	again := w.stock(to)
	joined, err := again.Subscribe(w.context(), []string{"live"}, "video")
	must(t, err)
	send(6)
	read := func(rt *moqtransport.RemoteTrack, want ...string) {
		t.Helper()
		for _, want := range want {
			o, err := rt.ReadObject(w.context())
			must(t, err)
			if got := fmt.Sprintf("%d/%d", o.GroupID, o.ObjectID); got != want || !bytes.Equal(o.Payload, content(o.GroupID, o.ObjectID)) {
				t.Errorf("got object %s of %d bytes, want %s", got, len(o.Payload), want)
			}
		}
	}
	f, err := again.Fetch(w.context(), nil, "", moqtransport.WithJoiningFetchRelative(joined.RequestID(), 0))
	must(t, err)
	read(f, "5/0", "5/1", "5/2")
	read(joined, "6/0", "6/1", "6/2")
	read(track, "5/0", "5/1", "5/2", "6/0", "6/1", "6/2")
	f, err = sub.Fetch(w.context(), []string{"live"}, "video", moqtransport.WithFetchStartLocation(moqtransport.Location{Group: 5, Object: 1}),
		moqtransport.WithFetchEndLocation(moqtransport.Location{Group: 6, Object: 2}))
	must(t, err)
	read(f, "5/1", "5/2", "6/0", "6/1")

	// Another relay's view: the track is there already, and the relay has nothing of it.
	sleep(t, 40) // older than the cache holds
	f, err = sub.Fetch(w.context(), []string{"live"}, "video", moqtransport.WithFetchStartLocation(moqtransport.Location{Group: 5, Object: 1}),
		moqtransport.WithFetchEndLocation(moqtransport.Location{Group: 6, Object: 2}))
	must(t, err)
	o, err := f.ReadObject(w.context())
	must(t, err)
	if string(o.Payload) != "from the publisher" || o.GroupID != 5 || o.ObjectID != 1 || o.SubGroupID != 2 {
		t.Errorf("got %+v", o)
	}
	if r := w.relay.Stats().Reasons; r["fetch_from_publisher"] != 1 || r["fetch_from_cache"] != 2 {
		t.Errorf("reasons: %v", r)
	}
	must(t, context.Cause(sub.conn.Context()))
	must(t, context.Cause(pub.conn.Context()))
}
