package quicadapt

import (
	"errors"
	"net/netip"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// input translates a received datagram buf[:n] in place for quic-go, and returns its new length.
func (b *Boundary) input(buf []byte, n int, from netip.AddrPort) int {
	p := buf[:n]
	off := 0
	var c *conn
	for off < len(p) && wire.IsLongHeader(p[off]) {
		h, err := wire.ParseLongHeader(p[off:])
		if err != nil || h.PacketLen <= 0 {
			return n
		}
		c = b.learnIn(&h, from)
		off += h.PacketLen
	}
	if off >= n {
		return n
	}
	short := p[off:]
	known := b.byLocalCID(short)
	if known != nil {
		c = known
	}
	if c == nil {
		b.unmark(short, false)
		return n
	}
	c.mu.Lock()
	out, again := c.inShort(short, len(buf)-off, from, false)
	if again {
		// It acknowledges a packet whose record has not been read yet. Before an acknowledgment is processed, they all are.
		c.mu.Unlock()
		b.drain()
		c.mu.Lock()
		out, _ = c.inShort(short, len(buf)-off, from, true)
	}
	dirty := c.dirty && !c.refused
	c.unlockAndSend()
	if dirty {
		b.wake()
	}
	if out == nil {
		b.unmark(short, known != nil)
		return n
	}
	return off + copy(buf[off:], out)
}

// inShort translates a received 1-RTT packet. It returns nil if quic-go gets it as it is. again says that the records of
// the datapath are to be read first; nothing was changed then. drained says that they were.
func (c *conn) inShort(p []byte, room int, from netip.AddrPort, drained bool) (out []byte, again bool) {
	cidLen := c.b.localCIDLen()
	o := &c.opened
	open := func() bool { return c.wireIn.Open(c.plain, p, cidLen, c.nextIn, o) == nil }
	if c.b.cfg.Null && !c.dialed && from != c.remote {
		c.stats.Unopened++
		return p[:0], false // the null wire has only the address to go by
	}
	if c.quicOut == nil {
		if !c.ensureKeys(open) {
			return nil, false
		}
		if c.b.cfg.Null {
			// Nothing in the packet tells which cipher quic-go expects: that is sure only when quic-go has sent a packet.
			// Until then it is the usual one; a wrong guess costs a retransmission.
			defer func() { c.quicOut = nil }()
		}
	} else if c.fatal != 0 {
		return p[:0], false // nothing is processed any more
	} else if err := c.wireIn.Open(c.plain, p, cidLen, c.nextIn, o); errors.Is(err, wire.ErrReserved) && c.translate {
		c.fail(wire.CodeProtocolViolation) // it is authentic, and perhaps of keys that quic-go does not have
		return p[:0], false
	} else if err != nil {
		c.stats.Unopened++
		c.authFailed()
		return nil, false
	}
	if c.translate && o.Generation > c.wireOutGen && c.unconfirmed() {
		c.fail(wire.CodeKeyUpdateError)
		return p[:0], false
	}
	now := c.b.now()
	payload, changed, again := c.filterIn(o.Payload, o.PacketNumber, room-len(p), now, drained)
	if again {
		return nil, true
	}
	if c.fatal != 0 {
		return p[:0], false
	}
	if from != c.remote {
		c.cameFrom(from, o.Payload, o.PacketNumber)
	}
	c.nextIn = max(c.nextIn, o.PacketNumber+1)
	if !c.translate {
		return nil, false
	}
	c.followUpdates()
	if !changed && !c.b.marked(p) && c.wireIn.Suite() != wire.SuiteNull && o.Generation == c.quicInGen {
		return nil, false
	}
	for len(payload)+o.PNLen < 4 || len(payload) == 0 && len(o.Payload) > 0 { // one that came without frames is quic-go's to refuse
		payload = append(payload, 0)
	}
	if len(p)-len(o.Payload)+len(payload) > room {
		return p[:0], false // of a peer that fills packets with frames of odd encodings; quic-go reads an empty packet as none
	}
	c.b.unmark(p, true)
	out = c.quicIn.Seal(c.sealed[:0], c.quicInGen, p[1:1+cidLen], o.PacketNumber, o.PNLen, payload)
	return out, false
}

// filterIn looks at the frames of the peer, takes what concerns packets and streams of the datapath, and returns the
// payload that quic-go gets, which is at most spare bytes longer. It changes nothing if again is true.
func (c *conn) filterIn(payload []byte, number uint64, spare int, now int64, drained bool) (out []byte, changed, again bool) {
	f := &c.frame
	if c.loss != nil && !c.recordsRead(payload, drained) {
		return nil, false, true
	}
	out = c.built[:0]
	index, fresh, acks := uint64(0), false, 0
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			out, changed = append(out, payload[at:]...), true // quic-go closes the connection with the right error
			break
		}
		raw := payload[at : at+n]
		at += n
		switch {
		case f.IsAck() && c.translate:
			out = c.onAck(out, number, acks, spare+n, now)
			acks++
			changed = true
			continue
		case f.Type == wire.FrameMaxData:
			if c.onMaxData(f.V[0]) {
				out = wire.AppendMaxData(out, c.toldMaxData)
				changed = true
				continue
			}
		case f.Type == wire.FrameMaxStreamData:
			if s := c.streams[f.V[0]]; s != nil {
				if _, limit := c.space.StreamWord(s.slot); f.V[1] > limit { // an older one may come later
					c.space.SetStreamLimit(s.slot, f.V[1])
				}
				s.schedule()
				out, changed = wire.AppendPing(out), true
				continue
			}
		case f.Type == wire.FrameStopSending:
			if s := c.streams[f.V[0]]; s != nil {
				s.stopped = true
				s.resetLocked(f.V[1])
				out, changed = wire.AppendPing(out), true
				continue
			}
			if c.taken.has(f.V[0]) {
				out, changed = wire.AppendPing(out), true
				continue
			}
		case f.IsStream() && c.memory != nil && f.V[0]&2 != 0:
			if !c.memory.put(f.V[0], f.Offset, f.Data) {
				c.fail(wire.CodeProtocolViolation)
				return payload[:0], true, false
			}
		case f.Type == wire.FrameMaxStreamsUni:
			c.maxStreams = max(c.maxStreams, f.V[0])
			c.b.wake()
		case f.Type == wire.FrameNewConnectionID:
			c.b.learnPeerCID(c, f.V[0], f.Data)
		case f.Type == wire.FrameRetireConnectionID:
			c.retired(f.V[0])
		case f.IsDatagram() && c.publishes:
			if index == 0 {
				fresh = c.freshDatagrams(number)
			}
			if fresh {
				c.received.put(f.Data, number, index)
			}
			index++
		}
		out = append(out, raw...)
	}
	c.built = out[:0]
	return out, changed, false
}

// freshDatagrams says whether a packet with datagrams is new: the network may duplicate packets, and quic-go looks at that later.
func (c *conn) freshDatagrams(number uint64) bool {
	if c.datagramPackets == nil {
		c.datagramPackets = new(wire.ReplayWindow)
	}
	return c.datagramPackets.Check(number) == wire.Fresh
}

// onMaxData takes the peer's limit for the whole connection, and works out quic-go's part of it. It returns false if the
// frame is to be passed as it is.
func (c *conn) onMaxData(limit uint64) bool {
	c.maxData = max(c.maxData, limit)
	if !c.joined {
		c.toldMaxData = c.maxData
		return false
	}
	c.updateCredit()
	forwarded := c.space.DataUsed() - c.ownData
	if c.maxData > forwarded {
		c.toldMaxData = max(c.toldMaxData, c.maxData-forwarded)
	}
	for _, s := range c.streams {
		s.schedule()
	}
	return true
}
