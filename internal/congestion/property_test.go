package congestion_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// leastWindow is the smallest window of each controller, in datagrams.
var leastWindow = map[string]uint64{"newreno": 2, "cubic": 2, "bbr": 4, "scream": 2}

func TestRegistry(t *testing.T) {
	if got := congestion.Names(); !slices.Equal(got, []string{"bbr", "cubic", "newreno", "scream"}) {
		t.Fatalf("names %v", got)
	}
	for _, name := range append(congestion.Names(), "") {
		c, err := congestion.New(name, datagram, 32)
		if err != nil || c.Window() != 32*datagram {
			t.Errorf("%q: %v, %v", name, c, err)
		}
		c.SetDatagramSize(1452)
		if c.Window() != 32*1452 {
			t.Errorf("%q: window %d after path MTU discovery", name, c.Window())
		}
	}
	_, err := congestion.New("vegas", datagram, 0)
	if err == nil || !strings.Contains(err.Error(), `"vegas"`) || !strings.Contains(err.Error(), "bbr, cubic, newreno, scream") {
		t.Errorf("error %v", err)
	}
}

// TestBounds: no controller leaves its bounds, nor stops while an RTT is known, whatever it is told: window from its least to the largest, rate not 0.
func TestBounds(t *testing.T) {
	for _, name := range congestion.Names() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				size := rapid.IntRange(0, 70000).Draw(t, "size of datagrams")
				c, err := congestion.New(name, size, rapid.IntRange(-1, 2000).Draw(t, "initial"))
				if err != nil {
					t.Fatal(err)
				}
				now := rapid.Int64Range(0, 100*second).Draw(t, "now")
				bytes := rapid.OneOf(rapid.Uint64Range(0, 1<<17), rapid.Uint64Range(0, 1<<40), rapid.Uint64())
				times := rapid.OneOf(rapid.Int64Range(0, second), rapid.Int64Range(0, math.MaxInt64/4))
				packet := rapid.Custom(func(t *rapid.T) congestion.Packet {
					return congestion.Packet{
						Sent: times.Draw(t, "sent"), Size: rapid.IntRange(0, 1<<16).Draw(t, "size"), InFlight: bytes.Draw(t, "in flight"),
						Delivered: bytes.Draw(t, "delivered"), Lost: bytes.Draw(t, "lost"), AppLimited: rapid.Bool().Draw(t, "limited"),
					}
				})
				t.Repeat(map[string]func(*rapid.T){
					"time":  func(t *rapid.T) { now += rapid.Int64Range(0, 10*second).Draw(t, "pass") },
					"sent":  func(t *rapid.T) { c.OnSent(packet.Draw(t, "packet"), bytes.Draw(t, "in flight")) },
					"acked": func(t *rapid.T) { c.OnAcked(now, packet.Draw(t, "packet"), bytes.Draw(t, "in flight")) },
					"lost":  func(t *rapid.T) { c.OnLost(now, packet.Draw(t, "packet")) },
					"ack": func(t *rapid.T) {
						c.OnAck(now, congestion.Sample{
							RTT: times.Draw(t, "rtt"), Smoothed: times.Draw(t, "smoothed"), Min: times.Draw(t, "min"), AckDelay: times.Draw(t, "waited"),
							Delivered: bytes.Draw(t, "delivered"), Total: bytes.Draw(t, "total"), Rate: bytes.Draw(t, "rate"),
							AppLimited: rapid.Bool().Draw(t, "limited"), Newest: packet.Draw(t, "newest"), Lost: bytes.Draw(t, "lost"),
							InFlight: bytes.Draw(t, "in flight"),
						})
					},
					"persistent congestion": func(*rapid.T) { c.OnPersistentCongestion(now) },
					"datagram size":         func(t *rapid.T) { size = rapid.IntRange(-1, 70000).Draw(t, "size"); c.SetDatagramSize(size) },
					"": func(t *rapid.T) {
						least := leastWindow[name] * uint64(min(max(size, 1), 1<<16))
						if w := c.Window(); w < least || w > congestion.MaxWindow {
							t.Fatalf("window %d, not %d to %d", w, least, congestion.MaxWindow)
						}
						if c.Rate(times.Draw(t, "rtt")+1) == 0 {
							t.Fatal("no rate")
						}
						if c.Rate(0) != 0 {
							t.Fatal("a rate without an RTT")
						}
					},
				})
			})
		})
	}
}

// TestNoAllocation: a packet that is sent, acknowledged, lost costs no memory.
func TestNoAllocation(t *testing.T) {
	for _, name := range congestion.Names() {
		c, err := congestion.New(name, datagram, 32)
		if err != nil {
			t.Fatal(err)
		}
		s := recovery.New(0, recovery.Handler[struct{}](&flow{bulk: true}), c)
		n, now := uint64(0), int64(0)
		ranges := make([]wire.AckRange, 1)
		step := func() {
			s.Add(n, now, datagram, recovery.Ours)
			now += ms
			if n%97 == 96 {
				s.Lose(n, now)
			} else if n >= 40 {
				ranges[0] = wire.AckRange{Smallest: n - 40, Largest: n - 40}
				if err := s.OnAck(now, ranges, 0); err != nil {
					t.Fatal(err)
				}
			}
			n++
		}
		for range 2000 {
			step()
		}
		if got := testing.AllocsPerRun(5000, step); got != 0 {
			t.Errorf("%s: %v allocations per packet", name, got)
		}
	}
}

// BenchmarkController is the cost of a packet that is sent and acknowledged, loss recovery included.
func BenchmarkController(b *testing.B) {
	for _, name := range congestion.Names() {
		b.Run(name, func(b *testing.B) {
			c, err := congestion.New(name, datagram, 32)
			if err != nil {
				b.Fatal(err)
			}
			s := recovery.New(0, recovery.Handler[struct{}](&flow{bulk: true}), c)
			now := int64(0)
			ranges := make([]wire.AckRange, 1)
			b.ReportAllocs()
			for n := range uint64(b.N) {
				s.Add(n, now, datagram, recovery.Ours)
				now += ms
				if n >= 40 {
					ranges[0] = wire.AckRange{Smallest: n - 40, Largest: n - 40}
					if err := s.OnAck(now, ranges, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
