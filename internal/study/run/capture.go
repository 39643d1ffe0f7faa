package run

import (
	"errors"
	"net/netip"
	"time"

	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// snap is how much of a packet is captured: the headers, and where the frames of small packets are.
const snap = 144

// controlSize is how many bytes of the control stream a control message has.
const controlSize = 32

// codeDeliveryTimeout is MoQ's stream reset code (draft-ietf-moq-transport-16, section 10.4.3).
const codeDeliveryTimeout = 0x2

var errPacketSize = errors.New("a packet has another size than it was sent with")

var (
	zeros     [maxSize]byte
	dcid      [dcidLen]byte
	traceLink = rules.Link{Src: rules.MAC{2, 0, 0, 0, 0, 1}, Dst: rules.MAC{2, 0, 0, 0, 0, 2}}
)

// finalSize returns how much of a stream was sent at most: what the pieces reach that were.
func (c *client) finalSize(n int32) (size uint64) {
	x := &c.w.program.streams[n]
	for i := x.first; i < x.first+x.pieces; i++ {
		if c.pieces[i]&pieceEver != 0 {
			p := &c.w.program.pieces[i]
			size = uint64(p.offset) + uint64(p.size)
		}
	}
	return size
}

// capturePacket composes a packet to the subscriber as the datapath does, and writes its beginning.
func (t *Trace) capturePacket(c *client, number uint64, size int, kind recovery.Kind, x *contents) {
	b := t.frames[:0]
	for _, f := range x.pieces[:x.n] {
		if f < 0 {
			b = wire.AppendResetStream(b, streamID(-1-f), codeDeliveryTimeout, c.finalSize(-1-f))
			continue
		}
		p := &c.w.program.pieces[f]
		piece := rules.Piece{Offset: uint64(p.offset), Tail: zeros[:p.size]}
		b = rules.AppendStream(b, streamID(p.stream), &piece, p.fin, true)
	}
	switch {
	case x.n > 0:
	case x.control > 0:
		b = wire.AppendStream(b, 1, uint64(x.control-1)*controlSize, zeros[:controlSize], false, true)
	case kind == recovery.Silent:
		b = wire.AppendAck(b, []wire.AckRange{{Largest: t.acks}}, 0, nil)
	default:
		b = wire.AppendPing(b)
	}
	streams := x.n > 0
	for _, f := range x.pieces[:x.n] {
		streams = streams && f >= 0
	}
	if pad := size - headers - len(b); pad > 0 && !streams { // the size of anything else is an upper bound
		b = wire.AppendPadding(b, pad)
	}
	t.frames = b
	t.write(c, number, b, relayAddr, subscriberAddr)
	if len(b) != size-headers && t.err == nil {
		t.err = errPacketSize
	}
}

// captureAck does the same for a packet of the subscriber, and returns its size.
func (t *Trace) captureAck(c *client, a *ack) int {
	t.frames = wire.AppendAck(t.frames[:0], a.ranges, uint64(a.delay/1000/8), nil)
	return t.write(c, t.acks, t.frames, subscriberAddr, relayAddr)
}

func (t *Trace) write(c *client, number uint64, frames []byte, from, to netip.AddrPort) int {
	at := rules.HeaderLen(from.Addr())
	t.packet = append(t.packet[:0], zeros[:at]...)
	t.packet = rules.AppendNull(t.packet, dcid[:], number, frames)
	rules.PutHeaders(t.packet, &traceLink, from, to)
	t.pcap.Snap(t.packet, snap, traceStart.Add(time.Duration(c.w.now-epoch)))
	return len(t.packet) - at
}
