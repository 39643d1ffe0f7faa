package sim_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// load is a Sim with clients, and a publisher that sends packets of 1200 bytes, of one stream.
type load struct {
	s       *sim.Sim
	frames  [][]byte
	clients int
	number  uint64
	sent    int
}

func newLoad(tb testing.TB, cipher datapath.Cipher, clients int) *load {
	l := &load{clients: clients}
	l.s = sim.New(sim.Config{Port: port, Send: func([]byte, int, time.Time) error { l.sent++; return nil }})
	pub := datapathtest.Builder{From: side(2, 4000), To: side(1, port), CID: datapathtest.CID(1)}
	p := datapath.Protection{Cipher: cipher, Version: wire.Version1}
	if cipher != datapath.CipherNull {
		p.Secret = bytes.Repeat([]byte{1}, 32)
		k, err := wire.NewKeys(wire.Suite(cipher), p.Version, p.Secret)
		must(tb, err)
		pub.Keys = k
	}
	must(tb, l.s.SetUpstream(1, &datapath.Upstream{Remote: pub.From.Addr, CIDs: [][]byte{pub.CID}, Streams: 2, Protection: p}))
	must(tb, l.s.SetTrack(1, &datapath.Track{Upstream: 1, Alias: 5, Draft: 14}))
	for i := range clients {
		id := datapath.ClientID(i)
		c := side(3, 5000+uint16(i))
		space, err := l.s.SetClient(id, &datapath.Client{Local: pub.To.Addr, Remote: c.Addr, DCID: make([]byte, 8), MaxSize: 1252, Protection: p})
		must(tb, err)
		space.SetDataLimit(1 << 62)
		space.Reserve(3, 0, 1<<47)
		must(tb, l.s.SetSubscription(1, id, &datapath.Subscription{Alias: 100}))
		l.s.ClientIngress(datapathtest.UDPFrame(c, pub.To, []byte{0x40}), 2, now)
	}
	const size = 1200 - 41 - 10
	head := datapathtest.Subgroup(5, 9, 1, "x")
	l.send(pub.Frame(0, datapathtest.Stream(2, 0, head, false)))
	for i := range uint64(4096) {
		data := bytes.Repeat([]byte{byte(i)}, size)
		l.frames = append(l.frames, pub.Frame(i+1, datapathtest.Stream(2, uint64(len(head))+i*size, data, false)))
	}
	return l
}

func (l *load) send(frame []byte) { l.s.ServerIngress(frame, 1, now) }

// next sends the next packet. After the last it begins again, with a fresh replay window.
func (l *load) next(tb testing.TB) {
	if l.number == uint64(len(l.frames)) {
		l.number = 0
		l.s.ForgetNumbers(1)
	}
	l.send(l.frames[l.number])
	l.number++
	if l.number%128 == 0 {
		must(tb, l.s.Drain(func(*datapath.Record) {}))
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkForward(b *testing.B) {
	for _, cipher := range []datapath.Cipher{datapath.CipherNull, datapath.CipherAES128GCM} {
		for _, clients := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("%v/clients=%d", cipher, clients), func(b *testing.B) {
				l := newLoad(b, cipher, clients)
				for range len(l.frames) {
					l.next(b)
				}
				l.sent = 0
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					l.next(b)
				}
				if l.sent != b.N*clients {
					c, _ := l.s.Counters()
					b.Fatalf("%d of %d packets forwarded: %v", l.sent, b.N*clients, c.Map())
				}
				b.ReportMetric(float64(l.sent)/b.Elapsed().Seconds(), "packets/s")
			})
		}
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	for _, cipher := range []datapath.Cipher{datapath.CipherNull, datapath.CipherAES128GCM, datapath.CipherChaCha20Poly1305} {
		l := newLoad(t, cipher, 3)
		for range 512 {
			l.next(t)
		}
		l.sent = 0
		if n := testing.AllocsPerRun(1000, func() { l.next(t) }); n > 0 && cipher != datapath.CipherChaCha20Poly1305 {
			t.Errorf("%v: %v allocations per packet", cipher, n)
		}
		if l.sent != 3*1001 {
			t.Errorf("%v: %d packets forwarded, want 3003", cipher, l.sent)
		}
	}
}
