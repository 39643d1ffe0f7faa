package recovery

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// reference is RFC 9002, appendix A, written down for one packet number space without a thought of cost: all packets in one
// list, searched for everything.
type reference struct {
	packets      []*refPacket
	largestAcked int64 // -1: none
	latest, smoothed, variance, min,
	maxAckDelay int64
	ptoCount      int
	lastEliciting int64
	firstSample   int64
	acked, lost   []uint64 // in this step
	persistent    bool
	anewMin       bool
}

type refPacket struct {
	number   uint64
	sent     int64
	size     int
	kind     Kind
	gone     bool // acknowledged
	lost     bool
	oldPath  bool
	everLost bool
}

func (r *reference) send(p refPacket) {
	r.packets = append(r.packets, &p)
	slices.SortFunc(r.packets, func(a, b *refPacket) int { return int(a.number) - int(b.number) })
	if p.kind != Silent {
		r.lastEliciting = max(r.lastEliciting, p.sent)
	}
}

func (r *reference) inFlight() (bytes uint64) {
	for _, p := range r.packets {
		if p.kind != Silent && !p.gone && !p.lost && !p.oldPath {
			bytes += uint64(p.size)
		}
	}
	return bytes
}

func (r *reference) onAck(now int64, numbers map[uint64]bool, largest uint64, ackDelay int64) {
	eliciting, newLargest := false, (*refPacket)(nil)
	none := true
	for _, p := range r.packets {
		if p.gone || !numbers[p.number] {
			continue
		}
		none = false
		p.gone = true
		r.acked = append(r.acked, p.number)
		eliciting = eliciting || p.kind != Silent
		if p.number == largest {
			newLargest = p
		}
	}
	r.largestAcked = max(r.largestAcked, int64(largest))
	if none {
		return
	}
	if newLargest != nil && eliciting && !newLargest.oldPath {
		r.updateRTT(now-newLargest.sent, ackDelay)
		if r.firstSample == 0 {
			r.firstSample = now
		}
	}
	r.detect(now)
	r.ptoCount = 0
}

func (r *reference) updateRTT(latest, ackDelay int64) {
	r.latest = max(latest, 1)
	if r.smoothed == 0 {
		r.min, r.smoothed, r.variance = r.latest, r.latest, r.latest/2
		return
	}
	if r.anewMin {
		r.min, r.anewMin = r.latest, false
	}
	r.min = min(r.min, r.latest)
	ackDelay = min(ackDelay, r.maxAckDelay)
	adjusted := r.latest
	if r.latest >= r.min+ackDelay {
		adjusted = r.latest - ackDelay
	}
	diff := r.smoothed - adjusted
	if diff < 0 {
		diff = -diff
	}
	r.variance += (diff - r.variance) / 4
	r.smoothed = max(r.smoothed+(adjusted-r.smoothed)/8, 1)
}

func (r *reference) lossDelay() int64 {
	if r.smoothed == 0 {
		return max(initialRTT*9/8, granularity)
	}
	return max(max(r.latest, r.smoothed)*9/8, granularity)
}

func (r *reference) pto() int64 {
	if r.smoothed == 0 {
		return initialRTT + 2*initialRTT + r.maxAckDelay
	}
	return r.smoothed + max(4*r.variance, granularity) + r.maxAckDelay
}

func (r *reference) detect(now int64) {
	for _, p := range r.packets {
		if p.kind == Silent || p.gone || p.lost || int64(p.number) > r.largestAcked {
			continue
		}
		if r.largestAcked >= int64(p.number)+3 || p.sent+r.lossDelay() <= now {
			p.lost, p.everLost = true, true
			r.lost = append(r.lost, p.number)
			r.persistent = r.persistent || r.persists(p)
		}
	}
	r.anewMin = r.anewMin || r.persistent
}

// persists: is there a lost packet that, with this one, spans the duration, and nothing acknowledged between?
func (r *reference) persists(last *refPacket) bool {
	usable := func(p *refPacket) bool {
		return p.lost && !p.gone && !p.oldPath && p.kind != Silent && p.kind != MTUProbe && r.firstSample > 0 && p.sent > r.firstSample
	}
	if !usable(last) {
		return false
	}
	for _, first := range r.packets {
		if !usable(first) || last.sent-first.sent <= 3*r.pto() || first.number > last.number {
			continue
		}
		broken := false
		for _, p := range r.packets {
			broken = broken || p.gone && p.number > first.number && p.number < last.number
		}
		if !broken {
			return true
		}
	}
	return false
}

// deadline is SetLossDetectionTimer of appendix A.8.
func (r *reference) deadline() int64 {
	earliest, ours := int64(0), false
	for _, p := range r.packets {
		if p.kind == Silent || p.gone || p.lost {
			continue
		}
		ours = ours || p.kind == Ours
		if int64(p.number) <= r.largestAcked {
			if t := p.sent + r.lossDelay(); earliest == 0 || t < earliest {
				earliest = t
			}
		}
	}
	switch {
	case earliest != 0:
		return earliest
	case ours:
		return r.lastEliciting + r.pto()<<r.ptoCount
	}
	return 0
}

// recorder notes what a Sender tells its handler and its controller.
type recorder struct {
	acked, lost []uint64
	ccAcked     int
	ccLost      int
	persistent  bool
	samples     []congestion.Sample
}

func (r *recorder) OnAcked(p *Packet[int])           { r.acked = append(r.acked, p.Number) }
func (r *recorder) OnLost(p *Packet[int])            { r.lost = append(r.lost, p.Number) }
func (r *recorder) clear()                           { *r = recorder{samples: r.samples[:0]} }
func (r *recorder) controller() *recordingController { return &recordingController{r} }
func newSender(first uint64) (*Sender[int], *recorder) {
	r := &recorder{}
	return New(first, Handler[int](r), r.controller()), r
}

type recordingController struct{ r *recorder }

func (c *recordingController) OnSent(congestion.Packet, uint64)         {}
func (c *recordingController) OnAcked(int64, congestion.Packet, uint64) { c.r.ccAcked++ }
func (c *recordingController) OnLost(int64, congestion.Packet)          { c.r.ccLost++ }
func (c *recordingController) OnPersistentCongestion(int64)             { c.r.persistent = true }
func (c *recordingController) OnAck(_ int64, s congestion.Sample) {
	c.r.samples = append(c.r.samples, s)
}
func (c *recordingController) SetDatagramSize(int) {}
func (c *recordingController) Window() uint64      { return 12000 }
func (c *recordingController) Rate(int64) uint64   { return 0 }

// TestAgainstReference plays random sends (known late and out of order), acknowledgments, timers, failures and changes of
// path into a Sender and into the reference.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, rec := newSender(5)
		s.RTT.MaxAckDelay, s.RTT.Confirmed = 25*ms, true
		ref := &reference{largestAcked: -1, maxAckDelay: 25 * ms}
		now, next := int64(1), uint64(5)
		pathFirst := uint64(5)
		var held []refPacket // sent, and not known yet
		var known []uint64
		tell := func(p refPacket) {
			s.Add(p.number, p.sent, p.size, p.kind)
			p.oldPath = p.number < pathFirst
			ref.send(p)
			known = append(known, p.number)
		}
		drain := func() {
			for len(held) > 0 {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "drained")
				tell(held[i])
				held = slices.Delete(held, i, i+1)
			}
		}
		send := func(t *rapid.T) {
			for range rapid.IntRange(1, 8).Draw(t, "packets") {
				if next > 400 {
					return
				}
				now += rapid.Int64Range(0, 3*ms).Draw(t, "gap")
				p := refPacket{
					number: next, sent: now, size: rapid.IntRange(40, 1452).Draw(t, "size"),
					kind: rapid.SampledFrom([]Kind{Silent, Eliciting, MTUProbe, Ours, Ours, Ours}).Draw(t, "kind"),
				}
				next++
				if rapid.Bool().Draw(t, "late") {
					held = append(held, p)
				} else {
					tell(p)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": send,
			"burst after a pause": func(t *rapid.T) {
				now += rapid.Int64Range(0, 2000*ms).Draw(t, "pause")
				send(t)
			},
			"skip": func(*rapid.T) { s.Skip(next); next++ },
			"ack": func(t *rapid.T) {
				drain()
				if len(known) == 0 {
					return
				}
				slices.Sort(known)
				numbers := make(map[uint64]bool)
				var ranges []wire.AckRange
				share := rapid.IntRange(0, 10).Draw(t, "share")
				for _, n := range slices.Backward(known) {
					if rapid.IntRange(0, 10).Draw(t, "in") > share {
						continue
					}
					numbers[n] = true
					if k := len(ranges); k > 0 && ranges[k-1].Smallest == n+1 {
						ranges[k-1].Smallest = n
					} else {
						ranges = append(ranges, wire.AckRange{Smallest: n, Largest: n})
					}
				}
				if len(ranges) == 0 {
					return
				}
				now += rapid.Int64Range(0, 80*ms).Draw(t, "pass")
				delay := rapid.Int64Range(0, 60*ms).Draw(t, "delay")
				if err := s.OnAck(now, ranges, delay); err != nil {
					t.Fatal(err)
				}
				ref.onAck(now, numbers, ranges[0].Largest, delay)
			},
			"timer": func(t *rapid.T) {
				drain()
				at := s.Deadline()
				if at == 0 {
					return
				}
				now = max(now, at+rapid.Int64Range(0, ms).Draw(t, "late"))
				lossTimer := s.lossTime != 0
				probes := s.OnTimer(now)
				if lossTimer {
					ref.detect(now)
				} else {
					ref.ptoCount = min(ref.ptoCount+1, maxBackoff)
					ref.lastEliciting = now
					if probes != 2 {
						t.Fatalf("%d probes", probes)
					}
				}
			},
			"change of path": func(t *rapid.T) {
				if !rapid.Bool().Draw(t, "really") {
					return
				}
				s.ChangePath(now, next, rec.controller())
				pathFirst = next
				for _, p := range ref.packets {
					p.oldPath = true
				}
				ref.latest, ref.smoothed, ref.variance, ref.min, ref.ptoCount, ref.firstSample = 0, 0, 0, 0, 0, 0
				ref.detect(now)
			},
			"": func(t *rapid.T) {
				slices.Sort(rec.acked)
				slices.Sort(ref.acked)
				if !slices.Equal(rec.acked, ref.acked) || !slices.Equal(rec.lost, ref.lost) {
					t.Fatalf("acknowledged %v, want %v; lost %v, want %v", rec.acked, ref.acked, rec.lost, ref.lost)
				}
				if rec.persistent && !ref.persistent {
					t.Fatal("persistent congestion that the reference does not see")
				}
				if s.InFlight() != ref.inFlight() {
					t.Fatalf("%d bytes in flight, want %d", s.InFlight(), ref.inFlight())
				}
				if got := s.RTT; got.Smoothed != ref.smoothed || got.Var != ref.variance || got.Latest != ref.latest {
					t.Fatalf("RTT %+v, want smoothed %d var %d latest %d", got, ref.smoothed, ref.variance, ref.latest)
				}
				// The minimum follows what the Sender calls persistent, which is at most what the reference does.
				if rec.persistent == ref.persistent && s.RTT.Min != ref.min {
					t.Fatalf("minimum RTT %d, want %d", s.RTT.Min, ref.min)
				}
				ref.min, ref.anewMin = s.RTT.Min, s.anewMin
				if s.Deadline() != ref.deadline() {
					t.Fatalf("deadline %d, want %d", s.Deadline(), ref.deadline())
				}
				if uint64(s.left)+s.inFlight != totalSent(ref) {
					t.Fatalf("left %d and in flight %d are not the %d sent", s.left, s.inFlight, totalSent(ref))
				}
				checkList(t, s)
				rec.clear()
				ref.acked, ref.lost, ref.persistent = nil, nil, false
			},
		})
	})
}

func totalSent(r *reference) (n uint64) {
	for _, p := range r.packets {
		n += uint64(p.size)
	}
	return n
}

// checkList: the links name exactly the packets that are not acknowledged, in order, both ways.
func checkList(t *rapid.T, s *Sender[int]) {
	var forward, want []uint64
	for p := s.following(s.head); p != nil; p = s.following(p.next) {
		forward = append(forward, p.Number)
	}
	for n := s.base; n < s.end; n++ {
		if p := s.at(n); p.state == sent || p.state == lost || p.state == skipped {
			want = append(want, n)
		}
	}
	if !slices.Equal(forward, want) {
		t.Fatalf("linked %v, not acknowledged %v", forward, want)
	}
	var back []uint64
	for link := s.tail; link != 0; link = s.at(link - 1).prev {
		back = append(back, link-1)
	}
	slices.Reverse(back)
	if !slices.Equal(back, want) {
		t.Fatalf("linked backwards %v, not acknowledged %v", back, want)
	}
}
