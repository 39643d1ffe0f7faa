package run

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Sizes of packets, in bytes.
const (
	maxSize  = 1452 // UDP payload
	udpIP    = 28
	dcidLen  = datapath.CIDLen
	headers  = 1 + dcidLen + datapath.NumberLen + datapath.TagLen
	firstID  = 3 // of unidirectional streams of a server (RFC 9000, section 2.1)
	ownSize  = headers + 40
	ackSize  = headers + 12
	ownEvery = 20 // quic-go asks for an acknowledgment after so many packets that need none
)

// contents is what a packet carries: pieces, or -1-s for the RESET_STREAM of stream s; or a control message.
type contents struct {
	pieces  [maxFrames]int32
	n       uint8
	probed  bool  // they have been handed over to a probe
	control int32 // number + 1
}

const maxFrames = 4

const silent = uint8(recovery.Silent)

// client is a subscriber as the relay has it, with the subscriber's own side in receiver.
type client struct {
	w           *world
	index       int32
	link        *link
	delay       int64 // behind the link, one way
	returnDelay int64 // of acknowledgments
	subscriber  [tracks]uint8

	space  *datapath.Space
	loss   *recovery.Sender[contents]
	pace   uint64 // rate that the datapath was told
	paceAt int64  // when pacing lets held data go on; 0: it does not wait for pacing
	timer  int64  // time of the next evTimer, 0 for none
	probes int
	acked  int // ACKs since the relay last acknowledged
	served int64

	streams []sending
	pieces  []uint8
	until   []int64 // of each object that has come, when it stops being useful
	need    []int32 // streams with something to send, the most important first, then the oldest
	live    []int32 // open streams, as they were opened
	expiry  int64
	order   uint32
	cut     [tracks]uint64
	held    uint64 // bytes that wait in userspace

	heuristic  *heuristic.Guard
	policy     datapath.Policy
	meter      heuristic.Meter
	view       heuristic.View
	policies   int
	sentBefore uint64
	lostBytes  uint64
	lostBefore uint64

	controls []control
	arriving int64 // the last packet reaches the subscriber

	stats    counts
	receiver receiver
}

type control struct {
	sent, rtt       int64
	arrived, inTime bool
	lost            bool // a packet with it was, behind the queue
}

// counts is what is counted for a client.
type counts struct {
	packets, bytes, forwarded, repairs, lost, spurious, probes uint64
	resent                                                     uint64 // bytes of pieces sent again

	// What happened to objects and streams when it happened: what the result says afterwards must agree with it.
	came, whole [Classes]int // objects at the relay, and whole at the subscriber
	dropped     [causes]int  // streams, at their start
	reset       [causes]int  // streams, later
}

func (w *world) newClient(index int32, g *scenario.Subscribers, spread int64) (*client, error) {
	c := &client{w: w, index: index, link: w.links[g.LinkIndex()], delay: g.Delay.Nanoseconds() + spread}
	c.returnDelay = c.link.delay + c.delay
	c.subscriber = [tracks]uint8{trackVideo: uint8(*g.Priority), trackAudio: uint8(*g.AudioPriority)}
	h, err := heuristic.New(w.config.Heuristic)
	if err != nil {
		return nil, err
	}
	cc, err := congestion.New(w.config.Congestion, maxSize, initialWindow)
	if err != nil {
		return nil, err
	}
	c.heuristic = heuristic.NewGuard(h, -1, func(_ string, err error) {
		if w.refused++; w.refused == 1 {
			w.refusal = err.Error()
		}
	})
	c.space = datapath.NewSpace(nil, func() uint64 { return uint64(w.now) })
	c.space.Reset()
	c.space.SetMaxSize(maxSize)
	c.loss = recovery.New(0, c, cc)
	c.loss.RTT.MaxAckDelay, c.loss.RTT.Confirmed = maxAckDelay, true
	rtt := 2*c.returnDelay + int64(time.Millisecond)
	c.loss.RTT.Seed(rtt, rtt/2, rtt) // of the handshake
	c.streams = make([]sending, len(w.program.streams))
	c.pieces = make([]uint8, len(w.program.pieces))
	c.until = make([]int64, len(w.program.objects))
	c.receiver.delivered = make([]int64, len(w.program.objects))
	c.tellBudget()
	return c, nil
}

// tellBudget tells the datapath how much may be sent, and how fast, as quicadapt does.
func (c *client) tellBudget() {
	c.space.SetSendLimit(c.loss.Limit())
	rate := c.loss.Rate()
	if rate == c.pace {
		return
	}
	c.pace = rate
	const drainInterval = 20 * time.Millisecond
	c.space.SetPace(rate, max(c.loss.Burst(rate, maxSize), uint64(float64(rate)*drainInterval.Seconds())))
}

// affordable says whether the budget has room for a packet.
func (c *client) affordable() bool {
	if c.space.Sent()+maxSize > c.loss.Limit() {
		return false
	}
	if wait := c.space.PaceDelay(uint64(c.w.now), maxSize); wait > 0 {
		c.paceAt = c.w.now + int64(wait)
		return false
	}
	return true
}

// frameSize returns the size of a piece's STREAM frame.
func frameSize(stream int32, p *piece) int {
	return rules.StreamOverhead(streamID(stream), uint64(p.offset)) + wire.VarintLen(uint64(p.size)) + int(p.size)
}

func streamID(stream int32) uint64 { return uint64(stream)<<2 | firstID }

// transmit sends a packet: it takes a number, draws from the budget, and is on its way.
func (c *client) transmit(size int, kind recovery.Kind, x contents) {
	w := c.w
	number := c.space.TakeNumber()
	c.space.ChargeBudget(uint64(w.now), uint64(size))
	if p := c.loss.Add(number, w.now, size, kind); p != nil {
		p.Carried = x
	}
	c.stats.packets++
	c.stats.bytes += uint64(size)
	if w.tracer != nil && c.index == 0 {
		w.tracer.sent(c, number, size, kind, &x)
	}
	at, ok := c.link.send(w.now, size+udpIP)
	if !ok {
		return
	}
	at = max(at+c.delay, c.arriving)
	c.arriving = at
	var slot int32
	if n := len(w.freePackets); n > 0 {
		slot, w.freePackets = w.freePackets[n-1], w.freePackets[:n-1]
	} else {
		slot = int32(len(w.packets))
		w.packets = append(w.packets, packet{})
	}
	w.packets[slot] = packet{number: number, sent: w.now, contents: x, kind: uint8(kind)}
	w.agenda.add(at, evDeliver, c.index, slot)
}

// sendControl sends a control message of the relay's, whatever the budget says.
func (c *client) sendControl(m int32) {
	c.space.ChargePlan(uint64(c.w.now), ownSize)
	lost := c.link.lost
	c.transmit(ownSize, recovery.Eliciting, contents{control: m})
	if c.link.lost > lost {
		c.controls[m-1].lost = true
	}
}

// onAck takes an ACK frame.
func (c *client) onAck(a *ack) error {
	if c.w.tracer != nil && c.index == 0 {
		c.w.tracer.received(c, a)
	}
	if err := c.loss.OnAck(c.w.now, a.ranges, a.delay); err != nil {
		return err
	}
	if c.acked++; c.acked == ownEvery {
		c.acked = 0
		c.space.ChargePlan(uint64(c.w.now), ackSize)
		c.transmit(ackSize, recovery.Silent, contents{})
	}
	if c.w.tracer != nil && c.index == 0 {
		c.w.tracer.metrics(c)
	}
	c.flush()
	return nil
}

// OnAcked implements recovery.Handler.
func (c *client) OnAcked(p *recovery.Packet[contents]) {
	if p.Lost() && p.Kind == recovery.Ours {
		c.stats.spurious++
	}
	for _, f := range p.Carried.pieces[:p.Carried.n] {
		if f >= 0 {
			c.ackPiece(f)
		}
	}
	p.Carried.n = 0
}

// OnLost implements recovery.Handler.
func (c *client) OnLost(p *recovery.Packet[contents]) {
	c.stats.lost++
	c.lostBytes += uint64(p.Size)
	if c.w.tracer != nil && c.index == 0 {
		c.w.tracer.lost(c, p)
	}
	if m := p.Carried.control; m > 0 && !c.controls[m-1].arrived {
		c.w.resend = append(c.w.resend, resend{c, m})
	}
	if !p.Carried.probed {
		c.again(p)
	}
}

// again has what a packet carried sent again.
func (c *client) again(p *recovery.Packet[contents]) {
	p.Carried.probed = true
	for _, f := range p.Carried.pieces[:p.Carried.n] {
		if f >= 0 {
			c.losePiece(f)
		} else {
			s := -1 - f
			c.streams[s].resetSent = false
			c.schedule(s)
		}
	}
}

// onTimer runs what is due.
func (c *client) onTimer() {
	now := c.w.now
	c.served = now
	if c.probes = c.loss.OnTimer(now); c.probes > 0 {
		left := c.probes
		c.loss.Oldest(func(p *recovery.Packet[contents]) bool {
			if !p.Carried.probed {
				c.again(p)
				left--
			}
			return left > 0
		})
	}
	c.expire()
	c.flush()
}

// arm sets the timer. The loop of userspace does not come more often than every millisecond.
func (c *client) arm() {
	at := int64(0)
	for _, t := range [...]int64{c.loss.Deadline(), c.paceAt, c.expiry} {
		if t > 0 && (at == 0 || t < at) {
			at = t
		}
	}
	if at == 0 {
		return
	}
	at = max(at, c.served+int64(time.Millisecond), c.w.now)
	if c.timer == 0 || at < c.timer || c.timer < c.w.now {
		c.timer = at
		c.w.agenda.add(at, evTimer, c.index, 0)
	}
}
