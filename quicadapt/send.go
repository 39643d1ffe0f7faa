package quicadapt

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// repairBurst is how many packets a connection sends for its fast streams at once. The rest waits for the loop.
const repairBurst = 32

// unlockAndSend composes packets for the streams that have something to send, as far as the budget goes, unlocks c.mu, and
// sends them: no lock is held across a system call. What repairs leave of the budget is then the datapath's.
func (c *conn) unlockAndSend() {
	if at := c.flush(); at > 0 {
		c.b.wakeBy(at)
	}
}

// flush is unlockAndSend for the loop itself: it returns when to come again, 0 for never.
func (c *conn) flush() int64 {
	if c.closed || !c.joined || c.wireOut == nil {
		c.mu.Unlock()
		return 0
	}
	var packets [][]byte
	now := c.b.now()
	c.paceAt = 0
	for c.probes > 0 || len(c.need) > 0 {
		if len(packets) == repairBurst {
			c.paceAt = now
			break
		}
		probe := c.probes > 0
		if !probe && !c.affordable(now) {
			break
		}
		p := c.compose(now, probe)
		if p == nil {
			break
		}
		packets = append(packets, p)
	}
	c.probes = 0
	if p := c.askSize(now); p != nil {
		packets = append(packets, p)
	}
	c.tellBudget()
	c.tellWaiting()
	to := udpAddr(c.remote)
	at := c.wakeAt()
	c.mu.Unlock()
	for _, p := range packets {
		if _, err := c.b.inner.WriteTo(p, to); err != nil {
			c.b.cfg.Logger.Debug("repair was not sent", "to", to, "err", err) // it is lost, and found so
		}
	}
	return at
}

// leastWindow is how many packets of the datapath and repairs may be in flight whatever else is: the minimum congestion window (RFC 9002,
// section 7.2). quic-go has a controller of its own and does not wait for ours, so that it may keep the window full as long as it
// has something to send.
const leastWindow = 2

// affordable says whether the budget has room for a packet. If pacing is what it waits for, it notes until when.
func (c *conn) affordable(now int64) bool {
	size := uint64(c.maxSize)
	if c.space.Sent()+size > c.loss.Limit() && c.loss.Outstanding() >= leastWindow {
		return false // the next acknowledgment or loss makes room
	}
	if wait := c.space.PaceDelay(c.space.Now(), size); wait > 0 {
		c.paceAt = now + int64(wait)
		return false
	}
	return true
}

// wakeAt returns when the loop must look after the connection, 0 for never. The caller holds mu.
func (c *conn) wakeAt() int64 {
	at := int64(0)
	for _, t := range [...]int64{c.loss.Deadline(), c.paceAt, c.expiry} {
		if t > 0 && (at == 0 || t < at) {
			at = t
		}
	}
	return at
}

// onTimer runs loss recovery's timer. A probe timeout hands what the two oldest packets carried over to probes; they need not
// be lost (RFC 9002, section 6.2.4).
func (c *conn) onTimer(now int64) {
	if c.probes = c.loss.OnTimer(now); c.probes == 0 {
		c.tellBudget()
		return
	}
	left := c.probes
	c.loss.Oldest(func(p *sentPacket) bool {
		if !p.Carried.probed {
			c.again(p)
			left--
		}
		return left > 0
	})
}

// compose makes one packet of what the streams in c.need have to send, and takes a number for it. It returns nil if there is
// nothing, or no credit for it; a probe is then a PING.
func (c *conn) compose(now int64, probe bool) []byte {
	if !c.loss.Room(c.space.Next() + 1) {
		return nil
	}
	c.skipSome()
	c.followUpdates()
	room := c.maxSize - 1 - len(c.dcid) - datapath.NumberLen - datapath.TagLen
	payload := c.built[:0]
	var frames [maxSentFrames]sentFrame
	n := 0
	blocked := 0
	priority, resent := uint8(255), c.stats.ResentBytes
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
		payload, f, ok = s.appendFrame(payload, room, now)
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
	for i := range frames[:n] {
		frames[i].stream.schedule() // it may have no losses to repair any more
	}
	if n == 0 {
		c.unblock(blocked)
		if !probe {
			return nil
		}
		payload, priority = wire.AppendPing(payload), 0
	}
	c.built = payload[:0]
	if probe {
		c.probes--
		c.stats.ProbePackets++
	}
	number := c.space.TakeNumber()
	out := c.wireOut.Seal(make([]byte, 0, c.maxSize), c.wireOutGen, c.markDCID(c.dcid, priority), number, datapath.NumberLen, payload)
	c.charge(len(out), int(c.stats.ResentBytes-resent))
	e := c.sent(number, now, len(out), recovery.Ours)
	if e == nil { // the datapath took the last room for numbers meanwhile
		for i := range frames[:n] {
			frames[i].stream.onLost(&frames[i], now)
		}
		return nil
	}
	e.frames, e.n = frames, uint8(n)
	c.stats.RepairPackets++
	return out
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
func (s *FastStream) appendFrame(payload []byte, room int, now int64) (_ []byte, f sentFrame, ok bool) {
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
	if s.finalDiffers(word&datapath.StreamOffset, word&datapath.StreamClosed != 0) {
		return s.appendFrame(payload, room, now)
	}
	if highest := word & datapath.StreamOffset; g.hi > highest {
		g.hi = min(g.hi, max(limit, g.lo))
		if used := c.space.DataUsed(); g.hi > highest && g.hi-highest > c.maxData-min(used, c.maxData) {
			g.hi = max(g.lo, highest+c.maxData-min(used, c.maxData))
		}
	}
	fin := s.fin && g.hi == s.end
	if fin && !s.finOurs {
		// From now on the datapath must not send anything beyond it, as it would for a publisher that goes on after its FIN.
		highest, closed := c.space.FinishStream(s.slot)
		if s.finalDiffers(highest, closed) {
			return s.appendFrame(payload, room, now)
		}
		s.finOurs = true
	}
	if g.hi == g.lo && !fin || !c.space.Advance(s.slot, g.hi, c.maxData) {
		return payload, f, false
	}
	c.plain = s.appendData(c.plain[:0], g.lo, g.hi)
	payload = wire.AppendStream(payload, s.id, g.lo, c.plain, fin, true)
	first := s.covered(g.lo, g.hi, fin)
	c.stats.RepairBytes += first
	c.stats.ResentBytes += g.hi - g.lo - first
	s.repaired(g.lo, g.hi, now)
	return payload, sentFrame{stream: s, lo: g.lo, hi: g.hi, fin: fin}, true
}

// finalDiffers resets a stream which the datapath has ended, at its highest offset, elsewhere than the publisher did: to the
// subscriber another final size would be an error of the whole connection (RFC 9000, section 4.5), and it is the publisher's; or the policy's,
// which closes what it drops.
func (s *FastStream) finalDiffers(highest uint64, closed bool) bool {
	if s.finOurs || (!closed || s.end <= highest) && (!s.fin || s.end >= highest) {
		return false
	}
	if closed && !s.finSent && len(s.c.policy.Bands) > 0 {
		s.cut(datapath.ReasonDropStream) // the policy has dropped the rest; the record that is still to be read says why
	} else {
		s.resetLocked(codeInternal)
	}
	return s.reset
}
