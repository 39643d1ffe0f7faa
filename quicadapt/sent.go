package quicadapt

import (
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/recovery"
)

// carried is what a sent packet carried.
type carried struct {
	frames [maxSentFrames]sentFrame
	n      uint8
	media  bool   // of the datapath, or a repair: frames of fast streams
	probed bool   // its frames have been handed over to a probe
	search bool   // it asks whether the path takes its size
	own    uint64 // quic-go's number, without media and search
}

// sentFrame is a frame of a fast stream in a sent packet.
type sentFrame struct {
	stream *FastStream
	lo, hi uint64
	fin    bool
	reset  bool // RESET_STREAM
}

const maxSentFrames = 4

type sentPacket = recovery.Packet[carried]

// initialWindow is that of quic-go, in datagrams: the datapath may send at once what quic-go on the same connection might. Media seldom
// fill a window, so this is also what is left of it when userspace is late with acknowledgments.
const initialWindow = 32

// newController makes the congestion control of a path.
func (b *Boundary) newController(datagram int) congestion.Controller {
	return b.congestion(datagram, initialWindow)
}

// OnAcked implements recovery.Handler. Within an ACK, packets come in the order of their numbers.
func (c *conn) OnAcked(p *sentPacket) {
	c.ackNewest = p.Sent
	x := &p.Carried
	if x.search {
		c.sizeAnswered(p.Size, true)
		return
	}
	if !x.media {
		c.ackOwn = p.Sent
		c.ownAcks.add(x.own)
		return
	}
	if p.Lost() {
		c.stats.SpuriousLosses++
	}
	for i := range x.frames[:x.n] {
		x.frames[i].stream.onAcked(&x.frames[i])
	}
	x.forget()
}

// OnLost implements recovery.Handler: what a media packet carried is to be sent again. quic-go finds out about its own. The
// packet may arrive after all, so it is not forgotten.
func (c *conn) OnLost(p *sentPacket) {
	if p.Carried.search {
		c.sizeAnswered(p.Size, false)
	}
	if !p.Carried.media {
		return
	}
	c.stats.LostPackets++
	c.lostBytes += uint64(p.Size)
	if !p.Carried.probed {
		c.again(p)
	}
}

// again has what a packet carried sent again.
func (c *conn) again(p *sentPacket) {
	x := &p.Carried
	x.probed = true
	for i := range x.frames[:x.n] {
		x.frames[i].stream.onLost(&x.frames[i], p.Sent)
	}
}

// forget lets go of the streams.
func (x *carried) forget() {
	for i := range x.frames[:x.n] {
		x.frames[i].stream = nil
	}
	x.n = 0
}

// sent enters a packet that was sent, and returns what the caller says it carries, nil if it cannot be known.
func (c *conn) sent(number uint64, at int64, size int, kind recovery.Kind) *carried {
	p := c.loss.Add(number, at, size, kind)
	if p == nil {
		return nil
	}
	p.Carried.n, p.Carried.media, p.Carried.probed, p.Carried.search, p.Carried.own = 0, kind == recovery.Ours, false, false, 0
	return &p.Carried
}

// tellBudget tells the datapath how much may be sent to the client, and how fast. Bursts are as large as the controller says, or as what
// comes between two drains of an idle datapath at that rate if that is more.
func (c *conn) tellBudget() {
	if !c.joined {
		return
	}
	if c.stale || c.b.blind.Load() {
		c.space.SetSendLimit(0)
		return
	}
	c.space.SetSendLimit(c.loss.Limit())
	rate := c.loss.Rate()
	if rate == c.paceRate {
		return
	}
	c.paceRate = rate
	burst := max(c.loss.Burst(rate, c.maxSize), uint64(float64(rate)*c.b.cfg.DrainInterval.Seconds()))
	c.space.SetPace(rate, burst)
}

// charge draws a repair or a probe from the client's budget, and what it sends again from the plan, which knows the rest.
func (c *conn) charge(size, again int) {
	now := c.space.Now()
	c.space.ChargeBudget(now, uint64(size))
	c.space.ChargePlan(now, uint64(again))
}

// chargeOwn draws one of quic-go's packets from the client's budget and plan, which quic-go does not look at.
func (c *conn) chargeOwn(size int) {
	now := c.space.Now()
	c.space.ChargeOwn(now, uint64(size))
	c.space.ChargePlan(now, uint64(size))
}

// skipSome takes a number now and then that no packet gets: whoever acknowledges it acknowledges what it has not
// received (RFC 9000, section 21.4).
func (c *conn) skipSome() {
	if c.translate && c.skips.due(c.space.Next()) {
		c.loss.Skip(c.space.TakeNumber())
	}
}
