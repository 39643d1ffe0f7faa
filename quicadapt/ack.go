package quicadapt

import (
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// maxAckRanges bounds the ranges of a translated ACK frame, so that it does not outgrow the packet. What does not fit is
// told with the next one.
const maxAckRanges = 32

// onAck processes the ACK frame in c.frame, and appends to out the one that quic-go gets instead, if any.
func (c *conn) onAck(out []byte, now int64) []byte {
	f := &c.frame
	c.ranges = f.AppendAckRanges(c.ranges[:0])
	largest := c.ranges[0].Largest
	if largest >= c.space.Next() {
		// Never sent: quic-go closes the connection, if it is told of a packet that it has not sent either.
		return wire.AppendAck(out, []wire.AckRange{{Smallest: c.nextOwn + 1<<20, Largest: c.nextOwn + 1<<20}}, 0, nil)
	}
	var newest *sentPacket
	newestAt, ownAt := int64(0), int64(0)
	own := c.ackPending
	pending := len(own)
	r := c.registry
	for _, a := range c.ranges {
		if a.Largest < r.base || r.base == r.end {
			break
		}
		for n := min(a.Largest, r.end-1); n >= max(a.Smallest, r.base); n-- {
			p := r.at(n)
			if p.acked || p.kind == kindNone {
				if n == 0 {
					break
				}
				continue
			}
			if newest == nil {
				newest, newestAt = p, p.at
				if n == largest {
					c.recovery.sample(now-p.at, int64(f.V[1])<<c.ackExponent*int64(time.Microsecond))
				}
			}
			if p.kind == kindOwn {
				if ownAt == 0 {
					ownAt = p.at
				}
				own = append(own, p.own)
			} else {
				for i := range p.frames[:p.n] {
					p.frames[i].stream.onAcked(&p.frames[i])
				}
			}
			r.done(p)
			if n == 0 {
				break
			}
		}
	}
	if newest != nil {
		c.recovery.backoff = 0
	}
	c.recovery.largest = max(c.recovery.largest, largest+1)
	c.recovery.lost(r, now, c.lostPacket)
	r.trim(largest)
	if c.recovery.lossTime != 0 {
		c.b.wake()
	}
	delay := f.V[1]
	if newestAt > ownAt && ownAt > 0 {
		// quic-go takes its largest packet for the one that made the peer acknowledge.
		delay += uint64(newestAt-ownAt) / uint64(time.Microsecond) >> c.ackExponent
	}
	c.ackPending = own
	return c.appendAck(out, f, delay, pending)
}

// appendAck appends the ACK frame for quic-go: its own numbers in c.ackPending, and what is below the first translated
// number, which needs no translation.
func (c *conn) appendAck(out []byte, f *wire.Frame, delay uint64, pending int) []byte {
	own := c.ackPending
	if pending > 0 {
		slices.Sort(own)
		own = slices.Compact(own)
		slices.Reverse(own)
	}
	rs := c.ackOut[:0]
	used := 0
	for used < len(own) {
		end := used + 1
		for end < len(own) && own[end]+1 == own[end-1] {
			end++
		}
		if len(rs) == maxAckRanges {
			break
		}
		rs = append(rs, wire.AckRange{Smallest: own[end-1], Largest: own[used]})
		used = end
	}
	c.ackPending = own[:copy(own, own[used:])]
	for _, a := range c.ranges {
		if a.Smallest >= c.firstNumber || len(rs) >= maxAckRanges {
			continue
		}
		a.Largest = min(a.Largest, c.firstNumber-1)
		if n := len(rs); n > 0 && rs[n-1].Smallest <= a.Largest+1 {
			rs[n-1].Smallest = min(rs[n-1].Smallest, a.Smallest)
			continue
		}
		rs = append(rs, a)
	}
	c.ackOut = rs
	if len(rs) == 0 {
		return out
	}
	var ecn *[3]uint64
	if f.Type == wire.FrameAckECN {
		a, b, ce := f.AckECN()
		ecn = &[3]uint64{a, b, ce}
	}
	return wire.AppendAck(out, rs, delay, ecn)
}

// lostPacket handles a media packet that is lost: what it carried is to be sent again.
func (c *conn) lostPacket(p *sentPacket) {
	c.stats.LostPackets++
	for i := range p.frames[:p.n] {
		p.frames[i].stream.onLost(&p.frames[i])
	}
	c.registry.done(p)
}

func durationOf(ns int64) time.Duration { return time.Duration(ns) }
