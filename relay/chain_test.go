package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// hop is a relay of a chain, and what belongs to it.
type hop struct {
	relay *relay.Relay
	sim   *sim.Sim // nil: no datapath
	pc    net.PacketConn
	addr  *net.UDPAddr
	done  chan error
}

// start makes a relay on a socket and serves it. fast gives it a simulated datapath.
func (h *hop) start(t *testing.T, cfg relay.Config, upstream *net.UDPAddr, fast bool) {
	t.Helper()
	cfg.Conn, cfg.TLS = h.pc, &tls.Config{Certificates: []tls.Certificate{certificate()}}
	if upstream != nil {
		cfg.Upstream = &relay.Upstream{Addr: upstream.String(), TLS: &tls.Config{InsecureSkipVerify: true}}
	}
	if fast {
		h.sim = sim.New(sim.Config{Port: uint16(h.addr.Port)})
		cfg.Conn, cfg.Datapath = h.sim.Wrap(h.pc), h.sim
	}
	r, err := relay.New(cfg)
	must(t, err)
	h.relay, h.done = r, make(chan error, 1)
	go func() { h.done <- r.Serve(context.Background()) }()
}

func (h *hop) stop(t *testing.T) {
	t.Helper()
	if h.relay == nil {
		return
	}
	if err := h.relay.Close(); err != nil {
		t.Error(err)
	}
	if h.sim != nil {
		if err := h.sim.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-h.done; !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
	h.relay = nil
}

// inChain runs a test with n sockets for relays, which the test starts. Whatever it leaves is stopped.
func inChain(t *testing.T, n int, test func(w *world, hops []*hop)) {
	t.Helper()
	certificate()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net = netsim.New(1, &w.trace)
		hops := make([]*hop, n)
		for i := range hops {
			hops[i] = &hop{}
			hops[i].pc, hops[i].addr = w.host()
		}
		defer func() {
			for _, h := range hops {
				h.stop(t)
				_ = h.pc.Close()
			}
			time.Sleep(time.Minute)
		}()
		test(w, hops)
	})
}

// at makes the hosts to come dial this relay.
func (w *world) at(h *hop) { w.addr = h.addr }

// TestRelaysInARow sends objects and datagrams from a stock publisher through two and three relays, each with a simulated
// datapath and real packet protection, over links that lose packets. Every object arrives with its priority, and the
// datapath of every relay forwards nearly all streams.
func TestRelaysInARow(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		for _, n := range []int{2, 3} {
			for _, fast := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v, %d relays, datapath %v", d, n, fast), func(t *testing.T) {
					inChain(t, n, func(w *world, hops []*hop) { relaysInARow(w, hops, d, fast, relay.Config{}, 0.02) })
				})
			}
		}
	}
}

func relaysInARow(w *world, hops []*hop, d wire.Draft, fast bool, cfg relay.Config, loss float64) {
	t := w.t
	for i, h := range hops {
		var up *net.UDPAddr
		if i > 0 {
			up = hops[i-1].addr
		}
		cfg.Drafts = []int{int(d)} // also between the relays: across drafts nothing is fast
		h.start(t, cfg, up, fast)
	}
	w.at(hops[0])
	pub := w.publisher(d, "live")
	w.at(hops[len(hops)-1])
	const groups, frames = 8, 5
	priority := func(g, f uint64) uint8 { return uint8(g*31 + f*7) }
	payload := func(g, f uint64) []byte {
		return bytes.Repeat([]byte(fmt.Sprintf("%d/%d ", g, f)), int(50+(g*frames+f)*37%900))
	}
	const subscribers = 2
	var wg sync.WaitGroup
	subscribed := make(chan struct{}, subscribers)
	for i := range subscribers {
		wg.Go(func() {
			s, conn := w.session(d, &quic.Config{MaxIncomingUniStreams: 200})
			sub, err := s.Subscribe(w.context(), []string{"live"}, "video", moq.SubscribeOptions{})
			if err != nil {
				t.Errorf("subscriber %d: %v", i, err)
				return
			}
			subscribed <- struct{}{}
			var datagrams atomic.Int32
			go func() {
				for {
					b, err := conn.ReceiveDatagram(t.Context())
					if err != nil {
						return
					}
					o, err := wire.ParseObjectDatagram(b, d)
					if err != nil || o.Priority != priority(o.Group, 99) || string(o.Payload) != "datagram" || o.TrackAlias != sub.Alias {
						t.Errorf("subscriber %d: datagram %+v, %v", i, o, err)
					}
					datagrams.Add(1)
				}
			}()
			// Streams are read side by side: one that is reserved and not used yet counts as open when a later one is used.
			var mu sync.Mutex
			got, whole := make(map[[2]uint64]bool), make(chan struct{})
			go func() {
				for {
					rs, err := s.AcceptDataStream(t.Context())
					if err != nil {
						return
					}
					go func() {
						b, err := io.ReadAll(rs)
						if len(b) == 0 && err != nil {
							return // not used up to the end of the connection
						}
						h, herr := wire.ParseSubgroupHeader(b, d)
						if err != nil || herr != nil {
							t.Errorf("subscriber %d: %v, %v", i, err, herr)
							return
						}
						r := rawStream{header: h, data: b}
						mu.Lock()
						defer mu.Unlock()
						for _, o := range r.objects(t, d) {
							k := [2]uint64{o.group, o.id}
							if got[k] || o.priority != priority(o.group, o.id) || !bytes.Equal([]byte(o.payload), payload(o.group, o.id)) {
								t.Errorf("subscriber %d: object %v of priority %d, again %v, is not what was sent", i, k, o.priority, got[k])
							}
							if got[k] = true; len(got) == groups*frames {
								close(whole)
							}
						}
					}()
				}
			}()
			select {
			case <-whole:
			case <-w.context().Done():
				mu.Lock()
				t.Errorf("subscriber %d got %d objects of %d", i, len(got), groups*frames)
				mu.Unlock()
			}
			select {
			case <-sub.Done():
				if code, _, reason := sub.Result(); code != moq.DoneTrackEnded || reason != "end" {
					t.Errorf("subscriber %d: track ended with %d %q", i, code, reason)
				}
			case <-w.context().Done():
				t.Errorf("subscriber %d: the track does not end", i)
			}
			if n := datagrams.Load(); n < groups/2 {
				t.Errorf("subscriber %d got %d datagrams of %d", i, n, groups)
			}
			must(t, s.Close(0, ""))
		})
	}
	for range subscribers {
		<-subscribed
	}
	a := <-pub.asks
	time.Sleep(300 * time.Millisecond) // the subscriptions are bound at every hop
	w.lose(loss)
	for g := range uint64(groups) {
		for f := range uint64(frames) {
			h := wire.SubgroupHeader{TrackAlias: a.alias, Group: g, Subgroup: f, SubgroupMode: wire.SubgroupExplicit, Priority: priority(g, f)}
			s, err := pub.OpenDataStream(w.context())
			must(t, err)
			b := wire.AppendObjectHeader(h.Append(nil, d), d, false, f, nil, uint64(len(payload(g, f))), 0)
			_, err = s.Write(append(b, payload(g, f)...))
			must(t, err)
			must(t, s.Close())
			time.Sleep(20 * time.Millisecond)
		}
		o := wire.ObjectDatagram{TrackAlias: a.alias, Group: g, ObjectID: 99, Priority: priority(g, 99), Payload: []byte("datagram")}
		must(t, pub.SendDatagram(o.Append(nil, d)))
		time.Sleep(20 * time.Millisecond) // a packet of its own
	}
	time.Sleep(5 * time.Second) // repairs
	for i, h := range hops {
		s := h.relay.Stats()
		if len(s.Tracks) != 1 {
			t.Fatalf("relay %d: %+v", i, s)
		}
		// Packets of the publisher's largest size fit towards the next relay too, once what its path takes has been asked for.
		if n := s.Reasons["too_big"]; n > groups*frames/10 {
			t.Errorf("relay %d: %d frames were too big", i, n)
		}
		want := 1 // the next relay
		if i == len(hops)-1 {
			want = subscribers
		}
		if n := len(s.Tracks[0].Subscribers); n != want {
			t.Errorf("relay %d has %d subscribers, want %d", i, n, want)
		}
		for _, sub := range s.Tracks[0].Subscribers {
			t.Logf("relay %d: fast %d, slow %d, datagrams %d, of these forwarded %d; %v", i, sub.FastStreams, sub.SlowStreams, sub.Datagrams, sub.ForwardedDatagrams, s.Reasons)
			if least := uint64(groups * frames * 85 / 100); fast && (sub.FastStreams < least || sub.ForwardedDatagrams < groups/2) {
				t.Errorf("relay %d: fast %d streams of %d, %d datagrams; reasons %v", i, sub.FastStreams, groups*frames, sub.ForwardedDatagrams, s.Reasons)
			}
		}
	}
	must(t, a.req.Done(moq.DoneTrackEnded, groups*frames, "end"))
	wg.Wait()
	if len(pub.asks) > 0 {
		t.Error("publisher was asked twice")
	}
}

// TestPriorityPassesRelays: the publisher is stock, the relays tell each other priorities in connection IDs, and the
// subscribers are stock again. What the first relay tells the second in userspace and by its datapath is what the publisher
// said, and the second serves the subscribers as without.
func TestPriorityPassesRelays(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		for _, fast := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, datapath %v", d, fast), func(t *testing.T) {
				inChain(t, 2, func(w *world, hops []*hop) {
					told, others := make(map[byte]int), 0
					relaysInARow(w, hops, d, fast, relay.Config{PriorityCID: true}, 0.02)
					for _, p := range w.trace.Events() {
						if len(p.Data) <= datapath.CIDLen || p.Data[0]&0x80 != 0 {
							continue
						}
						switch last := p.Data[datapath.CIDLen]; {
						case p.From == hops[0].addr.AddrPort() && p.To == hops[1].addr.AddrPort():
							told[last]++
						case p.To == hops[0].addr.AddrPort() && last != 0:
							others++ // nothing of importance is said upwards
						}
					}
					missing := 0
					for g := range uint64(8) {
						for f := range uint64(5) {
							if p := uint8(g*31 + f*7); told[p] == 0 {
								t.Errorf("no packet tells priority %d", p)
							}
						}
						if p := uint8(g*31 + 99*7&0xff); told[p] == 0 {
							missing++ // a datagram that is lost stays so
						}
					}
					if missing > 4 {
						t.Errorf("no packet tells the priority of %d datagrams", missing)
					}
					if len(told) > 49 || others > 0 {
						t.Errorf("%d priorities are told, of 48 and none; %d packets upwards: %v", len(told), others, told)
					}
				})
			})
		}
	}
}

// refusal returns why a subscription is refused, and after how long.
func (w *world) refusal(s *moq.Session, namespace string) (*moq.SubscribeError, time.Duration) {
	w.t.Helper()
	began := time.Now()
	_, err := s.Subscribe(w.context(), []string{namespace}, "video", moq.SubscribeOptions{})
	var refused *moq.SubscribeError
	if !errors.As(err, &refused) {
		w.t.Fatalf("subscription ended with %v", err)
	}
	return refused, time.Since(began)
}

// TestUpstreamErrors: what the upstream relay refuses is refused with its words, and what ends there ends here.
func TestUpstreamErrors(t *testing.T) {
	inChain(t, 2, func(w *world, hops []*hop) {
		t := w.t
		hops[0].start(t, relay.Config{}, nil, false)
		hops[1].start(t, relay.Config{}, hops[0].addr, false)
		w.at(hops[1])
		s, _ := w.session(wire.Draft16, nil)
		if why, _ := w.refusal(s, "nowhere"); why.Code != moq.SubscribeTrackDoesNotExist || !strings.Contains(why.Reason, "nowhere") {
			t.Errorf("refused with %v", why)
		}
		w.at(hops[0])
		pub := w.publisher(wire.Draft16, "live")
		w.at(hops[1])
		sub := w.subscribe(s, moq.SubscribeOptions{})
		again, _ := w.session(wire.Draft14, nil)
		w.subscribe(again, moq.SubscribeOptions{})
		if n := len(pub.asks); n != 1 {
			t.Errorf("publisher was asked %d times", n)
		}
		must(t, pub.Close(0, "bye"))
		<-sub.Done()
		if code, _, reason := sub.Result(); code != moq.DoneInternal || reason != "publisher has gone" {
			t.Errorf("track ended with %d %q", code, reason)
		}
	})
}

// TestUpstreamReconnects: the upstream relay goes away and comes back; meanwhile subscriptions wait, or are told why not.
func TestUpstreamReconnects(t *testing.T) {
	for _, fast := range []bool{false, true} {
		inChain(t, 2, func(w *world, hops []*hop) {
			t := w.t
			top, edge := hops[0], hops[1]
			top.start(t, relay.Config{}, nil, fast)
			edge.start(t, relay.Config{SetupTimeout: 3 * time.Second}, top.addr, fast)
			w.at(top)
			w.publisher(wire.Draft16, "live")
			w.at(edge)
			s, _ := w.session(wire.Draft16, nil)
			sub := w.subscribe(s, moq.SubscribeOptions{})
			top.stop(t)
			<-sub.Done()
			if code, _, reason := sub.Result(); code != moq.DoneInternal || reason != "upstream relay has gone" && reason != "publisher has gone" { // the latter if it still says so
				t.Errorf("track ended with %d %q", code, reason)
			}
			why, after := w.refusal(s, "live")
			if why.Code != moq.SubscribeTimeout || !strings.Contains(why.Reason, "cannot be reached") || after > 4*time.Second {
				t.Errorf("refused after %v with %v", after, why)
			}
			sleep(t, 60)
			if u := edge.relay.Stats().Upstream; u == nil || u.Connected || u.Connections != 1 || u.Error == "" {
				t.Errorf("upstream: %+v", u)
			}
			_ = top.pc.Close()
			top.pc = w.hostAt(top.addr.AddrPort())
			top.start(t, relay.Config{}, nil, fast)
			w.at(top)
			pub := w.publisher(wire.Draft16, "live")
			sleep(t, 20) // longer than a pause
			if u := edge.relay.Stats().Upstream; !u.Connected || u.Connections != 2 {
				t.Errorf("upstream: %+v", u)
			}
			w.subscribe(s, moq.SubscribeOptions{})
			alias := (<-pub.asks).alias
			time.Sleep(200 * time.Millisecond)
			must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: 7}, wire.Object{Payload: []byte("again")}).Close())
			r := readStream(w, s)
			if os := r.objects(t, wire.Draft16); r.err != nil || len(os) != 1 || os[0].payload != "again" {
				t.Errorf("got %v, %v", os, r.err)
			}
			if got := edge.relay.Stats().Tracks[0].Subscribers[0].FastStreams; fast && got != 1 {
				t.Errorf("%d fast streams after the reconnection; %v", got, edge.relay.Stats().Reasons)
			}
		})
	}
}

// TestRelaysInALoop: what nobody publishes is refused by relays in a ring, and what somebody does is found from both of two
// relays that name each other.
func TestRelaysInALoop(t *testing.T) {
	for _, c := range []struct {
		relays int
		within time.Duration
		reason string
	}{{1, time.Second, "in a loop"}, {2, time.Second, "in a loop"}, {3, 6 * time.Second, "does not answer"}} {
		t.Run(fmt.Sprint(c.relays), func(t *testing.T) {
			inChain(t, c.relays, func(w *world, hops []*hop) {
				t := w.t
				for i, h := range hops {
					h.start(t, relay.Config{SetupTimeout: 5 * time.Second, Linger: -1}, hops[(i+len(hops)-1)%len(hops)].addr, true)
				}
				w.at(hops[0])
				pub := w.publisher(wire.Draft16, "live")
				for _, h := range hops {
					w.at(h)
					s, _ := w.session(wire.Draft16, nil)
					sleep(t, 1)
					if why, after := w.refusal(s, "nowhere"); !strings.Contains(why.Reason, c.reason) || after > c.within {
						t.Errorf("refused after %v with %v", after, why)
					}
					sub := w.subscribe(s, moq.SubscribeOptions{})
					alias := (<-pub.asks).alias
					must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: 7}, wire.Object{Payload: []byte("found")}).Close())
					r := readStream(w, s)
					if os := r.objects(t, wire.Draft16); r.err != nil || len(os) != 1 || os[0].payload != "found" {
						t.Errorf("got %v, %v", os, r.err)
					}
					must(t, sub.Unsubscribe())
					sleep(t, 10)
					for i, h := range hops {
						if n := len(h.relay.Stats().Tracks); n != 0 {
							t.Errorf("relay %d has %d tracks left", i, n)
						}
					}
				}
			})
		})
	}
}
