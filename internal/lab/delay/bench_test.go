package delay

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// BenchmarkAnalyze is 20 s of video at 5 Mbit/s for 20 subscribers, a stream per frame, in the clear.
func BenchmarkAnalyze(b *testing.B) {
	const subscribers, frames, packets, size = 20, 500, 21, 1200
	s := newScene()
	subs := make([]*synthConn, subscribers)
	for i := range subs {
		subs[i] = newSynth(&s.in.Subscriber, fmt.Sprintf("10.0.0.4:%d", 1000+i), "10.0.0.2:4433", []byte("sub"), []byte("relay"), epoch)
		s.accept(subs[i], incoming, subAlias, epoch)
	}
	content := string(bytes.Repeat([]byte("x"), packets*size))
	send := func(c *synthConn, d direction, id, alias, group uint64, at time.Time) {
		data := s.stream(alias, group, content)
		for off := 0; off < len(data); off += size {
			part := data[off:min(len(data), off+size)]
			c.send(at.Add(time.Duration(off)), d, wire.AppendStream(nil, id, uint64(off), part, false, true))
		}
	}
	for g := range uint64(frames) {
		at := ms(10 + int(g)*40)
		send(s.pub, outgoing, g<<2|2, pubAlias, g, at)
		for i, c := range subs {
			send(c, incoming, g<<2|3, subAlias, g, at.Add(time.Duration(10*i)*time.Microsecond))
		}
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(s.in.Publisher)+len(s.in.Subscriber)), "packets/op")
	for b.Loop() {
		r, err := Analyze(&s.in)
		if err != nil || r.Err() != nil || r.Total.N == 0 {
			b.Fatal(err, r.Err(), r.Total)
		}
	}
}
