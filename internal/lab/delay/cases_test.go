package delay

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// scene is a publisher and a subscriber with one track, whose alias is 1 at the publisher and 100 at the subscriber.
type scene struct {
	in       Input
	pub, sub *synthConn
}

const (
	pubAlias, subAlias = 1, 100
	pubShift, subShift = 2, 3 // stream type and alias
)

func ms(n int) time.Time { return epoch.Add(time.Duration(n) * time.Millisecond) }

func newScene() *scene {
	s := &scene{in: Input{Draft: wire.Draft16, Null: true}}
	s.pub = newSynth(&s.in.Publisher, "10.0.0.1:1000", "10.0.0.2:4433", nil, []byte("relay"), epoch)
	s.sub = newSynth(&s.in.Subscriber, "10.0.0.3:1000", "10.0.0.2:4433", []byte("sub"), []byte("relay"), epoch)
	s.accept(s.pub, outgoing, pubAlias, epoch)
	s.accept(s.sub, incoming, subAlias, ms(2))
	return s
}

// accept subscribes to the track on a connection whose media have a direction.
func (s *scene) accept(c *synthConn, media direction, alias uint64, at time.Time) {
	c.send(at, media.other(), wire.AppendStream(nil, 0, 0, subscribe(s.in.Draft, 0, "video"), false, true))
	c.send(at, media, wire.AppendStream(nil, 0, 0, subscribeOK(s.in.Draft, 0, alias), false, true))
}

func (s *scene) stream(alias, group uint64, content string) []byte {
	return stream(s.in.Draft, alias, group, 0, wire.SubgroupZero, []byte(content))
}

// publish sends a stream from the publisher, deliver to the subscriber, both in one packet.
func (s *scene) publish(at time.Time, id, group uint64, content string) {
	s.pub.send(at, outgoing, wire.AppendStream(nil, id<<2|2, 0, s.stream(pubAlias, group, content), true, true))
}

func (s *scene) deliver(at time.Time, id, group uint64, content string) {
	s.sub.send(at, incoming, wire.AppendStream(nil, id<<2|3, 0, s.stream(subAlias, group, content), true, true))
}

// header is the bytes between alias and content: group, priority.
const header = 2

func (s *scene) analyze(t *testing.T) *Result {
	t.Helper()
	r, err := Analyze(&s.in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCases(t *testing.T) {
	const text = "0123456789"
	const whole = uint64(len(text) + header)
	tests := []struct {
		name  string
		build func(s *scene)
		check func(t *testing.T, r *Result)
		err   string // part of Result.Err
	}{
		{
			name: "one stream",
			build: func(s *scene) {
				s.publish(ms(10), 0, 0, text)
				s.deliver(ms(12), 0, 0, text)
			},
			check: func(t *testing.T, r *Result) {
				want := Distribution{whole, 2000, 2000, 2000, 2000, 2000}
				if r.Total != want || r.Subscribers[0].Delay != want || !r.Start.Equal(ms(10)) {
					t.Errorf("total %v, start %v", r.Total, r.Start)
				}
			},
		},
		{
			name: "other content",
			build: func(s *scene) {
				s.publish(ms(10), 0, 0, text)
				s.deliver(ms(12), 0, 0, strings.ToUpper("abcdefghij"))
			},
			check: func(t *testing.T, r *Result) {
				if s := r.Subscribers[0]; s.Different != whole || s.Unmatched != whole || s.Delay.N != 0 {
					t.Errorf("%+v", s)
				}
			},
			err: "got 12 bytes that the publisher did not send",
		},
		{
			name: "longer than published",
			build: func(s *scene) {
				s.publish(ms(10), 0, 0, text)
				s.deliver(ms(12), 0, 0, text+"more")
			},
			check: func(t *testing.T, r *Result) {
				if s := r.Subscribers[0]; s.Different != 0 || s.Unmatched != 4 || s.Delay.N != whole {
					t.Errorf("%+v", s)
				}
			},
			err: "got 4 bytes",
		},
		{
			name:  "never published",
			build: func(s *scene) { s.deliver(ms(12), 0, 0, text) },
			check: func(t *testing.T, r *Result) {
				if s := r.Subscribers[0]; s.Unmatched != whole {
					t.Errorf("%+v", s)
				}
			},
			err: "got 12 bytes",
		},
		{
			name: "stream before the first, between, after, and after the end is missing",
			build: func(s *scene) {
				for i := range uint64(5) {
					s.publish(ms(10+int(i)), i, i, text)
				}
				s.deliver(ms(20), 0, 1, text) // 0 was before it joined
				s.deliver(ms(21), 1, 3, text)
				s.sub.send(ms(22), outgoing, []byte{byte(wire.FrameConnectionCloseApp), 0, 0})
				s.publish(ms(30), 5, 5, text)
			},
			check: func(t *testing.T, r *Result) {
				if s := r.Subscribers[0]; s.Missing != 2*whole || s.Delay.N != 2*whole {
					t.Errorf("%+v", s)
				}
			},
		},
		{
			name: "nothing arrived",
			build: func(s *scene) {
				s.publish(ms(1), 0, 0, text) // before the subscription
				s.publish(ms(3), 1, 1, text)
			},
			check: func(t *testing.T, r *Result) {
				if s := r.Subscribers[0]; s.Missing != whole || s.Delay != (Distribution{}) {
					t.Errorf("%+v", s)
				}
			},
		},
		{
			name: "new connection ID, of another length",
			build: func(s *scene) {
				s.publish(ms(10), 0, 0, text)
				s.sub.send(ms(11), outgoing, wire.AppendNewConnectionID(nil, 1, 0, []byte("another one"), [16]byte{}))
				s.sub.cids[incoming] = []byte("another one")
				s.deliver(ms(12), 0, 0, text)
			},
			check: func(t *testing.T, r *Result) {
				if r.Total.N != whole {
					t.Errorf("%+v", r.Total)
				}
			},
		},
		{
			name: "second connection from the same address",
			build: func(s *scene) {
				s.publish(ms(10), 0, 0, text)
				s.deliver(ms(11), 0, 0, text)
				s.sub = newSynth(&s.in.Subscriber, "10.0.0.3:1000", "10.0.0.2:4433", []byte("second"), []byte("relay2"), ms(12))
				s.accept(s.sub, incoming, subAlias, ms(12))
				s.deliver(ms(13), 0, 0, text)
			},
			check: func(t *testing.T, r *Result) {
				if len(r.Subscribers) != 2 || r.Subscribers[0].Delay.Max != 1000 || r.Subscribers[1].Delay.Max != 3000 {
					t.Errorf("%+v", r.Subscribers)
				}
			},
		},
		{
			name: "two streams with the same content",
			build: func(s *scene) {
				s.publish(ms(10), 0, 0, text)
				s.publish(ms(11), 1, 0, text+"more")
				s.deliver(ms(12), 1, 0, text+"mo")
				s.deliver(ms(13), 0, 0, text)
				s.deliver(ms(14), 2, 0, text+"more")
			},
			check: func(t *testing.T, r *Result) {
				if s := r.Subscribers[0]; s.Delay.N != whole+4 || s.Delay.P50 != 2000 || s.Delay.Max != 3000 || s.Missing != 0 {
					t.Errorf("%+v", s)
				}
			},
		},
		{
			name: "two publishers of the same track",
			build: func(s *scene) {
				first := s.pub
				s.pub = newSynth(&s.in.Publisher, "10.0.0.9:1000", "10.0.0.2:4433", nil, []byte("relay"), epoch)
				s.accept(s.pub, outgoing, pubAlias, epoch)
				s.publish(ms(11), 0, 0, text+"more")
				s.pub = first
				s.publish(ms(10), 0, 0, text)
				s.deliver(ms(12), 0, 0, text+"more")
			},
			check: func(t *testing.T, r *Result) {
				if r.Total.N != whole+4 || r.Total.P50 != 2000 || !r.Start.Equal(ms(10)) {
					t.Errorf("%+v", r.Total)
				}
			},
		},
		{
			name: "subgroup named by its first object",
			build: func(s *scene) {
				for id, content := range []string{"\x03 and three", "\x04 and four"} {
					b := stream(s.in.Draft, pubAlias, 0, 0, wire.SubgroupFirstObject, []byte(content))
					s.pub.send(ms(10+id), outgoing, wire.AppendStream(nil, uint64(id)<<2|2, 0, b, true, true))
					b = stream(s.in.Draft, subAlias, 0, 0, wire.SubgroupFirstObject, []byte(content))
					s.sub.send(ms(11), incoming, wire.AppendStream(nil, uint64(1-id)<<2|3, 0, b, true, true))
				}
			},
			check: func(t *testing.T, r *Result) {
				if r.Total.Max != 1000 || r.Total.P50 != 1000 && r.Total.P50 != 0 {
					t.Errorf("%+v", r.Total)
				}
			},
		},
		{
			name: "unknown alias and half a header",
			build: func(s *scene) {
				s.pub.send(ms(10), outgoing, wire.AppendStream(nil, 2, 0, s.stream(9, 0, text), true, true))
				s.sub.send(ms(11), incoming, wire.AppendStream(nil, 3, 0, s.stream(subAlias, 0, text)[:4], true, true))
			},
			check: func(t *testing.T, r *Result) {
				if r.Publisher.Unknown != whole+pubShift || r.Subscriber.Unknown != 4 {
					t.Errorf("%+v", r)
				}
			},
			err: "bytes of streams that belong to no track",
		},
		{
			name: "streams of the other direction, and bidirectional ones",
			build: func(s *scene) {
				s.pub.send(ms(10), incoming, wire.AppendStream(nil, 3, 0, s.stream(pubAlias, 0, text), true, true))
				s.pub.send(ms(10), outgoing, wire.AppendStream(nil, 4, 0, s.stream(pubAlias, 0, text), true, true))
				s.sub.send(ms(11), outgoing, wire.AppendStream(nil, 2, 0, s.stream(subAlias, 0, text), true, true))
			},
			check: func(t *testing.T, r *Result) {
				if r.Total.N != 0 || !r.Start.IsZero() {
					t.Errorf("%+v", r)
				}
			},
		},
		{
			name: "broken packets",
			build: func(s *scene) {
				s.sub.emit(ms(1), incoming, []byte("@sub"))                                  // too short
				s.sub.emit(ms(1), incoming, append([]byte("Dsub"), make([]byte, 40)...))     // not authentic
				s.sub.emit(ms(1), outgoing, bytes.Repeat([]byte{0x40}, 40))                  // unknown ID
				s.sub.emit(ms(1), outgoing, []byte{0xc0, 0, 0, 0, 1, 9})                     // long header cut off
				s.sub.emit(ms(1), outgoing, append(longPacket(nil, nil), 0, 0, 0))           // padded: fine
				s.sub.send(ms(1), incoming, []byte{0x21, 0, 0, 0})                           // unknown frame
				s.sub.send(ms(1), incoming, wire.AppendStream(nil, 0, 500, nil, true, true)) // empty: fine
				s.in.Subscriber = append(s.in.Subscriber, capture.Packet{Time: ms(1), Data: []byte("not a frame")})
			},
			check: func(t *testing.T, r *Result) {
				want := r.Subscriber
				want.Strange, want.Unopened, want.Malformed = 3, 2, 1
				if r.Subscriber != want {
					t.Errorf("%+v, want %+v", r.Subscriber, want)
				}
			},
			err: "subscribers' capture has 3 packets of unknown connections",
		},
		{
			name: "broken control message",
			build: func(s *scene) {
				b, _ := wire.AppendControl(nil, wire.MsgSubscribeOK, []byte{1})
				s.pub.send(ms(2), outgoing, wire.AppendStream(nil, 0, uint64(len(subscribeOK(s.in.Draft, 0, pubAlias))), b, false, true))
			},
			check: func(t *testing.T, r *Result) {
				if r.Publisher.Malformed != 1 {
					t.Errorf("%+v", r.Publisher)
				}
			},
			err: "publisher's capture has 1 packets or messages that cannot be parsed",
		},
		{
			name: "no keys",
			build: func(s *scene) {
				s.in.Null = false
				s.publish(ms(10), 0, 0, text)
			},
			check: func(t *testing.T, r *Result) {
				if r.Publisher.Unopened != 3 {
					t.Errorf("%+v", r.Publisher)
				}
			},
			err: "packets that the key log does not open",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene()
			tt.build(s)
			r := s.analyze(t)
			tt.check(t, r)
			if err := r.Err(); tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestKeys opens a long run of packets of each cipher suite, whose numbers are cut to one byte.
func TestKeys(t *testing.T) {
	for suite, size := range map[wire.Suite]int{wire.SuiteAES128GCM: 32, wire.SuiteAES256GCM: 48, wire.SuiteChaCha20Poly1305: 32} {
		t.Run(suite.String(), func(t *testing.T) {
			secret := bytes.Repeat([]byte{7}, size)
			k, err := wire.NewKeys(suite, wire.Version1, secret)
			if err != nil {
				t.Fatal(err)
			}
			r := newReader(&Input{}, incoming, map[[helloRandomLen]byte]*secrets{{1}: {client: secret}})
			c := newConn(netip.AddrPort{}, outgoing, &wire.LongHeader{})
			c.version = wire.Version1
			c.hello.add(0, append(make([]byte, helloRandomAt), 1))
			c.hello.add(helloRandomAt+1, make([]byte, 100))
			for pn := range uint64(2000) {
				var o wire.Opened
				if err := c.open(r, outgoing, k.Seal(nil, 0, nil, pn, 1, []byte("frames")), 0, &o); err != nil || o.PacketNumber != pn {
					t.Fatalf("packet %d: number %d, %v", pn, o.PacketNumber, err)
				}
			}
		})
	}
}

// TestAliasGivenOutAgain checks that an alias means the track that it meant when the stream came.
func TestAliasGivenOutAgain(t *testing.T) {
	c := newConn(netip.AddrPort{}, outgoing, &wire.LongHeader{})
	c.requests[0], c.requests[2] = "first", "second"
	c.accepted = []accepted{{7, 0, ms(10)}, {8, 0, ms(11)}, {7, 2, ms(20)}, {9, 4, ms(30)}}
	for _, tt := range []struct {
		alias uint64
		at    int
		want  string
	}{{7, 5, "first"}, {7, 10, "first"}, {7, 19, "first"}, {7, 20, "second"}, {7, 50, "second"}, {8, 50, "first"}, {9, 50, ""}, {1, 50, ""}} {
		got, ok := c.track(tt.alias, ms(tt.at))
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("alias %d at %d ms is %q, %v; want %q", tt.alias, tt.at, got, ok, tt.want)
		}
	}
}

func TestTrackKey(t *testing.T) {
	names := [][]string{{"a", "b", "c"}, {"ab", "c"}, {"a", "bc"}, {"", "abc"}, {"abc"}, {"a", "b", "c", ""}}
	seen := make(map[string][]string)
	for _, n := range names {
		k := trackKey(n[:len(n)-1], []byte(n[len(n)-1]))
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have the same key", n, other)
		}
		seen[k] = n
	}
}

func TestInputErrors(t *testing.T) {
	if _, err := Analyze(&Input{Draft: 17}); err == nil {
		t.Error("takes draft 17")
	}
	if _, err := Analyze(&Input{Draft: wire.Draft14, KeyLog: []byte("# comment\nnot a key\n")}); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("bad key log: %v", err)
	}
}

// FuzzAnalyze feeds any frames to the analysis, in the clear.
func FuzzAnalyze(f *testing.F) {
	s := newScene()
	f.Add(wire.AppendStream(nil, 2, 0, s.stream(pubAlias, 0, "hello"), true, true), []byte{0x40})
	f.Add(wire.AppendStream(nil, 2, 1<<62-1, nil, true, true), longPacket([]byte("a"), []byte("b")))
	f.Fuzz(func(t *testing.T, frames, packet []byte) {
		if len(frames)+len(packet) > 1<<15 {
			return
		}
		s := newScene()
		for _, d := range []direction{outgoing, incoming} {
			s.pub.send(ms(1), d, frames)
			s.sub.send(ms(2), d, frames)
			s.sub.emit(ms(3), d, packet)
		}
		s.in.Publisher = append(s.in.Publisher, capture.Packet{Time: ms(4), Data: packet})
		r, err := Analyze(&s.in)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Err()
	})
}
