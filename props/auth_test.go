package props_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

func init() {
	defects = append(defects,
		defect{name: "a long header from anywhere registers the client anew", lesson: 15, property: "P13", auth: func(w *twins, frame []byte) {
			if frame[42]&0x80 != 0 {
				w.set(w.attacked)
			}
		}},
		defect{name: "a forged packet moves the publisher's address", property: "P13", auth: func(w *twins, frame []byte) {
			if s, err := datapathtest.ParseFrame(frame); err == nil && s.Src != w.pub.From.Addr {
				u := w.upstream()
				u.Remote = s.Src
				check(w.attacked.dp.SetUpstream(0, u))
			}
		}},
		defect{name: "the replay window moves before a packet is authentic", property: "P13", auth: func(w *twins, frame []byte) {
			u := w.upstream()
			u.NextNumber = w.next + 5
			check(w.attacked.dp.SetUpstream(0, nil))
			check(w.attacked.dp.SetUpstream(0, u))
			check(w.attacked.dp.SetTrack(0, &datapath.Track{Alias: 5, Draft: 14}))
			check(w.attacked.dp.SetSubscription(0, 0, &datapath.Subscription{Alias: 70}))
		}},
		defect{name: "a failed packet takes a number", property: "P13", auth: func(w *twins, frame []byte) { w.attacked.space.TakeNumber() }},
	)
}

// twins are two datapaths that see the same packets; one sees forged ones between them.
type twins struct {
	pub             datapathtest.Builder
	relay, client   datapathtest.Side
	suite           wire.Suite
	secret          []byte
	next            uint64
	quiet, attacked *twin
}

type twin struct {
	dp      *sim.Sim
	space   *datapath.Space
	sent    []string
	records []string
}

func (w *twins) upstream() *datapath.Upstream {
	return &datapath.Upstream{Remote: w.pub.From.Addr, CIDs: [][]byte{w.pub.CID}, Streams: 2,
		Protection: datapath.Protection{Cipher: datapath.Cipher(w.suite), Version: wire.Version1, Secret: w.secret}}
}

func (w *twins) set(x *twin) {
	if _, err := x.dp.SetClient(0, nil); err != nil {
		panic(err)
	}
	space, err := x.dp.SetClient(0, &datapath.Client{Local: w.relay.Addr, Remote: w.client.Addr, DCID: []byte("client"), MaxSize: 1200,
		Protection: datapath.Protection{Cipher: datapath.Cipher(w.suite), Version: wire.Version1, Secret: w.secret}})
	check(err)
	x.space = space
	space.SetDataLimit(1 << 20)
	for i := range 40 {
		space.Reserve(uint64(4*i+3), uint8(i), 1<<20)
	}
	check(x.dp.SetSubscription(0, 0, &datapath.Subscription{Alias: 70}))
	x.dp.ClientIngress(datapathtest.UDPFrame(w.client, w.relay, []byte{0x40}), 1, time.Unix(0, 0))
}

func (w *twins) twin() *twin {
	x := &twin{}
	x.dp = sim.New(sim.Config{Port: 443, Send: func(frame []byte, _ int, _ time.Time) error {
		x.sent = append(x.sent, string(frame))
		return nil
	}})
	check(x.dp.SetUpstream(0, w.upstream()))
	check(x.dp.SetTrack(0, &datapath.Track{Alias: 5, Draft: 14}))
	w.set(x)
	return x
}

// words returns the client's words.
func (x *twin) words() (out []uint64) {
	for i := range datapath.SpaceWords {
		out = append(out, *x.space.Word(i))
	}
	return out
}

func (x *twin) counters() datapath.Counters {
	c, err := x.dp.Counters()
	check(err)
	return c
}

func (x *twin) drain() {
	check(x.dp.Drain(func(r *datapath.Record) { x.records = append(x.records, datapathtest.FormatRecord(r)) }))
}

// TestP13: with real packet protection, a packet that fails authentication or the replay window changes nothing but a
// counter: what comes after has the same effects as if it had never been.
func TestP13(t *testing.T) {
	for _, suite := range []wire.Suite{wire.SuiteAES128GCM, wire.SuiteAES256GCM, wire.SuiteChaCha20Poly1305} {
		t.Run(datapath.Cipher(suite).String(), func(t *testing.T) {
			holds(t, "P13", 60, func(t *rapid.T, d *defect) error { return forge(t, d, suite) })
		})
	}
}

func forge(t *rapid.T, d *defect, suite wire.Suite) error {
	w := &twins{relay: hostSide(1, 443), client: hostSide(3, 5000), suite: suite, secret: make([]byte, 32)}
	if suite == wire.SuiteAES256GCM {
		w.secret = make([]byte, 48)
	}
	keys, err := wire.NewKeys(suite, wire.Version1, w.secret)
	check(err)
	w.pub = datapathtest.Builder{From: hostSide(2, 4000), To: w.relay, CID: datapathtest.CID(1), Keys: keys}
	w.quiet, w.attacked = w.twin(), w.twin()
	var past [][]byte
	for i := range rapid.IntRange(1, 20).Draw(t, "packets") {
		stream := uint64(4*rapid.IntRange(0, 5).Draw(t, "stream") + 2)
		good := w.pub.Frame(w.next, datapathtest.Stream(stream, 0, datapathtest.Subgroup(5, 1, 9, "payload"), false))
		bad := slices.Clone(good)
		want := datapath.ReasonAuth
		switch kind := rapid.IntRange(0, 5).Draw(t, "kind of forgery"); kind {
		case 0: // a bit of number, payload or tag; the first byte's low bits are protected too
			at := rapid.IntRange(42+21, len(bad)-1).Draw(t, "byte")
			bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			fixChecksum(w, &bad)
		case 1: // sealed with other keys
			other, err := wire.NewKeys(suite, wire.Version1, append([]byte{1}, w.secret[1:]...))
			check(err)
			b := w.pub
			b.Keys = other
			bad = b.Frame(w.next+uint64(rapid.IntRange(0, 1<<20).Draw(t, "number")), wire.AppendPing(nil))
		case 2: // from elsewhere
			b := w.pub
			b.From = hostSide(9, 9000)
			bad, want = b.Frame(w.next, wire.AppendPing(nil)), datapath.ReasonAddress
		case 3: // a long header
			b := w.pub
			bad, want = datapathtest.UDPFrame(b.From, b.To, append([]byte{0xc0}, make([]byte, 100)...)), datapath.ReasonLongHeader
		case 4: // what was there before
			if len(past) == 0 {
				continue
			}
			bad, want = past[rapid.IntRange(0, len(past)-1).Draw(t, "which")], datapath.ReasonReplay
		case 5: // a key update that is none: the phase bit is protected, so it is one of the first byte's
			bad[42] ^= 0x04
			fixChecksum(w, &bad)
		}
		before, words := w.attacked.counters(), w.attacked.words()
		sent, records := len(w.attacked.sent), len(w.attacked.records)
		w.attacked.dp.ServerIngress(bad, 1, time.Unix(1, 0))
		if d.auth != nil {
			d.auth(w, bad)
		}
		w.attacked.drain()
		before[want]++
		if after := w.attacked.counters(); after != before {
			return fmt.Errorf("P13: counters after a forged packet: %v, want %v", after.Map(), before.Map())
		}
		if !slices.Equal(words, w.attacked.words()) || len(w.attacked.sent) != sent || len(w.attacked.records) != records {
			return fmt.Errorf("P13: a forged packet changed the client's words or was forwarded")
		}
		for _, x := range []*twin{w.quiet, w.attacked} {
			x.dp.ServerIngress(good, 1, time.Unix(1, int64(i)))
			x.drain()
		}
		past = append(past, good)
		w.next++
		if !slices.Equal(w.quiet.sent, w.attacked.sent) || !slices.Equal(w.quiet.records, w.attacked.records) ||
			!slices.Equal(w.quiet.words(), w.attacked.words()) {
			return fmt.Errorf("P13: after a forged packet a good one has other effects")
		}
		a, b := w.quiet.counters(), w.attacked.counters()
		if a[datapath.Forwarded] != b[datapath.Forwarded] || a[datapath.ReasonSlowStream] != b[datapath.ReasonSlowStream] {
			return fmt.Errorf("P13: after a forged packet a good one ends otherwise")
		}
		s1, c1 := w.quiet.dp.Entries()
		if s2, c2 := w.attacked.dp.Entries(); s1 != s2 || c1 != c2 {
			return fmt.Errorf("P13: after forged packets the tables hold %d and %d entries, want %d and %d", s2, c2, s1, c1)
		}
	}
	return nil
}

// fixChecksum writes a frame's headers anew.
func fixChecksum(w *twins, frame *[]byte) {
	*frame = datapathtest.UDPFrame(w.pub.From, w.pub.To, (*frame)[42:])
}
