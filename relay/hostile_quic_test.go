package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// innocents are a publisher and a subscriber beside a hostile peer. The subscriber also subscribes to what the hostile one publishes.
type innocents struct {
	w     *world
	wire  *hostile // of the publisher, which is not
	pub   *publisher
	sub   *moq.Session
	conn  *quic.Conn
	alias uint64 // of the publisher's
	own   uint64 // of the subscriber's
	group uint64
	// shares: the subscriber has subscribed to more streams than are reserved for it, and some of the innocent publisher's are slow.
	shares bool

	mu  sync.Mutex
	got map[uint64][]byte // stream by group
	bad []error
}

func newInnocents(w *world) *innocents {
	in := &innocents{w: w, got: make(map[uint64][]byte), wire: w.hostile(wire.Draft16, nil)}
	in.pub = w.publisherOn(in.wire.conn, "live")
	in.sub, in.conn = w.session(wire.Draft16, nil)
	in.own = w.subscribe(in.sub, moq.SubscribeOptions{}).Alias
	in.alias = (<-in.pub.asks).alias
	go in.collect()
	sleep(w.t, 1)
	return in
}

func (in *innocents) collect() {
	for {
		rs, err := in.sub.AcceptDataStream(in.sub.Context())
		if err != nil {
			return
		}
		go func() {
			b, err := io.ReadAll(rs)
			h, perr := wire.ParseSubgroupHeader(b, wire.Draft16)
			in.mu.Lock()
			defer in.mu.Unlock()
			switch {
			case perr != nil && err == nil:
				in.bad = append(in.bad, perr)
			case perr != nil || h.TrackAlias != in.own: // reserved and not used, or the hostile publisher's
			case err != nil:
				in.bad = append(in.bad, fmt.Errorf("group %d: %w", h.Group, err))
			case in.got[h.Group] != nil:
				in.bad = append(in.bad, fmt.Errorf("group %d came twice", h.Group))
			default:
				in.got[h.Group] = b[h.Len:]
			}
		}()
	}
}

func payloadOf(group uint64) []byte { return bytes.Repeat([]byte{byte(group), byte(group >> 8)}, 2000) }

// publish publishes groups, which takes a tenth of a second each.
func (in *innocents) publish(groups int) {
	for range groups {
		h := wire.SubgroupHeader{TrackAlias: in.alias, Group: in.group}
		must(in.w.t, in.pub.stream(h, wire.Object{ID: 0, Payload: payloadOf(in.group)}).Close())
		in.group++
		time.Sleep(100 * time.Millisecond)
	}
}

// check says that nobody but the hostile one has noticed anything: every group came, once, all by the fast path.
func (in *innocents) check(dp *sim.Sim) {
	t := in.w.t
	t.Helper()
	sleep(t, 10)
	for what, c := range map[string]*quic.Conn{"publisher": in.pub.conn, "subscriber": in.conn} {
		if err := context.Cause(c.Context()); err != nil {
			t.Errorf("innocent %s's connection: %v", what, err)
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, err := range in.bad {
		t.Errorf("innocent subscriber: %v", err)
	}
	for g := range in.group {
		want := append(wire.AppendObjectHeader(nil, wire.Draft16, false, 0, nil, uint64(len(payloadOf(g))), 0), payloadOf(g)...)
		if !bytes.Equal(in.got[g], want) {
			t.Errorf("innocent subscriber's group %d: %d bytes, want %d", g, len(in.got[g]), len(want))
		}
	}
	for _, tr := range in.w.relay.Stats().Tracks {
		if len(tr.Namespace) != 1 || tr.Namespace[0] != "live" {
			continue
		}
		for _, s := range tr.Subscribers {
			all := s.FastStreams == in.group || in.shares && s.FastStreams+s.SlowStreams == in.group
			if s.Remote == in.conn.LocalAddr().String() && (!all || s.Lost > 0) {
				t.Errorf("innocent subscriber: %+v, want %d fast streams; reasons %v", s, in.group, in.w.relay.Stats().Reasons)
			}
		}
	}
	if streams, clients := dp.Entries(); streams > 0 || clients > 0 {
		t.Errorf("the datapath's tables hold %d streams and %d of clients when all is over", streams, clients)
	}
}

// Transport error codes (RFC 9000, section 20.1; RFC 9001, section 6).
const (
	ignored = quic.TransportErrorCode(1<<62 - 1) // the connection goes on
)

func checkEnd(t *testing.T, err error, want quic.TransportErrorCode) {
	t.Helper()
	var te *quic.TransportError
	switch {
	case want == ignored && err != nil:
		t.Errorf("hostile connection ended with %v, but what it did is to be ignored", err)
	case want != ignored && (!errors.As(err, &te) || !te.Remote || te.ErrorCode != want):
		t.Errorf("hostile connection ended with %v, want %v from the relay", err, want)
	}
}

func ack(largest, first uint64, more ...uint64) []byte {
	b := []byte{byte(wire.FrameAck)}
	for _, v := range append([]uint64{largest, 0, uint64(len(more) / 2), first}, more...) {
		b = wire.AppendVarint(b, v)
	}
	return b
}

// TestHostileSubscriber has a subscriber on the fast path that breaks QUIC. docs/hostile.md has the table.
func TestHostileSubscriber(t *testing.T) {
	for _, c := range []struct {
		name   string
		attack func(h *hostile, in *innocents)
		want   quic.TransportErrorCode
	}{
		{"ACK of packets never sent", func(h *hostile, _ *innocents) { h.send(ack(1<<30, 1<<29)) }, quic.ProtocolViolation},
		{"ACK of the next packet", func(h *hostile, _ *innocents) { h.send(ack(h.received()+1, 0)) }, quic.ProtocolViolation},
		{"ACK of all numbers, those skipped too", func(h *hostile, _ *innocents) { h.send(ack(h.received()-1, h.received()-1)) }, quic.ProtocolViolation},
		{"ACK whose first range is below 0", func(h *hostile, _ *innocents) { h.send(ack(5, 6)) }, quic.FrameEncodingError},
		{"ACK whose second range is below 0", func(h *hostile, _ *innocents) { h.send(ack(5, 0, 9, 9)) }, quic.FrameEncodingError},
		{"ACK with more ranges than bytes", func(h *hostile, _ *innocents) {
			b := ack(5, 0)
			b[3] = 60
			h.send(b)
		}, quic.FrameEncodingError},
		{"ACKs that go back", func(h *hostile, _ *innocents) {
			top := h.received() - 1
			h.send(ack(top, 0), ack(top-1, 0), ack(0, 0), ack(top, 0), append(ack(top, 0), ack(1, 0)...), ack(top, 0, 3, 0))
		}, ignored},
		{"hundreds of ACKs in a packet", func(h *hostile, _ *innocents) {
			b := bytes.Repeat(ack(h.received()-1, 0), 200)
			h.send(b, b, b)
		}, ignored},
		{"HANDSHAKE_DONE", func(h *hostile, _ *innocents) { h.send(wire.AppendHandshakeDone(nil)) }, quic.ProtocolViolation},
		{"NEW_TOKEN", func(h *hostile, _ *innocents) { h.send(wire.AppendNewToken(nil, []byte("token"))) }, quic.ProtocolViolation},
		{"STREAM on the relay's stream", func(h *hostile, _ *innocents) { h.send(wire.AppendStream(nil, 3, 0, []byte("x"), false, true)) }, quic.StreamStateError},
		{"RESET_STREAM of the relay's stream", func(h *hostile, _ *innocents) { h.send(wire.AppendResetStream(nil, 3, 0, 0)) }, quic.StreamStateError},
		{"MAX_STREAM_DATA for a stream of its own", func(h *hostile, _ *innocents) { h.send(wire.AppendMaxStreamData(nil, 2, 1<<20)) }, quic.StreamStateError},
		{"MAX_STREAM_DATA for a stream that is not there", func(h *hostile, _ *innocents) { h.send(wire.AppendMaxStreamData(nil, 3+4*3000, 1<<20)) }, quic.StreamStateError},
		{"STOP_SENDING of a stream of its own", func(h *hostile, _ *innocents) { h.send(wire.AppendStopSending(nil, 2, 0)) }, quic.StreamStateError},
		{"STOP_SENDING of a stream that is not there", func(h *hostile, _ *innocents) { h.send(wire.AppendStopSending(nil, 3+4*3000, 0)) }, quic.StreamStateError},
		{"unknown frame", func(h *hostile, _ *innocents) { h.send([]byte{0x21, 0, 0, 0}) }, quic.FrameEncodingError},
		{"frame longer than the packet", func(h *hostile, _ *innocents) { h.send([]byte{byte(wire.FrameStream) | 6, 2, 0, 60, 'x'}) }, quic.FrameEncodingError},
		{"packet without frames", func(h *hostile, _ *innocents) { h.empty() }, quic.ProtocolViolation},
		{"reserved bits", func(h *hostile, _ *innocents) { h.reserved() }, quic.ProtocolViolation},
		{"RETIRE_CONNECTION_ID of one that was not issued", func(h *hostile, _ *innocents) { h.send(wire.AppendRetireConnectionID(nil, 1000)) }, quic.ProtocolViolation},
		{"too many connection IDs", func(h *hostile, _ *innocents) {
			var b []byte
			for i := range uint64(20) {
				b = wire.AppendNewConnectionID(b, 10+i, 0, []byte{byte(i), 1, 2, 3}, [16]byte{byte(i)})
			}
			h.send(b)
		}, quic.ConnectionIDLimitError},
		{"CRYPTO far ahead", func(h *hostile, _ *innocents) { h.send(wire.AppendCrypto(nil, 1<<20, []byte("x"))) }, quic.CryptoBufferExceeded},
		{"two key updates at once", func(h *hostile, _ *innocents) {
			sleep(h.w.t, 1)
			for range 2 { // without anything that the relay would have to answer
				h.update()
				h.send(wire.AppendPadding(nil, 4))
			}
		}, quic.KeyUpdateError},
		{"a key update in time", func(h *hostile, in *innocents) {
			for range 3 {
				h.update()
				h.send(wire.AppendPing(nil))
				in.publish(3)
			}
		}, ignored},
		{"keys of another connection, or of no generation", func(h *hostile, _ *innocents) {
			other := h.w.hostile(wire.Draft16, nil)
			sleep(h.w.t, 1)
			for i := range uint64(50) {
				h.raw(other.seal.Seal(nil, 0, h.dcid, h.next+i, 4, ack(1<<30, 0)))
			}
			later, err := wire.NewKeys(h.out.Suite(), wire.Version1, h.secret[0])
			must(h.w.t, err)
			for range h.seal.Generation() + 2 {
				later.Update()
			}
			for i := range uint64(50) {
				h.raw(later.Seal(nil, later.Generation(), h.dcid, h.next+i, 4, ack(1<<30, 0)))
			}
		}, ignored},
		{"its packets again, from here and elsewhere", func(h *hostile, in *innocents) {
			pc, _ := h.w.host()
			h.w.t.Cleanup(func() { _ = pc.Close() })
			for _, p := range slices.Clone(h.sent) {
				h.raw(p)
				_, err := pc.WriteTo(p, h.to)
				must(h.w.t, err)
			}
			in.publish(5)
		}, ignored},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFastWorld(t, func(w *world, dp *sim.Sim) {
				t := w.t
				in := newInnocents(w)
				h := w.hostile(wire.Draft16, nil)
				s, err := moq.Connect(w.context(), h.conn, moq.Handlers{})
				must(t, err)
				w.subscribe(s, moq.SubscribeOptions{})
				in.publish(60) // past the first numbers that are skipped
				if st := subscribers(w.relay); len(st) != 2 || st[1].FastStreams < 50 {
					t.Fatalf("the hostile subscriber is not on the fast path: %+v; %v", st, h.end())
				}
				c.attack(h, in)
				in.publish(10)
				sleep(t, 1)
				checkEnd(t, h.end(), c.want)
				must(t, h.conn.CloseWithError(0, ""))
				in.publish(3)
				in.check(dp)
			})
		})
	}
}

// update has the forger seal with the next keys from now on.
func (h *hostile) update() { h.with(h.seal.Update) }

// publisherOn is publisher over a connection.
func (w *world) publisherOn(c *quic.Conn, namespace string) *publisher {
	w.t.Helper()
	p := &publisher{w: w, conn: c, asks: make(chan ask, 100)}
	s, err := moq.Connect(w.context(), c, moq.Handlers{Subscribe: func(r *moq.Request) {
		if alias, err := r.Accept(nil); err == nil {
			p.asks <- ask{r, alias}
		}
	}})
	must(w.t, err)
	p.Session = s
	must(w.t, s.Announce(w.context(), []string{namespace}))
	return p
}

// begun is a stream of a hostile publisher in the middle of an object, which the datapath forwards.
type begun struct {
	id   uint64
	sent []byte
	out  *quic.SendStream
}

// next is the start of the stream i after it.
func (b *begun) next(i uint64, data []byte) []byte {
	return wire.AppendStream(nil, b.id+4*i, 0, data, false, true)
}

// TestHostilePublisher has a publisher on the fast path that breaks QUIC, with a subscriber that is also that of an innocent one.
// docs/hostile.md has the table.
func TestHostilePublisher(t *testing.T) {
	for _, c := range []struct {
		name   string
		attack func(h *hostile, b *begun, in *innocents)
		want   quic.TransportErrorCode
	}{
		{"stream bytes rewritten", func(h *hostile, b *begun, _ *innocents) {
			other := slices.Clone(b.sent[:1000])
			other[500]++
			h.send(wire.AppendStream(nil, b.id, 0, other, false, true))
		}, quic.ProtocolViolation},
		{"a few stream bytes rewritten", func(h *hostile, b *begun, _ *innocents) {
			h.send(wire.AppendStream(nil, b.id, 1500, []byte("rewritten"), false, true))
		}, quic.ProtocolViolation},
		{"stream bytes repeated", func(h *hostile, b *begun, _ *innocents) {
			h.send(wire.AppendStream(nil, b.id, 7, b.sent[7:1000], false, true), wire.AppendStream(nil, b.id, 0, b.sent[:1200], false, true))
		}, ignored},
		{"beyond MAX_STREAM_DATA", func(h *hostile, b *begun, _ *innocents) {
			h.send(wire.AppendStream(nil, b.id, 512<<10, []byte("x"), false, true))
		}, quic.FlowControlError},
		{"beyond MAX_DATA", func(h *hostile, b *begun, _ *innocents) {
			for i := range uint64(3) {
				h.send(b.next(1+i, b.sent[:1000]), wire.AppendStream(nil, b.id+4*(1+i), 500<<10, []byte("x"), false, true))
			}
		}, quic.FlowControlError},
		{"beyond MAX_STREAMS", func(h *hostile, b *begun, _ *innocents) { h.send(b.next(1<<16, b.sent[:1000])) }, quic.StreamLimitError},
		{"the millionth stream", func(h *hostile, b *begun, in *innocents) {
			for i := range uint64(1000) {
				var p []byte
				for k := range uint64(8) {
					p = append(p, b.next(1+8*i+k, b.sent[:20])...)
				}
				h.send(p)
			}
			sleep(h.w.t, 1)
			for i := range uint64(4) {
				h.send(b.next(1e6-4+i, b.sent[:20]))
			}
			in.shares = true
		}, quic.StreamLimitError},
		{"data after FIN", func(h *hostile, b *begun, _ *innocents) {
			end := uint64(len(b.sent)) + 100 // what is missing keeps the stream from being over
			h.send(wire.AppendStream(nil, b.id, end, []byte("x"), true, true), wire.AppendStream(nil, b.id, end+1, []byte("y"), false, true))
		}, quic.FinalSizeError},
		{"data after FIN in one packet", func(h *hostile, b *begun, _ *innocents) {
			end := uint64(len(b.sent))
			h.send(append(wire.AppendStream(nil, b.id, end, []byte("x"), true, true), wire.AppendStream(nil, b.id, end+1, []byte("y"), false, true)...))
		}, quic.FinalSizeError},
		{"FIN within what was sent", func(h *hostile, b *begun, _ *innocents) {
			h.send(wire.AppendStream(nil, b.id, 10, b.sent[10:20], true, true))
		}, quic.FinalSizeError},
		{"two FINs", func(h *hostile, b *begun, _ *innocents) {
			end := uint64(len(b.sent)) + 100
			h.send(wire.AppendStream(nil, b.id, end, []byte("x"), true, true), wire.AppendStream(nil, b.id, end, []byte("xy"), true, true))
		}, quic.FinalSizeError},
		{"RESET_STREAM with another final size", func(h *hostile, b *begun, _ *innocents) {
			h.send(wire.AppendResetStream(nil, b.id, 0, 10))
		}, quic.FinalSizeError},
		{"RESET_STREAM far ahead", func(h *hostile, b *begun, _ *innocents) {
			h.send(wire.AppendResetStream(nil, b.id, 0, 1<<40))
		}, quic.FlowControlError},
		{"STREAM_DATA_BLOCKED for the relay's stream", func(h *hostile, _ *begun, _ *innocents) {
			h.send(wire.AppendStreamDataBlocked(nil, 3, 0))
		}, quic.StreamStateError},
		{"its packets again, from here and elsewhere", func(h *hostile, _ *begun, in *innocents) {
			pc, _ := h.w.host()
			h.w.t.Cleanup(func() { _ = pc.Close() })
			for _, p := range slices.Clone(h.sent) {
				h.raw(p)
				_, err := pc.WriteTo(p, h.to)
				must(h.w.t, err)
			}
			in.publish(5)
		}, ignored},
		{"the innocent publisher's packets from here", func(h *hostile, _ *begun, in *innocents) {
			for _, p := range slices.Clone(in.wire.sent) {
				h.raw(p)
			}
			in.publish(5)
		}, ignored},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFastWorldWith(t, relay.Config{MaxFastStreams: 100}, func(w *world, dp *sim.Sim) {
				t := w.t
				in := newInnocents(w)
				h := w.hostile(wire.Draft16, nil)
				evil := w.publisherOn(h.conn, "evil")
				_, err := in.sub.Subscribe(w.context(), []string{"evil"}, "video", moq.SubscribeOptions{})
				must(t, err)
				head := wire.SubgroupHeader{TrackAlias: (<-evil.asks).alias, Group: 1}
				sleep(t, 1)
				in.publish(3)
				out, err := evil.OpenDataStream(w.context())
				must(t, err)
				b := &begun{id: uint64(out.StreamID()), out: out}
				b.sent = wire.AppendObjectHeader(head.Append(nil, wire.Draft16), wire.Draft16, false, 0, nil, 100_000, 0)
				for len(b.sent) < 3000 {
					b.sent = append(b.sent, byte(len(b.sent)>>4))
				}
				_, err = out.Write(b.sent)
				must(t, err)
				in.publish(3)
				for _, tr := range w.relay.Stats().Tracks {
					if tr.Subscribers[0].FastStreams == 0 {
						t.Fatalf("%v is not on the fast path", tr.Namespace)
					}
				}
				c.attack(h, b, in)
				in.publish(10)
				sleep(t, 1)
				checkEnd(t, h.end(), c.want)
				must(t, h.conn.CloseWithError(0, ""))
				in.publish(3)
				in.check(dp)
			})
		})
	}
}

// TestNoCredit has a subscriber on the fast path that never raises a limit, so that a few streams and bytes are all it ever gets.
// What waits for it is bounded, and nothing waits for it that others need.
func TestNoCredit(t *testing.T) {
	for _, c := range []struct {
		name string
		conf quic.Config
	}{
		{"bytes of the connection", quic.Config{InitialConnectionReceiveWindow: 10_000, MaxConnectionReceiveWindow: 10_000}},
		{"bytes of a stream", quic.Config{InitialStreamReceiveWindow: 2000, MaxStreamReceiveWindow: 2000}},
		{"streams", quic.Config{MaxIncomingUniStreams: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFastWorldWith(t, relay.Config{MaxBacklog: 40_000, MaxStreams: 8, WriteTimeout: time.Second}, func(w *world, dp *sim.Sim) {
				t := w.t
				in := newInnocents(w)
				h := w.hostile(wire.Draft16, &c.conf)
				h.with(func() {
					h.keep = func(f *wire.Frame) bool {
						return f.Type != wire.FrameMaxData && f.Type != wire.FrameMaxStreamData && f.Type != wire.FrameMaxStreamsUni
					}
				})
				s, err := moq.Connect(w.context(), h.conn, moq.Handlers{})
				must(t, err)
				w.subscribe(s, moq.SubscribeOptions{})
				sleep(t, 1)
				go func() { // it reads, so that all that it lacks is credit
					for {
						rs, err := s.AcceptDataStream(s.Context())
						if err != nil {
							return
						}
						go func() { _, _ = io.Copy(io.Discard, rs) }()
					}
				}()
				in.publish(100)
				sleep(t, 5)
				checkEnd(t, h.end(), ignored)
				for _, sub := range subscribers(w.relay) {
					if sub.Remote == h.conn.LocalAddr().String() && sub.Lost < 50 {
						t.Errorf("hostile subscriber: %+v", sub)
					}
				}
				if streams, clients := dp.Entries(); streams > 0 || clients > 20 {
					t.Errorf("%d streams, %d of clients are in the datapath's tables", streams, clients)
				}
				must(t, h.conn.CloseWithError(0, ""))
				in.publish(3)
				in.check(dp)
			})
		})
	}
}
