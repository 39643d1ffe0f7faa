package props_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// systemDefect is a fault between the relay and its datapath.
type systemDefect struct {
	record    func(r *datapath.Record) bool  // on the way to userspace; false: lost
	subscribe func(s *datapath.Subscription) // what the datapath is told
	forgets   bool                           // the datapath is not told of who leaves
	stays     bool                           // what fails goes on failing

}

func init() {
	defects = append(defects,
		defect{name: "records tell of more than was sent, and a hole stays", lesson: 10, property: "P2", system: systemDefect{record: func(r *datapath.Record) bool {
			for i := range r.Frames {
				r.Frames[i].Length += 400
			}
			return true
		}}},
		defect{name: "a FIN is taken for sent, and not repeated", lesson: 12, property: "P2", system: systemDefect{record: func(r *datapath.Record) bool {
			for i := range r.Frames {
				r.Frames[i].Fin = true
			}
			return true
		}}},
		defect{name: "another alias is written than the subscriber was told", property: "P2", system: systemDefect{subscribe: func(s *datapath.Subscription) { s.Alias += 7 }}},
		defect{name: "the datapath forwards the group in progress", property: "P10", system: systemDefect{subscribe: func(s *datapath.Subscription) { s.FirstGroup = 0 }}},
		defect{name: "streams go on after their subscriber has left", lesson: 14, property: "P10", system: systemDefect{forgets: true}},
		defect{name: "records of opened streams are lost", lesson: 4, property: "P12", system: systemDefect{record: func(r *datapath.Record) bool {
			for _, f := range r.Frames {
				if f.Opened && f.UpstreamStream%16 < 8 {
					return false
				}
			}
			return true
		}}},
		defect{name: "the fast path stays off when it could be on again", property: "P12", system: systemDefect{stays: true}},
	)
}

// between is a datapath with a defect.
type between struct {
	datapath.Datapath
	d *systemDefect
}

func (b *between) Drain(f func(*datapath.Record)) error {
	return b.Datapath.Drain(func(r *datapath.Record) {
		if b.d.record == nil || b.d.record(r) {
			f(r)
		}
	})
}

func (b *between) SetSubscription(t datapath.TrackID, c datapath.ClientID, s *datapath.Subscription) error {
	if s == nil && b.d.forgets {
		return nil
	}
	if s != nil && b.d.subscribe != nil {
		set := *s
		b.d.subscribe(&set)
		s = &set
	}
	return b.Datapath.SetSubscription(t, c, s)
}

// failure is a way in which the fast path fails, between two moments of a session.
type failure int

const (
	failNothing  failure = iota
	failDetached         // no packet passes the datapath
	failCalls            // every call fails
	failSome             // every third call fails
	failSends            // the datapath's packets do not go out
	failTables           // no room: streams, client streams, records
	failPool             // the subscriber allows three streams
	failRecords          // the records cannot be read, and the fast path ends
	failures
)

// plan is what happens in a run of the whole relay.
type plan struct {
	seed             uint64
	draft            wire.Draft
	groups, frames   int
	long             bool // a stream for each group, to which its frames are written one by one; else one for each frame
	sizes            []int
	joins            []time.Duration // of the subscribers; the first is there from the start
	leaves           bool            // the second one leaves in the middle
	filter           moq.Filter      // of the second subscriber; default: the next group
	from             moq.Location    // where an absolute filter starts
	to               uint64          // last group of an absolute range
	fails            failure
	failFrom, failTo int // frames
	loss, dup, late  float64
	limits           datapath.Limits
}

func drawPlan(t *rapid.T) plan {
	p := plan{
		seed: rapid.Uint64().Draw(t, "seed of the network"), draft: rapid.SampledFrom([]wire.Draft{wire.Draft14, wire.Draft16}).Draw(t, "draft"),
		groups: rapid.IntRange(3, 4).Draw(t, "groups"), frames: rapid.IntRange(3, 6).Draw(t, "frames"),
		sizes: rapid.SliceOfN(rapid.IntRange(1, 5000), 1, 8).Draw(t, "sizes"),
		loss:  rapid.Float64Range(0, 0.06).Draw(t, "loss"), dup: rapid.Float64Range(0, 0.02).Draw(t, "duplicates"), late: rapid.Float64Range(0, 0.05).Draw(t, "late"),
	}
	p.joins = []time.Duration{0}
	if rapid.Bool().Draw(t, "second subscriber") {
		p.joins = append(p.joins, time.Duration(rapid.IntRange(300, 600).Draw(t, "joins after")*int(time.Millisecond)))
		p.leaves = rapid.Bool().Draw(t, "leaves")
	}
	return p
}

var relayCertificate = sync.OnceValue(func() tls.Certificate {
	c, err := endpoint.SelfSigned(time.Now())
	check(err)
	return c
})

// system is a relay, a publisher and subscribers with stock quic-go and real packet protection, in virtual time.
type system struct {
	plan
	ctx   context.Context
	net   *router
	relay *relay.Relay
	addr  *net.UDPAddr
	hosts byte
	close []func()

	mu      sync.Mutex
	wrong   []error
	streams map[[2]uint64][]byte // as published, by group and first frame
	out     *quic.SendStream     // of the group, with long
}

// perGroup returns how many streams a group has.
func (s *system) perGroup() int {
	if s.long {
		return 1
	}
	return s.frames
}

func (s *system) violate(name, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Errorf("%s: "+format, append([]any{name}, args...)...))
}

func (s *system) host() net.PacketConn {
	s.hosts++
	addr := &net.UDPAddr{IP: net.IPv4(1, 0, 0, s.hosts), Port: 4443}
	link := &simnet.SimulatedLink{Latency: 5 * time.Millisecond, UploadPacket: s.net}
	pc := simnet.NewBlockingSimConn(addr, link)
	s.net.AddNode(addr, link)
	link.Start()
	s.close = append(s.close, func() { _ = link.Close() })
	if s.addr == nil {
		s.addr = addr
	}
	return pc
}

func (s *system) session(h moq.Handlers, streams int64) (*moq.Session, error) {
	s.mu.Lock()
	pc := s.host()
	s.mu.Unlock()
	tr := &quic.Transport{Conn: pc}
	c, err := tr.Dial(s.ctx, s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{s.draft.ALPN()}},
		&quic.Config{EnableDatagrams: true, MaxIncomingUniStreams: streams})
	s.mu.Lock()
	s.close = append(s.close, func() { _ = tr.Close(); _ = pc.Close() })
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return moq.Connect(s.ctx, c, h)
}

// runSystem runs a plan, and returns what is wrong with what the subscribers got.
func runSystem(t *rapid.T, p plan, d *defect) *system {
	s := &system{plan: p, streams: make(map[[2]uint64][]byte)}
	rapid.SyncTest(t, func(t *rapid.T) {
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		s.net = &router{rnd: mrand.New(mrand.NewPCG(p.seed, 1)), loss: p.loss, dup: p.dup, late: p.late}
		bare := s.host()
		dp := sim.New(sim.Config{Port: uint16(s.addr.Port), Limits: p.limits})
		out := &flaky{PacketConn: bare}
		socket := &detachable{PacketConn: dp.Wrap(out), bare: bare}
		var failing atomic.Bool
		faulty := datapathtest.Faulty(dp, func(method string, call int) error {
			if !failing.Load() || (method == "Drain") != (p.fails == failRecords) || p.fails == failSome && call%3 > 0 {
				return nil
			}
			if p.fails != failCalls && p.fails != failSome && p.fails != failRecords {
				return nil
			}
			return errors.New("it fails")
		})
		r, err := relay.New(relay.Config{Conn: socket, TLS: &tls.Config{Certificates: []tls.Certificate{relayCertificate()}},
			Datapath: &between{faulty, &d.system}})
		check(err)
		s.relay = r
		done := make(chan error, 1)
		go func() { done <- r.Serve(context.Background()) }()
		fail := func(on bool) {
			on = on || d.system.stays
			socket.off.Store(on && p.fails == failDetached)
			out.on.Store(on && p.fails == failSends)
			failing.Store(on)
		}
		s.publish(fail)
		failing.Store(false)
		_ = r.Close()
		_ = dp.Close()
		<-done
		for i := len(s.close) - 1; i >= 0; i-- {
			if i == 0 {
				_ = bare.Close()
				time.Sleep(time.Minute) // timers run out
			}
			s.close[i]()
		}
	})
	return s
}

// publish runs publisher and subscribers.
func (s *system) publish(fail func(bool)) {
	type accepted struct {
		*moq.Request
		alias uint64
	}
	start := make(chan accepted, 8)
	var asked atomic.Bool
	pub, err := s.session(moq.Handlers{Subscribe: func(r *moq.Request) {
		if asked.Swap(true) {
			_ = r.Reject(4, "the track is over")
		} else if alias, err := r.Accept(nil); err == nil {
			start <- accepted{r, alias}
		}
	}}, 100)
	if err == nil {
		err = pub.Announce(s.ctx, []string{"live"})
	}
	if err != nil {
		s.violate("P12", "publisher: %v", err)
		return
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	for i, after := range s.joins {
		wg.Go(func() {
			time.Sleep(after)
			s.subscribe(i, over)
		})
	}
	req := <-start
	time.Sleep(250 * time.Millisecond)
	s.net.mu.Lock()
	s.net.on = true
	s.net.mu.Unlock()
	n, before := 0, uint64(0)
	for g := range uint64(s.groups) {
		for f := range uint64(s.frames) {
			if n == s.failFrom {
				fail(true)
			}
			if n == s.failTo {
				fail(false)
				before, _ = s.paths()
			}
			s.write(pub, req.alias, g, f, n)
			n++
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if after, slow := s.paths(); s.fails != failNothing && s.fails < failSends && after == before && s.failTo < n-max(4, 2*s.frames/s.perGroup()) {
		s.violate("P12", "the fast path works again, and takes no stream: %d fast, %d slow", after, slow)
	}
	_ = req.Done(moq.DoneTrackEnded, uint64(s.groups*s.perGroup()), "end")
	time.Sleep(20 * time.Second) // repairs
	close(over)
	wg.Wait()
	_ = pub.Close(0, "")
}

// paths counts the streams to the subscribers that are there.
func (s *system) paths() (fast, slow uint64) {
	for _, tr := range s.relay.Stats().Tracks {
		for _, x := range tr.Subscribers {
			fast, slow = fast+x.FastStreams, slow+x.SlowStreams
		}
	}
	return fast, slow
}

func (s *system) write(pub *moq.Session, alias, g, f uint64, n int) {
	first, before := f, f // of the stream, and the object before this one plus 1
	if s.long {
		first = 0
	} else {
		before = 0
	}
	h := wire.SubgroupHeader{TrackAlias: alias, Group: g, Subgroup: first, SubgroupMode: wire.SubgroupExplicit, Priority: 64}
	payload := make([]byte, s.sizes[n%len(s.sizes)])
	rnd := mrand.New(mrand.NewPCG(g<<32|f, s.seed))
	for i := range payload {
		payload[i] = byte(rnd.Uint32())
	}
	var b []byte
	var err error
	if f == first {
		b = h.Append(nil, s.draft)
		s.out, err = pub.OpenDataStream(s.ctx)
	}
	b = append(wire.AppendObjectHeader(b, s.draft, false, f-before, nil, uint64(len(payload)), 0), payload...)
	s.mu.Lock()
	s.streams[[2]uint64{g, first}] = append(s.streams[[2]uint64{g, first}], b...)
	s.mu.Unlock()
	if err == nil {
		_, err = s.out.Write(b)
	}
	if err == nil && (!s.long || f == uint64(s.frames-1)) {
		err = s.out.Close()
	}
	if err != nil {
		s.violate("P12", "publisher's stream: %v", err)
	}
}

func (s *system) verdict(name string, d *defect) error {
	for _, err := range s.wrong {
		if d.name == "" || bytes.HasPrefix([]byte(err.Error()), []byte(name+":")) {
			return err
		}
	}
	return nil
}

// TestP2: a subscriber's stream is the publisher's after prefix rewrite, byte for byte, FIN included, over a network that loses,
// repeats and reorders; quicadapt repairs what the datapath could not send.
func TestP2(t *testing.T) {
	holds(t, "P2", 50, func(t *rapid.T, d *defect) error {
		p := drawPlan(t)
		p.leaves, p.failFrom, p.failTo = false, -1, -1
		return runSystem(t, p, d).verdict("P2", d)
	})
}

// TestP10: a subscription gets exactly what its filter selects, from its start on, also in mid-group, and nothing once it has left.
func TestP10(t *testing.T) {
	holds(t, "P10", 40, func(t *rapid.T, d *defect) error {
		p := drawPlan(t)
		p.failFrom, p.failTo = -1, -1
		if len(p.joins) == 1 {
			p.joins = append(p.joins, 400*time.Millisecond)
		}
		p.filter = rapid.SampledFrom([]moq.Filter{0, moq.FilterLargestObject, moq.FilterAbsoluteStart, moq.FilterAbsoluteRange}).Draw(t, "filter")
		p.groups = 5
		p.to = uint64(rapid.IntRange(2, 4).Draw(t, "last group"))
		p.from.Group = uint64(rapid.IntRange(1, int(p.to)).Draw(t, "first group"))
		p.from.Object = uint64(rapid.IntRange(0, p.frames-1).Draw(t, "first object"))
		if p.leaves {
			p.groups, p.frames, p.to = 6, 10, 5
		}
		return runSystem(t, p, d).verdict("P10", d)
	})
}

// TestP12: with the fast path failing at any point, in the middle of streams too, every object arrives once, and it is used again when it
// works again. Where its records cannot be read what it has sent unseen is sent again, by another stream.
func TestP12(t *testing.T) {
	holds(t, "P12", 100, func(t *rapid.T, d *defect) error {
		p := drawPlan(t)
		p.groups, p.long = 4, rapid.Bool().Draw(t, "long streams")
		p.fails = failure(rapid.IntRange(1, int(failures)-1).Draw(t, "failure"))
		p.failFrom = rapid.IntRange(0, 4).Draw(t, "fails from")
		p.failTo = p.failFrom + rapid.IntRange(1, 4).Draw(t, "for")
		if p.fails == failTables {
			p.limits = datapath.Limits{Streams: 3, ClientStreams: 2, RingBytes: 4096}
		}
		return runSystem(t, p, d).verdict("P12", d)
	})
}
