package quicadapt

import (
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// maxAckDelayField bounds what a peer may say of its delay, in microseconds: more than a day is a lie, and must not overflow.
const maxAckDelayField = 1 << 40

// maxAckFrames is how many ACK frames of a packet are processed. One is usual, and each may cost a look at all that is in flight.
const maxAckFrames = 4

// ackRangeSize is the most that a range takes of an ACK frame, and ackHeaderSize what the rest takes, ECN counts included.
const (
	ackRangeSize  = 16
	ackHeaderSize = 1 + 7*8
)

// onAck processes the ACK frame in c.frame, which is the index-th of the packet with a number, and appends to out the one that
// quic-go gets instead, if any: one for a packet, in at most room bytes. What has no place is told with the next.
func (c *conn) onAck(out []byte, number uint64, index, room int, now int64) []byte {
	if index >= maxAckFrames {
		return out
	}
	f := &c.frame
	c.ranges = f.AppendAckRanges(c.ranges[:0])
	if c.ranges[0].Largest >= c.space.Next() {
		return c.neverSent(out)
	}
	exponent := c.ackExponent
	delay := min(f.V[1], maxAckDelayField>>exponent) << exponent * uint64(time.Microsecond)
	c.ackNewest, c.ackOwn = -1, -1
	if c.loss.OnAck(now, c.ranges, int64(delay)) != nil {
		return c.neverSent(out)
	}
	if c.loss.Deadline() != 0 {
		c.b.wakeBy(c.loss.Deadline())
	}
	if c.ackOwn >= 0 {
		// quic-go takes its largest packet for the one that made the peer acknowledge.
		c.ownAcks.noteDelay(now, delay+uint64(max(c.ackNewest-c.ackOwn, 0)))
	}
	if index > 0 {
		return out
	}
	most := min(maxAckRanges, max(room-ackHeaderSize, 0)/ackRangeSize)
	if room >= len(f.Raw) {
		most = max(most, 1) // as large as the one that it replaces, or nearly
	}
	told, ownDelay := c.ownAcks.tell(number, most, now)
	rs := append(c.ackOut[:0], told...)
	for _, a := range c.ranges { // numbers that need no translation
		if a.Smallest >= c.firstNumber || len(rs) >= most {
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
	if len(told) > 0 {
		delay = ownDelay
	}
	var ecn *[3]uint64
	if f.Type == wire.FrameAckECN {
		// Only quic-go marks its packets, so the counts are those of its own.
		a, b, ce := f.AckECN()
		c.ecn = [3]uint64{a, b, ce}
		ecn = &c.ecn
	}
	return wire.AppendAck(out, rs, delay/uint64(time.Microsecond)>>exponent, ecn)
}

// neverSent has quic-go close the connection with PROTOCOL_VIOLATION: it is told of a packet that it has not sent either.
func (c *conn) neverSent(out []byte) []byte {
	never := c.nextOwn + 1<<20
	return wire.AppendAck(out, []wire.AckRange{{Smallest: never, Largest: never}}, 0, nil)
}

// recordsRead says whether every packet that the ACK frames in a payload name, and that was numbered, is known. With
// drained what is not will never be: its number was taken and not used.
func (c *conn) recordsRead(payload []byte, drained bool) bool {
	f := &c.frame
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			return true
		}
		at += n
		if !f.IsAck() || f.V[0] >= c.space.Next() {
			continue // numbers that nobody sent are onAck's to find
		}
		if drained {
			c.known = max(c.known, f.V[0]+1)
		} else if c.missing(f.V[0]) {
			return false
		}
	}
	return true
}

// missing says whether a number up to largest was taken from the space and is not known.
func (c *conn) missing(largest uint64) bool {
	for c.known = max(c.known, c.loss.Base()); c.known <= largest; c.known++ {
		if !c.loss.Seen(c.known) {
			return true
		}
	}
	return false
}

func durationOf(ns int64) time.Duration { return time.Duration(ns) }
