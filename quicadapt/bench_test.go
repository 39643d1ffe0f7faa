package quicadapt

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/wire"
)

func newReno(n, first int) congestion.Controller { return congestion.NewNewReno(n, first) }

// benchConn is a joined connection without a peer.
func benchConn() *conn {
	b := &Boundary{cfg: Config{}.withDefaults(), start: time.Now(), woken: make(chan struct{}, 1), keyLimits: keyLimitsOf, congestion: newReno}
	c := newConn(b, netip.MustParseAddrPort("192.0.2.1:1"), false)
	c.startTranslating()
	c.joined = true
	c.maxData = 1 << 60
	return c
}

// flow is packets of one stream that a datapath forwards, and a peer that acknowledges every second one, as a stock peer
// does. Packets are a microsecond apart.
type flow struct {
	c      *conn
	rec    datapath.Record
	offset uint64
	count  int
	got    []wire.AckRange // the last numbers that the peer received, descending
}

func newFlow() *flow {
	c := benchConn()
	c.streams[3] = &FastStream{c: c, id: 3}
	return &flow{c: c, got: make([]wire.AckRange, 0, 8), rec: datapath.Record{
		Time: c.b.start, Size: 1240, Frames: []datapath.RecordFrame{{ClientStream: 3, Length: 1200}},
	}}
}

func (f *flow) receive(n uint64) {
	if len(f.got) > 0 && f.got[0].Largest+1 == n {
		f.got[0].Largest = n
		return
	}
	f.got = f.got[:min(len(f.got)+1, 4)]
	copy(f.got[1:], f.got)
	f.got[0] = wire.AckRange{Smallest: n, Largest: n}
}

func (f *flow) run(count int) {
	c, rec := f.c, &f.rec
	for range count {
		f.count++
		rec.Number = c.space.TakeNumber()
		rec.Time = c.b.start.Add(time.Duration(f.count) * time.Microsecond)
		rec.Frames[0].Offset = f.offset
		f.offset += 1200
		c.space.ChargeBudget(c.space.Now(), uint64(rec.Size))
		c.record(rec)
		f.receive(rec.Number)
		if f.count%2 == 0 {
			b := wire.AppendAck(c.plain[:0], f.got, 10, nil)
			c.frame.Parse(b)
			c.onAck(c.built[:0], rec.Number, 0, 1200, int64(f.count)*1000+20_000_000)
			c.tellBudget()
		}
	}
}

// BenchmarkRecordToAck is the cost in userspace of a packet that the datapath forwarded: registered and acknowledged, loss
// recovery, congestion control and the client's budget included.
func BenchmarkRecordToAck(b *testing.B) {
	f := newFlow()
	f.run(100_000)
	b.ReportAllocs()
	b.ResetTimer()
	f.run(b.N)
}

// BenchmarkRecordToAckWithLoss is the same with every fiftieth packet lost.
func BenchmarkRecordToAckWithLoss(b *testing.B) {
	f := newFlow()
	f.run(100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for n := b.N; n > 0; n -= 50 {
		f.run(min(n, 50))
		f.c.record(&datapath.Record{Number: f.c.space.TakeNumber(), Time: f.rec.Time, Size: 1240}) // never acknowledged
	}
}

func TestRecordToAckDoesNotAllocate(t *testing.T) {
	f := newFlow()
	f.run(100_000)
	if n := testing.AllocsPerRun(100, func() { f.run(10) }); n > 0 {
		t.Errorf("%v allocations for 10 packets", n)
	}
	c := f.c
	if c.stats.LostPackets > 0 || c.loss.Outstanding() > 1 {
		t.Errorf("lost %d, in flight %d", c.stats.LostPackets, c.loss.Outstanding())
	}
}
