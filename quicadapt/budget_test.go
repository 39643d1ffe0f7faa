package quicadapt

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// forwardOne is what a datapath does for one packet of size bytes: it charges it, and tells it, later if told is false.
func forwardOne(c *conn, size uint64) *datapath.Record {
	c.space.ChargeBudget(c.space.Now(), size)
	return &datapath.Record{Time: c.b.start.Add(1), Number: c.space.TakeNumber(), Size: uint16(size)}
}

// TestBudgetIsTheWindow: the datapath may send until as much is in flight as the window allows, whoever sent it, known or not;
// what is acknowledged, lost, or never counted makes room.
func TestBudgetIsTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := benchConn()
		c.skips.next = 1 << 60 // the peer here acknowledges all numbers
		c.tellBudget()
		var unknown []*datapath.Record
		inFlight := uint64(0)
		sizes := map[uint64]uint64{}
		now := int64(1e6)
		drain := func() {
			for _, r := range unknown {
				c.record(r)
			}
			unknown = nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"forward": func(t *rapid.T) {
				size := rapid.Uint64Range(40, 1200).Draw(t, "size")
				r := forwardOne(c, size)
				inFlight += size
				sizes[r.Number] = size
				unknown = append(unknown, r)
			},
			"own": func(t *rapid.T) {
				size := rapid.Uint64Range(40, 1200).Draw(t, "size")
				kind := rapid.SampledFrom([]recovery.Kind{recovery.Silent, recovery.Eliciting}).Draw(t, "kind")
				c.chargeOwn(int(size))
				n := c.space.TakeNumber()
				c.sent(n, now, int(size), kind)
				if kind == recovery.Eliciting {
					inFlight += size
					sizes[n] = size
				}
				c.tellBudget()
			},
			"ack": func(t *rapid.T) {
				drain()
				if c.space.Next() == 0 {
					return
				}
				now += 20e6
				largest := rapid.Uint64Range(0, c.space.Next()-1).Draw(t, "largest")
				c.frame.Parse(wire.AppendAck(nil, []wire.AckRange{{Smallest: 0, Largest: largest}}, 0, nil))
				c.onAck(nil, 1, 0, 1200, now)
				c.tellBudget()
				for n, size := range sizes {
					if n <= largest {
						inFlight -= size
						delete(sizes, n)
					}
				}
			},
			"failed": func(t *rapid.T) {
				drain()
				for n := range c.space.Next() {
					if size, ok := sizes[n]; ok && rapid.Bool().Draw(t, "this") {
						c.record(&datapath.Record{Reason: datapath.ReasonSendFailed, Number: n})
						inFlight -= size
						delete(sizes, n)
						return
					}
				}
			},
			"": func(t *rapid.T) {
				room := int64(c.loss.Window()) - int64(inFlight)
				c.space.SetPace(0, 0) // the window alone
				c.paceRate = 0
				if room > 0 && c.space.Budget(0, uint64(room)) != datapath.Forwarded {
					t.Fatalf("%d bytes fit in the window and not the budget", room)
				}
				if got := c.space.Budget(0, uint64(max(room, 0))+1); got != datapath.ReasonCongestionWindow {
					t.Fatalf("%d bytes more than the window: %v", 1, got)
				}
			},
		})
	})
}

// TestPaceOfAWindow: 1.25 windows in a smoothed RTT, and half a window at once.
func TestPaceOfAWindow(t *testing.T) {
	c := benchConn()
	c.loss.RTT.Sample(100e6, 0)
	c.tellBudget()
	burst := uint64(0)
	for c.space.Budget(0, 1) == datapath.Forwarded && burst < 1<<20 {
		c.space.ChargeBudget(0, 1200)
		c.space.SetSendLimit(datapath.Unlimited)
		burst++
	}
	if burst < initialWindow/2 || burst > initialWindow/2+1 {
		t.Errorf("%d packets at once, want %d", burst, initialWindow/2)
	}
	sent := 0
	for now := uint64(0); now < 1e9; now += 1e5 {
		for c.space.Budget(now, 1200) == datapath.Forwarded {
			c.space.ChargeBudget(now, 1200)
			sent++
		}
	}
	want := int(c.loss.Window() * 10 * 5 / 4 / 1200) // ten RTT in a second
	if sent < want*95/100 || sent > want+initialWindow {
		t.Errorf("%d packets in a second, want %d", sent, want)
	}
}

// TestRepairsWait: for the window until something leaves flight, for pacing until a time; probes wait for neither.
func TestRepairsWait(t *testing.T) {
	c := benchConn()
	secret := make([]byte, 32)
	c.deriveKeys(wire.SuiteAES128GCM, secret, secret)
	s := &FastStream{c: c, id: 3, slot: 1}
	c.streams[3] = s
	c.space.SetStreamLimit(1, 1<<40)
	var sent []uint64
	for c.affordable(1) {
		r := forwardOne(c, 1200)
		sent = append(sent, r.Number)
		c.record(r)
	}
	if c.paceAt != 0 {
		t.Fatal("the window is full, and a repair waits for a time")
	}
	s.chunks, s.end = [][]byte{make([]byte, 500)}, 500
	s.schedule()
	if c.compose(1, true) == nil {
		t.Fatal("a probe waits")
	}
	if c.affordable(1) {
		t.Fatal("a probe made room")
	}
	if !c.loss.Lose(sent[0], 2) || !c.loss.Lose(sent[1], 2) { // between them a number may have been skipped
		t.Fatal("packets are not known")
	}
	c.loss.RTT.Sample(1000e6, 0)
	c.tellBudget()
	for range 12 {
		c.space.ChargeBudget(c.space.Now(), 1200)
		c.sent(c.space.TakeNumber(), 2, 1200, recovery.Silent)
	}
	for n := range c.space.Next() {
		c.loss.Lose(n, 3)
	}
	if c.affordable(5) || c.paceAt <= 5 {
		t.Errorf("pacing does not hold a repair back, or for no time: %d", c.paceAt)
	}
}

// TestRepairsAreNotStarved: quic-go, which waits for neither window nor pace, sends as fast as it likes for a second; two packets of
// others may be in flight all the same, and one may leave as soon as the pace has room for it.
func TestRepairsAreNotStarved(t *testing.T) {
	c := benchConn()
	c.setMaxSize(1200)
	c.loss.RTT.Sample(50e6, 0)
	c.tellBudget()
	own := func() {
		for c.space.Sent() < c.loss.Limit()+20_000 {
			c.chargeOwn(1200)
			c.sent(c.space.TakeNumber(), c.b.now(), 1200, recovery.Eliciting)
		}
		c.tellBudget()
	}
	own()
	repair := func() {
		c.charge(1200, 0)
		c.sent(c.space.TakeNumber(), c.b.now(), 1200, recovery.Ours)
	}
	if !c.affordable(c.b.now()) {
		t.Fatal("a repair waits for the window, which quic-go keeps full")
	}
	repair()
	interval := 50e6 * 1200 / c.loss.Window() // of packets at a window per RTT
	if d := c.space.PaceDelay(c.space.Now(), 1200); d > interval {
		t.Fatalf("a repair waits for %d ns, where a packet takes %d", d, interval)
	}
	repair()
	if c.affordable(c.b.now()) || c.paceAt != 0 {
		t.Error("more than the least window is in flight")
	}
}

// TestRepairOrder: streams that have lost something first, then the more important one, of two the older, whatever became ready first.
func TestRepairOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := benchConn()
		for i := range rapid.IntRange(1, 20).Draw(t, "streams") {
			s := &FastStream{c: c, id: uint64(4*i + 3), rank: rapid.Uint16Range(0, 3).Draw(t, "importance"), order: rapid.Uint64Range(0, 50).Draw(t, "order")}
			s.end = 1
			s.schedule()
			s.schedule() // once is enough
			if rapid.Bool().Draw(t, "has lost something") {
				s.lost = append(s.lost, lostSpan{})
				s.schedule()
			}
			if rapid.Bool().Draw(t, "has repaired it") {
				s.lost = nil
				s.schedule()
			}
		}
		c.tellWaiting()
		for i := range c.need[1:] {
			a, b := c.need[i], c.need[i+1]
			late, next := len(a.lost) == 0, len(b.lost) == 0
			if a == b || late && !next || late == next && (a.rank > b.rank || a.rank == b.rank && a.order > b.order) {
				t.Fatalf("importance %d order %d losses %v comes before importance %d order %d losses %v", a.rank, a.order, !late, b.rank, b.order, !next)
			}
		}
		for _, s := range c.need {
			if !c.space.Waits(s.rank) {
				t.Fatalf("media of importance %d overtake what waits", s.rank)
			}
		}
		if least := slices.MinFunc(c.need, func(a, b *FastStream) int { return int(a.rank) - int(b.rank) }).rank; least > 0 && c.space.Waits(least-1) {
			t.Fatalf("media more important than %d wait", least)
		}
	})
}
