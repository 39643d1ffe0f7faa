package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// fallback is a world whose fast path can fail.
type fallback struct {
	*world
	sim     *sim.Sim
	pub     *publisher
	wire    *hostile // the publisher's connection
	alias   uint64
	readers []*reader

	detached atomic.Bool // no packet passes the datapath
	sending  atomic.Bool // what it sends fails
	calling  atomic.Value
}

// reader is a subscriber with all that it has received.
type reader struct {
	session *moq.Session
	sub     *moq.Subscription
	got     chan rawStream
}

// detachable is a socket with a datapath that can be taken off, as programs can, and whose sends can fail.
type detachable struct {
	net.PacketConn // with the datapath
	bare           net.PacketConn
	f              *fallback
}

func (d *detachable) ReadFrom(p []byte) (int, net.Addr, error) {
	if d.f.detached.Load() {
		return d.bare.ReadFrom(p)
	}
	return d.PacketConn.ReadFrom(p)
}

// WriteTo is what userspace sends.
func (d *detachable) WriteTo(p []byte, to net.Addr) (int, error) { return d.bare.WriteTo(p, to) }

type failingSends struct {
	net.PacketConn
	f *fallback
}

func (s *failingSends) WriteTo(p []byte, to net.Addr) (int, error) {
	if s.f.sending.Load() {
		return 0, errors.New("cannot be sent")
	}
	return s.PacketConn.WriteTo(p, to)
}

func inFallback(t *testing.T, limits datapath.Limits, test func(*fallback)) {
	t.Helper()
	cert := certificate()
	synctest.Test(t, func(t *testing.T) {
		f := &fallback{world: newWorld(t)}
		bare, addr := f.host()
		f.addr = addr
		f.sim = sim.New(sim.Config{Port: uint16(addr.Port), Limits: limits})
		f.fail(nil)
		r, err := relay.New(relay.Config{
			Conn: &detachable{f.sim.Wrap(&failingSends{bare, f}), bare, f}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
			Datapath: datapathtest.Faulty(f.sim, func(method string, _ int) error { return f.calling.Load().(func(string) error)(method) }),
		})
		must(t, err)
		f.relay = r
		done := make(chan error, 1)
		go func() { done <- r.Serve(context.Background()) }()
		defer func() {
			if err := errors.Join(r.Close(), f.sim.Close(), bare.Close()); err != nil {
				t.Error(err)
			}
			<-done
			time.Sleep(time.Minute)
		}()
		test(f)
	})
}

// fail says which calls of the datapath fail from now on, nil: none.
func (f *fallback) fail(calls func(method string) error) {
	if calls == nil {
		calls = func(string) error { return nil }
	}
	f.calling.Store(calls)
}

// start makes the publisher and n subscribers.
func (f *fallback) start(n int, d wire.Draft, qc *quic.Config) {
	f.wire = f.hostile(wire.Draft16, nil)
	f.pub = f.publisherOn(f.wire.conn, "live")
	for range n {
		f.join(d, qc)
	}
	f.alias = (<-f.pub.asks).alias
	sleep(f.t, 1)
}

func (f *fallback) join(d wire.Draft, qc *quic.Config) {
	f.joinWith(d, qc, moq.SubscribeOptions{Filter: moq.FilterNextGroup})
}

// joinWith adds a reader. It takes what FETCH brings to where that is read.
func (f *fallback) joinWith(d wire.Draft, qc *quic.Config, o moq.SubscribeOptions) {
	s, _ := f.session(d, qc)
	r := &reader{session: s, got: make(chan rawStream, 100)}
	f.readers = append(f.readers, r)
	go func() {
		for {
			rs, err := s.AcceptDataStream(s.Context())
			if err != nil {
				return
			}
			go func() {
				var x rawStream
				b := make([]byte, 1<<16)
				for x.err == nil {
					var n int
					n, x.err = rs.Read(b)
					x.data = append(x.data, b[:n]...)
					if x.data != nil && x.data[0] == wire.StreamFetch && s.DeliverFetch(rs, x.data) == nil {
						return
					}
				}
				if s.Context().Err() == nil {
					r.got <- x
				}
			}()
		}
	}()
	r.sub = f.subscribe(s, o)
	sleep(f.t, 1)
}

// received returns the objects that a subscriber got in the groups from one on.
func (f *fallback) received(r *reader, from uint64) (objects []string) {
	for len(r.got) > 0 {
		x := <-r.got
		if len(x.data) == 0 && x.err != io.EOF {
			continue // one that was reserved for the datapath, and is not any more
		}
		h, err := wire.ParseSubgroupHeader(x.data, r.session.Draft())
		if err != nil {
			f.t.Errorf("stream of %d bytes: %v, %v", len(x.data), err, x.err)
			continue
		}
		x.header, x.err = h, nil
		for _, o := range x.objects(f.t, r.session.Draft()) {
			if want := string(patterned(o.group, o.id)); o.payload != want {
				f.t.Errorf("object %d/%d has %d bytes, or others, want %d", o.group, o.id, len(o.payload), len(want))
			}
			if o.group >= from {
				objects = append(objects, fmt.Sprintf("%d/%d", o.group, o.id))
			}
		}
	}
	slices.SortFunc(objects, compareLocations)
	return objects
}

func patterned(group, id uint64) []byte {
	b := make([]byte, 4000)
	for i := range b {
		b[i] = byte(group*31 + id*7 + uint64(i))
	}
	return b
}

// group opens the stream of a group.
func (f *fallback) group(g uint64) (object func(id uint64), end func()) {
	h := wire.SubgroupHeader{TrackAlias: f.alias, Group: g}
	out := f.pub.stream(h)
	return func(id uint64) {
		f.pub.objects(out, h, id, wire.Object{ID: id, Payload: patterned(g, id)})
		sleep(f.t, 1)
	}, func() { must(f.t, out.Close()) }
}

func (f *fallback) fast() (n uint64) {
	for _, s := range subscribers(f.relay) {
		n += s.FastStreams
	}
	return n
}

// TestFallingBack fails the fast path in each of the ways that it can, in the middle of a stream that the datapath forwards: userspace goes on with
// the stream, everything arrives once, the reason is counted, and when the failure is over the datapath has the next stream again, also
// for a subscriber that has come meanwhile.
func TestFallingBack(t *testing.T) {
	small := &quic.Config{MaxIncomingUniStreams: 3}
	for _, c := range []struct {
		name        string
		limits      datapath.Limits
		qc          *quic.Config
		draft       wire.Draft // of the subscribers; default 16
		subscribers int        // default 1
		fail        func(*fallback)
		reason      string
		never       bool // there is no fast path from the start
		first       bool // it fails from the start
		notMidway   bool // the stream in progress stays with the datapath
		always      bool // the failure does not end
		leaves      bool // the first subscriber leaves before
		comes       bool // a subscriber comes while it lasts
	}{
		{name: "program detached", fail: func(f *fallback) { f.detached.Store(true) }, reason: "not_taken", comes: true},
		{name: "redirect fails", fail: func(f *fallback) { f.sending.Store(true) }, reason: "send_failed", comes: true},
		{name: "calls fail", fail: func(f *fallback) {
			f.fail(func(method string) error {
				if method == "Drain" {
					return nil
				}
				return errors.New("it fails")
			})
		}, reason: "client_not_bound", notMidway: true, comes: true},
		{name: "subscriptions are full", fail: refuse("SetSubscription", datapath.ErrFull), reason: "subscription_not_bound", notMidway: true, comes: true},
		{name: "publishers are full", first: true, fail: refuse("SetUpstream", datapath.ErrFull), reason: "upstream_not_bound", notMidway: true, comes: true},
		{name: "tracks are full", first: true, fail: refuse("SetTrack", datapath.ErrFull), reason: "track_not_bound", notMidway: true, comes: true},
		{name: "stream table is full", limits: datapath.Limits{Streams: 1}, reason: "streams_full", notMidway: true},
		{name: "client streams are full", limits: datapath.Limits{ClientStreams: 1}, reason: "client_streams", notMidway: true},
		// There is room for one record, which the packets take for the subscriber that comes, at the place before the other's.
		{name: "ring is full", limits: datapath.Limits{RingBytes: 400}, subscribers: 2, leaves: true, fail: func(f *fallback) { f.join(wire.Draft16, nil) },
			reason: "ring_full", always: true},
		{name: "ID pool is empty", qc: small, reason: "pool_empty", notMidway: true},
		{name: "more frames than are walked", fail: func(f *fallback) { f.wire.with(func() { f.wire.pad = 70 }) }, reason: "too_many_frames", comes: true},
		{name: "drafts differ", draft: wire.Draft14, reason: "draft_mismatch", never: true},
		{name: "cipher of the publisher", fail: refuse("SetUpstream", datapath.ErrCipher), reason: "upstream_not_bound", never: true},
		{name: "cipher of the subscriber", fail: refuse("SetClient", datapath.ErrCipher), reason: "client_not_bound", never: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFallback(t, c.limits, func(f *fallback) {
				t := f.t
				if (c.never || c.first) && c.fail != nil {
					c.fail(f)
				}
				if c.draft == 0 {
					c.draft = wire.Draft16
				}
				f.start(max(1, c.subscribers), c.draft, c.qc)
				if c.leaves {
					must(t, f.readers[0].session.Close(0, ""))
					f.readers = f.readers[1:]
					sleep(t, 2)
				}
				one, endOne := f.group(1)
				one(0)
				if before := f.fast(); !c.never && !c.first && before == 0 {
					t.Fatal("the fast path does not work before it fails")
				}
				b := f.relay.Stats().Boundary
				repaired := b.RepairBytes + b.ResentBytes
				if c.fail != nil && !c.never {
					c.fail(f)
				}
				one(1)
				two, endTwo := f.group(2)
				two(0)
				one(2)
				if c.comes {
					f.join(c.draft, c.qc)
				}
				three, endThree := f.group(3)
				three(0)
				if n := f.relay.Stats().Reasons[c.reason]; n == 0 {
					t.Errorf("%s is not counted: %v", c.reason, f.relay.Stats().Reasons)
				}
				b = f.relay.Stats().Boundary
				if n := b.RepairBytes + b.ResentBytes - repaired; (n >= 4000) == (c.notMidway || c.never) {
					t.Errorf("userspace has sent %d bytes of fast streams", n)
				}
				if !c.never {
					f.detached.Store(false)
					f.sending.Store(false)
					f.fail(nil)
					f.wire.with(func() { f.wire.pad = 0 })
				}
				one(3)
				endOne()
				endTwo()
				endThree()
				sleep(t, 2)
				before := f.fast()
				four, endFour := f.group(4)
				four(0)
				endFour()
				sleep(t, 2)
				if n := f.fast() - before; !c.always && n != uint64(len(f.readers)) && !c.never || c.never && f.fast() > 0 {
					t.Errorf("of the stream after it %d are fast, of %d: %+v; %v", n, len(f.readers), subscribers(f.relay), f.relay.Stats().Reasons)
				}
				for i, r := range f.readers {
					want := []string{"1/0", "1/1", "1/2", "1/3", "2/0", "3/0", "4/0"}
					switch {
					case c.comes && i > 0:
						want = want[5:]
					case c.leaves && i > 0:
						want = want[4:]
					}
					if got := f.received(r, 1); !slices.Equal(got, want) {
						t.Errorf("subscriber %d got %v, want %v", i, got, want)
					}
				}
			})
		})
	}
}

// refuse has a call of the datapath fail with an error.
func refuse(call string, err error) func(*fallback) {
	return func(f *fallback) {
		f.fail(func(method string) error {
			if method == call {
				return err
			}
			return nil
		})
	}
}

// TestUnsubscribeFails: a subscription that the datapath does not let go of when its subscriber leaves is taken out later. What another subscription of
// the same session has instead stays.
func TestUnsubscribeFails(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("subscribes again %v", again), func(t *testing.T) {
			inFallback(t, datapath.Limits{}, func(f *fallback) {
				t := f.t
				f.start(2, wire.Draft16, nil)
				r := f.readers[0]
				f.fail(func(method string) error {
					if method == "SetSubscription" {
						return errors.New("it fails")
					}
					return nil
				})
				must(t, r.sub.Unsubscribe())
				time.Sleep(100 * time.Millisecond)
				f.fail(nil)
				want := []string(nil)
				if again {
					f.subscribe(r.session, moq.SubscribeOptions{Filter: moq.FilterNextGroup})
					want = []string{"1/0"}
				}
				sleep(t, 2)
				before := f.relay.Stats().Reasons["forwarded"]
				one, endOne := f.group(1)
				one(0)
				endOne()
				sleep(t, 10)
				if got := f.received(r, 0); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if n := f.relay.Stats().Reasons["forwarded"] - before; (n < 8) == again { // a stream of four packets
					t.Errorf("%d frames were forwarded", n)
				}
			})
		})
	}
}

// TestPauseFails: a pause that the datapath is not told of holds all the same: what it opens is reset. It is told again.
func TestPauseFails(t *testing.T) {
	inFallback(t, datapath.Limits{}, func(f *fallback) {
		t := f.t
		f.start(1, wire.Draft16, nil)
		track, err := f.stock(wire.Draft16).Subscribe(f.context(), []string{"live"}, "video")
		must(t, err)
		take := objectsOf(f.context(), track)
		sleep(t, 1)
		f.fail(func(method string) error {
			if method == "SetSubscription" {
				return errors.New("it fails")
			}
			return nil
		})
		must(t, track.UpdateSubscription(f.context(), moqtransport.WithUpdateForward(false)))
		time.Sleep(100 * time.Millisecond)
		opened := func() uint64 { return subscribers(f.relay)[1].FastStreams }
		for g := uint64(1); g < 4; g++ {
			if g == 3 {
				f.fail(nil)
				sleep(t, 2)
			}
			object, end := f.group(g)
			object(0)
			end()
			sleep(t, 1)
			if n := opened(); n != min(g, 2) {
				t.Errorf("group %d: the datapath has opened %d streams", g, n)
			}
			if got := take(); len(got) > 0 {
				t.Errorf("group %d: got %v", g, got)
			}
		}
		if st := subscribers(f.relay)[1]; st.Bytes > 0 || st.Lost > 0 {
			t.Errorf("something was sent, or is missing: %+v", st)
		}
	})
}
