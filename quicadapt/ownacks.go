package quicadapt

import (
	"slices"

	"github.com/fastrelay/fastrelay/internal/wire"
)

const (
	// maxAckRanges bounds the ranges of a translated ACK frame, so that it does not outgrow the packet.
	maxAckRanges = 32
	// maxUnprocessed bounds the ranges that wait for quic-go. Below them the oldest are given up; quic-go has long done so.
	maxUnprocessed = 256
	// ackCarriers is how many packets are remembered by what they told.
	ackCarriers = 32
)

// ownAcks holds the numbers of quic-go's that the peer has acknowledged, until quic-go has processed an ACK frame that
// names them: what did not fit one frame, or was in a packet that quic-go dropped from a full queue, is told again with
// the next. It is a state machine without I/O; times are nanoseconds of one clock.
type ownAcks struct {
	unprocessed ranges
	carriers    [ackCarriers]ackCarrier
	next        int
	out         []wire.AckRange
	// The largest number and how long ago the peer got it by its own account, for quic-go's RTT: its ack_delay, and when it came.
	largest, delay uint64 // number + 1; delay in nanoseconds
	at             int64
}

// ackCarrier is a packet for quic-go with an ACK frame.
type ackCarrier struct {
	number uint64
	told   ranges
}

func (a *ownAcks) add(number uint64) {
	if len(a.unprocessed) >= maxUnprocessed {
		a.unprocessed = append(a.unprocessed[:0], a.unprocessed[1:]...)
	}
	a.unprocessed.add(number, number+1)
}

// noteDelay notes when the largest number was first acknowledged, and the delay that counts for it.
func (a *ownAcks) noteDelay(now int64, delay uint64) {
	if n := len(a.unprocessed); n > 0 && a.unprocessed[n-1].hi > a.largest {
		a.largest, a.delay, a.at = a.unprocessed[n-1].hi, delay, now
	}
}

// tell returns the ranges for the packet with a number of the peer's, as many as there is room for, the largest first, and the delay
// of the largest.
func (a *ownAcks) tell(carrier uint64, room int, now int64) (out []wire.AckRange, delay uint64) {
	told := a.unprocessed[max(0, len(a.unprocessed)-room):]
	if len(told) == 0 {
		return nil, 0
	}
	c := &a.carriers[a.next]
	a.next = (a.next + 1) % ackCarriers
	c.number, c.told = carrier, append(c.told[:0], told...)
	a.out = a.out[:0]
	for _, r := range slices.Backward(told) {
		a.out = append(a.out, wire.AckRange{Smallest: r.lo, Largest: r.hi - 1})
	}
	if told[len(told)-1].hi == a.largest {
		delay = a.delay + uint64(max(now-a.at, 0))
	}
	return a.out, delay
}

// processed notes that quic-go has processed a packet.
func (a *ownAcks) processed(carrier uint64) {
	for i := range a.carriers {
		c := &a.carriers[i]
		if c.number != carrier || len(c.told) == 0 {
			continue
		}
		for _, r := range c.told {
			a.unprocessed.remove(r.lo, r.hi)
		}
		c.told = c.told[:0]
		return
	}
}
