package run

import (
	"cmp"
	"slices"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/recovery"
)

// phase is where a stream is for a client.
type phase uint8

const (
	unseen  phase = iota // nothing of it has come
	open                 // admitted
	dropped              // at its start
	reset                // begun and given up
)

// sending is a stream of a client: what the datapath knows of it, and its sender in userspace.
type sending struct {
	order     uint32
	low       int32 // no piece before it is pending
	come      int32 // pieces that have come to the relay
	pending   int32 // of them, not in flight
	acked     int32
	rxNext    int32 // the subscriber has all pieces before it
	at        int32 // the object that it was dropped or reset at
	phase     phase
	why       cause
	queued    bool
	resetSent bool
	rxReset   bool
}

// Flags of a piece for a client.
const (
	pieceCome   = 1 << iota // to the relay, and admitted
	pieceFlight             // sent, and not declared lost
	pieceAcked
	pieceEver // sent once
	pieceGot  // the subscriber has it
)

func (c *client) importance(track, publisher uint8) uint16 {
	return datapath.Importance(c.subscriber[track], publisher)
}

// egress is the datapath's part for one piece that came from the publisher, in the order of docs/rules.md.
func (c *client) egress(n int32) {
	w := c.w
	p := &w.program.pieces[n]
	x := &w.program.streams[p.stream]
	s := &c.streams[p.stream]
	importance := c.importance(x.track, x.priority)
	o := &w.program.objects[p.object]
	first := n == x.first || w.program.pieces[n-1].object != p.object
	if first {
		c.stats.came[o.class]++
	}
	begins := s.phase == unseen
	reason := datapath.ReasonDropStream
	if s.phase == unseen || s.phase == open {
		var cut bool
		reason, cut = c.space.Admit(uint64(w.now), &datapath.Offer{
			Importance: importance, Group: x.group, Sample: uint64(p.stream), Size: uint64(p.size), Started: !begins, Cut: c.cut[x.track],
		})
		if cut {
			c.cut[x.track] = max(c.cut[x.track], x.group+1)
		}
	}
	c.meter.Offer(w.since(), importance, uint64(x.track), x.group, uint64(p.stream), int(p.size), reason)
	switch {
	case s.phase == dropped || s.phase == reset:
		return
	case reason.Dropped() && begins:
		s.phase, s.why, s.at = dropped, causeOf(reason), p.object
		c.stats.dropped[s.why]++
		w.trace(c, p.stream, s)
		return
	case reason.Dropped():
		c.giveUp(p.stream, causeOf(reason), p.object)
		return
	case begins:
		s.phase, s.order = open, c.order
		c.order++
		c.live = append(c.live, p.stream)
	}
	if first {
		c.until[p.object] = c.useful(importance)
	}
	c.space.ChargePlan(uint64(w.now), uint64(p.size))
	c.pieces[n] |= pieceCome
	s.come++
	if c.space.Budget(uint64(w.now), maxSize) != datapath.Forwarded || c.space.Waits(importance) {
		s.pending++
		c.held += uint64(p.size)
		s.low = min(s.low, n-x.first)
		if c.held > maxUnacked {
			c.giveUp(p.stream, causeBehind, p.object)
			return
		}
		c.schedule(p.stream)
		return
	}
	c.pieces[n] |= pieceFlight | pieceEver
	if s.pending == 0 {
		s.low = n - x.first + 1
	}
	c.stats.forwarded++
	c.transmit(headers+frameSize(p.stream, p), recovery.Ours, contents{pieces: [maxFrames]int32{n}, n: 1})
}

// maxUnacked is how much of a client's media userspace holds at most, as quicadapt.Config.MaxUnacked.
const maxUnacked = 16 << 20

// useful returns until when an object that comes now is useful: for the subscriber's delivery timeout, or the MaxAge of its band.
func (c *client) useful(importance uint16) int64 {
	age := c.w.timeout
	for i := range c.policy.Bands {
		if b := &c.policy.Bands[i]; importance <= b.UpTo {
			if b.MaxAge > 0 {
				age = min(age, int64(b.MaxAge))
			}
			break
		}
	}
	return c.w.now + age
}

// deadline returns when a stream is reset if it still has something to send: when the oldest object of which something is pending is not
// useful any more.
func (c *client) deadline(n int32) int64 { return c.until[c.oldest(n)] }

// oldest returns the oldest object of which something is pending. Something of the stream is.
func (c *client) oldest(n int32) int32 {
	s, first := &c.streams[n], c.w.program.streams[n].first
	for c.pieces[first+s.low]&(pieceCome|pieceFlight|pieceAcked) != pieceCome {
		s.low++
	}
	return c.w.program.pieces[first+s.low].object
}

// expire resets the streams past their deadlines that have something to send, and forgets those that are done.
func (c *client) expire() {
	if c.expiry == 0 || c.w.now < c.expiry {
		return
	}
	c.expiry = 0
	kept := c.live[:0]
	for _, n := range c.live {
		s := &c.streams[n]
		if s.phase != open || s.acked == c.w.program.streams[n].pieces {
			continue
		}
		kept = append(kept, n)
		if s.pending == 0 {
			continue
		}
		if at := c.deadline(n); at <= c.w.now {
			kept = kept[:len(kept)-1]
			c.giveUp(n, causeAge, c.oldest(n))
		} else if c.expiry == 0 || at < c.expiry {
			c.expiry = at
		}
	}
	c.live = kept
}

// giveUp resets a stream at an object.
func (c *client) giveUp(n int32, why cause, object int32) {
	s := &c.streams[n]
	if s.phase != open {
		return
	}
	x := &c.w.program.streams[n]
	for i := x.first; s.pending > 0 && i < x.first+x.pieces; i++ {
		if c.pieces[i]&(pieceCome|pieceFlight|pieceAcked) == pieceCome {
			s.pending--
			c.held -= uint64(c.w.program.pieces[i].size)
		}
	}
	s.phase, s.why, s.at, s.pending = reset, why, object, 0
	c.stats.reset[why]++
	c.w.trace(c, n, s)
	c.schedule(n)
}

func (s *sending) needs() bool {
	return s.phase == reset && !s.resetSent || s.phase == open && s.pending > 0
}

// schedule puts a stream in the queue of those that have something to send.
func (c *client) schedule(n int32) {
	s := &c.streams[n]
	if s.queued || !s.needs() {
		return
	}
	if s.phase == open {
		at := c.deadline(n)
		if at <= c.w.now {
			c.giveUp(n, causeAge, c.oldest(n)) // comes back here
			return
		}
		if c.expiry == 0 || at < c.expiry {
			c.expiry = at
		}
	}
	s.queued = true
	i, _ := slices.BinarySearchFunc(c.need, n, func(a, b int32) int {
		return cmp.Or(cmp.Compare(c.importanceOf(a), c.importanceOf(b)), cmp.Compare(c.streams[a].order, c.streams[b].order))
	})
	c.need = slices.Insert(c.need, i, n)
}

func (c *client) importanceOf(n int32) uint16 {
	x := &c.w.program.streams[n]
	return c.importance(x.track, x.priority)
}

func (c *client) ackPiece(n int32) {
	f := c.pieces[n]
	if f&pieceAcked != 0 {
		return
	}
	p := &c.w.program.pieces[n]
	s := &c.streams[p.stream]
	if f&pieceFlight == 0 && s.phase == open { // it had been declared lost
		s.pending--
		c.held -= uint64(p.size)
	}
	c.pieces[n] = f | pieceAcked | pieceFlight
	s.acked++
}

func (c *client) losePiece(n int32) {
	p := &c.w.program.pieces[n]
	s := &c.streams[p.stream]
	if c.pieces[n]&pieceAcked != 0 || c.pieces[n]&pieceFlight == 0 || s.phase != open {
		return
	}
	c.pieces[n] &^= pieceFlight
	s.pending++
	c.held += uint64(p.size)
	s.low = min(s.low, n-c.w.program.streams[p.stream].first)
	c.schedule(p.stream)
}

// flush sends what streams have to send, as far as the budget goes.
func (c *client) flush() {
	c.tellBudget()
	c.paceAt = 0
	for c.probes > 0 || len(c.need) > 0 {
		probe := c.probes > 0
		if !probe && !c.affordable() || !c.compose(probe) {
			break
		}
	}
	c.probes = 0
	c.tellWaiting()
	c.arm()
}

// tellWaiting lets nothing pass that is less important than what the budget keeps waiting.
func (c *client) tellWaiting() {
	for len(c.need) > 0 {
		n := c.need[0]
		if c.streams[n].needs() {
			c.space.SetWaiting(uint32(c.importanceOf(n)))
			return
		}
		c.streams[n].queued = false
		c.need = c.need[:copy(c.need, c.need[1:])]
	}
	c.space.SetWaiting(datapath.NothingWaits)
}

// resetSize is that of a RESET_STREAM frame.
const resetSize = 1 + 4 + 1 + 4

// compose sends one packet of what the streams in need have to send. It returns false if there is nothing.
func (c *client) compose(probe bool) bool {
	w := c.w
	var x contents
	room := maxSize - headers
	for len(c.need) > 0 && x.n < maxFrames {
		n := c.need[0]
		s := &c.streams[n]
		if !s.needs() {
			s.queued = false
			c.need = c.need[:copy(c.need, c.need[1:])]
			continue
		}
		if s.phase == reset {
			if room < resetSize {
				break
			}
			s.resetSent = true
			room -= resetSize
			x.pieces[x.n] = -1 - n
			x.n++
			continue
		}
		c.oldest(n)
		i := w.program.streams[n].first + s.low
		p := &w.program.pieces[i]
		size := frameSize(n, p)
		if size > room {
			break
		}
		room -= size
		if c.pieces[i]&pieceEver != 0 {
			c.stats.resent += uint64(p.size)
			c.space.ChargePlan(uint64(w.now), uint64(p.size))
		}
		c.pieces[i] |= pieceFlight | pieceEver
		s.low++
		s.pending--
		c.held -= uint64(p.size)
		x.pieces[x.n] = i
		x.n++
	}
	if x.n == 0 {
		if !probe {
			return false
		}
		room-- // PING
	}
	if probe {
		c.probes--
		c.stats.probes++
	}
	c.stats.repairs++
	c.transmit(maxSize-room, recovery.Ours, x)
	return true
}
