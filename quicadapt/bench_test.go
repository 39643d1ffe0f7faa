package quicadapt

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// benchConn is a joined connection without a peer.
func benchConn() *conn {
	b := &Boundary{cfg: Config{}.withDefaults(), start: time.Now(), woken: make(chan struct{}, 1)}
	c := newConn(b, netip.MustParseAddrPort("192.0.2.1:1"), false)
	c.startTranslating()
	c.joined = true
	c.maxData = 1 << 60
	c.recovery.maxAckDelay = 25e6
	return c
}

// forwardMany records count packets of one stream, and acknowledges them two at a time, as a stock peer does.
func forwardMany(c *conn, rec *datapath.Record, offset *uint64, count int) {
	for i := range count {
		rec.Number = c.space.TakeNumber()
		rec.Frames[0].Offset = *offset
		*offset += 1200
		c.record(rec)
		if i%2 == 1 {
			b := wire.AppendAck(c.plain[:0], []wire.AckRange{{Smallest: 0, Largest: rec.Number}}, 10, nil)
			c.frame.Parse(b)
			c.onAck(c.built[:0], int64(time.Millisecond))
		}
	}
}

// BenchmarkRecordToAck is the cost in userspace of a packet that the datapath forwarded: registered and acknowledged.
func BenchmarkRecordToAck(b *testing.B) {
	c := benchConn()
	c.streams[3] = &FastStream{c: c, id: 3}
	rec := &datapath.Record{Time: c.b.start, Frames: []datapath.RecordFrame{{ClientStream: 3, Length: 1200}}}
	offset := uint64(0)
	forwardMany(c, rec, &offset, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	forwardMany(c, rec, &offset, b.N)
}

func TestRecordToAckDoesNotAllocate(t *testing.T) {
	c := benchConn()
	c.streams[3] = &FastStream{c: c, id: 3}
	rec := &datapath.Record{Time: c.b.start, Frames: []datapath.RecordFrame{{ClientStream: 3, Length: 1200}}}
	offset := uint64(0)
	forwardMany(c, rec, &offset, 1000)
	if n := testing.AllocsPerRun(100, func() { forwardMany(c, rec, &offset, 10) }); n > 0 {
		t.Errorf("%v allocations for 10 packets", n)
	}
	if c.stats.LostPackets > 0 || c.registry.media > 1 {
		t.Errorf("lost %d, in flight %d", c.stats.LostPackets, c.registry.media)
	}
}
