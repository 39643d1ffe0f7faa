package run

import (
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// A subscriber's acknowledgments, as quic-go's: for every second packet that asks for one, after 25 ms at most, and at once when
// packets are missing.
const (
	ackEvery    = 2
	maxAckDelay = 25 * int64(time.Millisecond)
	maxRanges   = 32
)

// packet is one on its way to a subscriber.
type packet struct {
	number   uint64
	sent     int64
	contents contents
	kind     uint8 // recovery.Kind
}

// ack is an ACK frame on its way to the relay.
type ack struct {
	ranges []wire.AckRange // the largest first
	delay  int64
}

// receiver is what a subscriber knows.
type receiver struct {
	ranges    []wire.AckRange // ascending
	unacked   int             // packets that ask for an ACK and have none
	oldest    int64           // when the largest of them arrived
	timer     bool            // an ACK is due
	timerAt   int64
	delivered []int64 // per object: when it was whole; 0: not yet
	bytes     uint64  // of pieces, the first time
	again     uint64  // bytes that had come before
	control   samples
}

// receive takes a packet that reached its subscriber.
func (w *world) receive(c *client, slot int32) {
	p := &w.packets[slot]
	r := &c.receiver
	if n := len(r.ranges); n > 0 && r.ranges[n-1].Largest+1 == p.number {
		r.ranges[n-1].Largest++
	} else {
		if n == maxRanges {
			r.ranges = r.ranges[:copy(r.ranges, r.ranges[1:])]
		}
		r.ranges = append(r.ranges, wire.AckRange{Smallest: p.number, Largest: p.number})
		if n > 0 && p.kind != silent {
			r.unacked = ackEvery // something is missing
		}
	}
	for _, f := range p.contents.pieces[:p.contents.n] {
		c.take(w, f)
	}
	if m := p.contents.control; m > 0 {
		w.controlArrived(c, m)
	}
	if p.kind != silent {
		if r.unacked++; r.unacked >= ackEvery {
			w.acknowledge(c)
		} else if !r.timer {
			r.timer, r.timerAt = true, w.now+maxAckDelay
			w.agenda.add(r.timerAt, evAckTimer, c.index, 0)
		}
		r.oldest = w.now
	}
	w.freePackets = append(w.freePackets, slot)
}

// ackTimer sends the ACK that was put off.
func (w *world) ackTimer(c *client) {
	if r := &c.receiver; r.timer && w.now >= r.timerAt {
		r.timer = false
		if r.unacked > 0 {
			w.acknowledge(c)
		}
	}
}

// acknowledge sends an ACK.
func (w *world) acknowledge(c *client) {
	r := &c.receiver
	var slot int32
	if n := len(w.freeAcks); n > 0 {
		slot, w.freeAcks = w.freeAcks[n-1], w.freeAcks[:n-1]
	} else {
		slot = int32(len(w.acks))
		w.acks = append(w.acks, ack{ranges: make([]wire.AckRange, 0, maxRanges)})
	}
	a := &w.acks[slot]
	a.ranges = a.ranges[:0]
	for i := len(r.ranges) - 1; i >= 0; i-- {
		a.ranges = append(a.ranges, r.ranges[i])
	}
	a.delay = 0
	if r.oldest > 0 && r.unacked < ackEvery {
		a.delay = w.now - r.oldest
	}
	r.unacked, r.timer = 0, false
	w.agenda.add(w.now+c.returnDelay, evAck, c.index, slot)
}

// take notes a piece, or the reset of a stream.
func (c *client) take(w *world, f int32) {
	if f < 0 {
		c.streams[-1-f].rxReset = true
		return
	}
	p := &w.program.pieces[f]
	s := &c.streams[p.stream]
	if c.pieces[f]&pieceGot != 0 {
		c.receiver.again += uint64(p.size)
		return
	}
	c.pieces[f] |= pieceGot
	c.receiver.bytes += uint64(p.size)
	if s.rxReset {
		return // what comes after RESET_STREAM is not read (RFC 9000, section 3.2)
	}
	x := &w.program.streams[p.stream]
	for ; s.rxNext < x.pieces && c.pieces[x.first+s.rxNext]&pieceGot != 0; s.rxNext++ {
		q := &w.program.pieces[x.first+s.rxNext]
		if o := &w.program.objects[q.object]; o.last == s.rxNext {
			c.receiver.delivered[q.object] = w.now
			c.stats.whole[o.class]++
		}
	}
}

// controlArrived notes the first arrival of a control message.
func (w *world) controlArrived(c *client, m int32) {
	x := &c.controls[m-1]
	if x.arrived {
		return
	}
	x.arrived = true
	c.receiver.control.add(w.now - x.sent)
	x.inTime = w.now-x.sent <= 2*x.rtt
}
