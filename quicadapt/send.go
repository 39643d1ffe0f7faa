package quicadapt

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// repairBurst is how many packets a connection sends for its fast streams at once. The rest waits for the next
// acknowledgment or timer.
const repairBurst = 32

// unlockAndSend composes packets for the streams that have something to send, unlocks c.mu, and sends them: no lock is
// held across a system call.
func (c *conn) unlockAndSend() {
	if len(c.need) == 0 || c.closed || !c.joined || c.wireOut == nil {
		c.mu.Unlock()
		return
	}
	var packets [][]byte
	now := c.b.now()
	for len(packets) < repairBurst && len(c.need) > 0 {
		p := c.compose(now)
		if p == nil {
			break
		}
		packets = append(packets, p)
	}
	to := udpAddr(c.remote)
	c.mu.Unlock()
	if len(packets) == 0 {
		return
	}
	c.b.wake() // the loss timer
	for _, p := range packets {
		if _, err := c.b.inner.WriteTo(p, to); err != nil {
			c.b.cfg.Logger.Debug("repair was not sent", "to", to, "err", err) // it is lost, and found so
		}
	}
}

// compose makes one packet of what the streams in c.need have to send, and takes a number for it. It returns nil if
// there is nothing, or no credit for it.
func (c *conn) compose(now int64) []byte {
	c.followUpdates()
	room := c.maxSize - 1 - len(c.dcid) - datapath.NumberLen - datapath.TagLen
	payload := c.built[:0]
	var frames [maxSentFrames]sentFrame
	n := 0
	blocked := 0
	priority := uint8(255)
	for n < maxSentFrames && blocked < len(c.need) {
		s := c.need[blocked]
		if s.done || !s.needs() {
			s.queued = false
			c.need = append(c.need[:blocked], c.need[blocked+1:]...)
			continue
		}
		before := len(payload)
		var f sentFrame
		var ok bool
		payload, f, ok = s.appendFrame(payload, room)
		if !ok {
			if before > 0 && len(payload) == before && room-before < minStreamRoom {
				break
			}
			blocked++ // no credit
			continue
		}
		frames[n] = f
		n++
		priority = min(priority, s.priority)
	}
	c.built = payload[:0]
	if n == 0 {
		c.unblock(blocked)
		return nil
	}
	number := c.space.TakeNumber()
	e := c.registry.add(number)
	if e == nil {
		for i := range frames[:n] {
			frames[i].stream.onLost(&frames[i])
		}
		return nil
	}
	e.kind, e.at, e.acked, e.frames, e.n = kindMedia, now, false, frames, uint8(n)
	c.registry.media++
	c.recovery.lastSent = now
	c.stats.RepairPackets++
	return c.wireOut.Seal(make([]byte, 0, c.maxSize), c.wireOutGen, c.markDCID(c.dcid, priority), number, datapath.NumberLen, payload)
}

// unblock takes streams without credit out of the queue: MAX_DATA and MAX_STREAM_DATA put them back.
func (c *conn) unblock(n int) {
	for _, s := range c.need[:n] {
		s.queued = false
	}
	c.need = append(c.need[:0], c.need[n:]...)
}

// minStreamRoom is the least room that a STREAM frame is started in.
const minStreamRoom = 32

// appendFrame appends the next frame that the stream has to send, in at most room bytes of payload. ok is false if there is
// no room or no credit for any.
func (s *FastStream) appendFrame(payload []byte, room int) (_ []byte, f sentFrame, ok bool) {
	c := s.c
	if room-len(payload) < minStreamRoom {
		return payload, f, false
	}
	if s.reset {
		s.resetOut = true
		return wire.AppendResetStream(payload, s.id, s.code, s.final), sentFrame{stream: s, reset: true}, true
	}
	g, gap := s.sent.gap(s.end)
	if !gap {
		g = span{s.end, s.end}
	}
	space := uint64(room - len(payload) - wire.StreamOverhead(s.id, g.lo, datapath.MaxPacketSize, true))
	g.hi = min(g.hi, g.lo+space)
	word, limit := c.space.StreamWord(s.slot)
	if highest := word & datapath.StreamOffset; g.hi > highest {
		g.hi = min(g.hi, max(limit, g.lo))
		if used := c.space.DataUsed(); g.hi > highest && g.hi-highest > c.maxData-min(used, c.maxData) {
			g.hi = max(g.lo, highest+c.maxData-min(used, c.maxData))
		}
	}
	fin := s.fin && g.hi == s.end
	if g.hi == g.lo && !fin || !c.space.Advance(s.slot, g.hi, c.maxData) {
		return payload, f, false
	}
	c.plain = s.appendData(c.plain[:0], g.lo, g.hi)
	payload = wire.AppendStream(payload, s.id, g.lo, c.plain, fin, true)
	first := s.covered(g.lo, g.hi, fin)
	c.stats.RepairBytes += first
	c.stats.ResentBytes += g.hi - g.lo - first
	return payload, sentFrame{stream: s, lo: g.lo, hi: g.hi, fin: fin}, true
}
