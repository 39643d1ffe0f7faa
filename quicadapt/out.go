package quicadapt

import (
	"net/netip"

	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// output translates one datagram of quic-go's for an address and returns what to send instead, in dst or p itself; nil
// for nothing. c is a guess, from the datagram before it, and may be nil.
func (b *Boundary) output(p []byte, to netip.AddrPort, dst []byte, c *conn) ([]byte, *conn) {
	off := 0
	if c == nil {
		c = b.only(to)
	}
	for off < len(p) && wire.IsLongHeader(p[off]) {
		h, err := wire.ParseLongHeader(p[off:])
		if err != nil || h.PacketLen <= 0 {
			return p, c
		}
		if own := b.bySource(h.SCID); own != nil {
			c = own
		} else if c == nil {
			c = b.find(to, h.DCID)
		}
		if c != nil && h.Type != wire.LongRetry && h.Type != wire.LongVersionNegotiation {
			b.learnOut(c, &h)
		}
		off += h.PacketLen
	}
	if off >= len(p) {
		return p, c
	}
	if c == nil {
		if c = b.findShort(to, p[off:]); c == nil {
			return p, nil // of no connection: a stateless reset
		}
	}
	c.mu.Lock()
	out := c.outShort(p[off:], to, dst[off:off])
	dirty := c.dirty && !c.refused
	c.mu.Unlock()
	if dirty {
		b.wake()
	}
	switch {
	case out == nil && off > 0:
		return p[:off], c
	case out == nil:
		return nil, c
	case &out[0] == &p[off]:
		return p, c
	}
	copy(dst[:off], p[:off])
	return dst[:off+len(out)], c
}

// outShort translates a 1-RTT packet of quic-go's. It returns it unchanged, rewritten in dst, or nil to drop it.
func (c *conn) outShort(p []byte, to netip.AddrPort, dst []byte) []byte {
	cidLen := int(c.peerCIDLen.Load())
	open := func() bool {
		return cidLen >= 0 && c.quicOut.Open(c.plain, p, cidLen, c.nextOwn, &c.opened) == nil
	}
	ready := c.quicOut != nil
	if !ready {
		if !c.ensureKeys(open) {
			return c.unopened(p)
		}
	} else if !open() {
		return c.unopened(p)
	}
	o := &c.opened
	c.nextOwn = max(c.nextOwn, o.PacketNumber+1)
	c.stats.OwnPackets++
	cid := p[1 : 1+cidLen]
	if to != c.remote {
		c.sentElsewhere(to, cid)
	}
	if to == c.remote && string(cid) != string(c.dcid) {
		c.dcid = append(c.dcid[:0], cid...)
		c.dirty = c.joined
	}
	if c.translate && !c.loss.Room(c.space.Next()+1) {
		// The peer has not acknowledged anything for long. Packets that no acknowledgment can be matched to must not be sent.
		c.stats.FlowControlDrops++
		return nil
	}
	if c.fatal != 0 && c.translate {
		if o.Payload = c.fatalClose(o.Payload); o.Payload == nil {
			return nil
		}
	}
	payload, eliciting, ok := c.filterOut(o.Payload)
	if !ok {
		c.stats.FlowControlDrops++
		return nil
	}
	if !c.translate {
		return p
	}
	c.skipSome()
	c.followUpdates()
	number := c.space.TakeNumber()
	n := max(o.PNLen, wire.PacketNumberLen(number, c.loss.Largest()))
	for len(payload)+n < 4 {
		payload = append(payload, 0)
	}
	out := c.wireOut.Seal(dst, c.wireOutGen, c.markDCID(cid, c.packetPriority(payload)), number, n, payload)
	kind := recovery.Eliciting
	switch {
	case !eliciting || to != c.remote:
		kind = recovery.Silent // it is not congestion controlled, or probes another path
	case len(out) > c.maxSize:
		kind = recovery.MTUProbe
	}
	c.chargeOwn(len(out))
	e := c.sent(number, c.b.now(), len(out), kind)
	if e == nil {
		return nil // the datapath took the last room for numbers meanwhile
	}
	e.own = o.PacketNumber
	c.tellBudget()
	return out
}

// followUpdates moves the generations of sealing keys: on the wire after the peer's, towards quic-go after its own.
func (c *conn) followUpdates() {
	if g := c.wireIn.Generation(); g > c.wireOutGen && c.fatal == 0 { // a forbidden update is not followed
		for c.wireOut.Generation() < g {
			c.wireOut.Update()
		}
		c.sealFrom(g)
	}
	c.limitKeys()
	if g := c.quicOut.Generation(); g > c.quicInGen {
		for c.quicIn.Generation() < g {
			c.quicIn.Update()
		}
		c.quicInGen = g
	}
}

// unopened handles an own packet that the connection's keys do not open. Nothing that should have been renumbered may
// reach the wire as it is.
func (c *conn) unopened(p []byte) []byte {
	c.stats.Unopened++
	if c.translate {
		return nil
	}
	return p
}

// filterOut looks at the frames that quic-go sends: it charges stream data to the connection's credit, learns connection
// IDs, and keeps resets of streams that the datapath took off the wire. eliciting says whether the peer must acknowledge it;
// ok is false if there is no credit.
func (c *conn) filterOut(payload []byte) (out []byte, eliciting, ok bool) {
	f := &c.frame
	growth := uint64(0)
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			eliciting = true
			break // a frame type that we do not know: it passes
		}
		eliciting = eliciting || f.AckEliciting()
		switch {
		case f.IsStream():
			if end := f.Offset + uint64(len(f.Data)); end > c.ownSent[f.V[0]] {
				growth += end - c.ownSent[f.V[0]]
			}
		case f.Type == wire.FrameRetireConnectionID:
			c.b.retirePeerCID(c, f.V[0])
		case f.Type == wire.FrameNewConnectionID:
			c.issued(f.V[0], f.Data)
		case f.Type == wire.FrameResetStream || f.Type == wire.FrameResetStreamAt || f.Type == wire.FrameStreamDataBlocked:
			if c.taken.has(f.V[0]) {
				frame := payload[at : at+n]
				clear(frame)
				frame[0] = byte(wire.FramePing)
			}
		}
		at += n
	}
	if growth == 0 {
		return payload, eliciting, true
	}
	if c.joined && !c.space.Charge(growth, c.maxData) {
		return nil, eliciting, false
	}
	if !c.joined {
		c.space.Charge(growth, 1<<62)
	}
	c.ownData += growth
	c.noteOwn(payload)
	return payload, eliciting, true
}

// noteOwn moves the highest offsets of quic-go's streams. Streams that ended are forgotten after a while: their bytes
// are counted already, and if one is repeated after that long, counting it twice only makes us more careful.
func (c *conn) noteOwn(payload []byte) {
	const keep = 4096
	f := &c.frame
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			return
		}
		at += n
		if !f.IsStream() {
			continue
		}
		id := f.V[0]
		c.ownSent[id] = max(c.ownSent[id], f.Offset+uint64(len(f.Data)))
		if len(c.ownSent) > keep {
			for old := range c.ownSent {
				if old&2 != 0 && old+4*keep/2 < id {
					delete(c.ownSent, old)
				}
			}
		}
	}
}
