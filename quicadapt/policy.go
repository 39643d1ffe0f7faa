package quicadapt

import (
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// codeTooLate is MoQ's stream reset code DELIVERY_TIMEOUT (draft-ietf-moq-transport-16, section 10.4.3): what the policy drops in
// the middle would come too late.
const codeTooLate = 0x2

// Outcome is how a fast stream ended for the client.
type Outcome struct {
	// Delivered says that the client has acknowledged all of it.
	Delivered bool
	// Dropped is the policy's reason, if it dropped the stream, and Begun whether the client knew of it and it was reset.
	Dropped datapath.Reason
	Begun   bool
	// Code is what the stream was reset with otherwise, and Stopped whether that was the client's wish.
	Code    uint64
	Stopped bool
}

// OnEnd has f called once it is known how the stream ends for the client: when all of it is acknowledged, or it is reset. It is called on the
// boundary's goroutine, which must not be kept, and not if the connection ends first. To be called before anything is written.
func (s *FastStream) OnEnd(f func(Outcome)) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.onEnd = f
	if s.done || s.reset {
		s.decided()
	}
}

// decided has the stream's outcome told. The caller holds c.mu.
func (s *FastStream) decided() {
	s.c.outcomes = append(s.c.outcomes, s)
	s.c.b.wake()
}

// tellOutcomes tells how streams end, no lock being held.
func (c *conn) tellOutcomes() {
	c.mu.Lock()
	over := c.outcomes
	c.outcomes = nil
	c.mu.Unlock()
	for _, s := range over {
		c.mu.Lock()
		if s.dropped == datapath.ReasonDropStream && !s.done { // the record that says why has not been read yet
			c.outcomes = append(c.outcomes, s)
			c.mu.Unlock()
			continue
		}
		onEnd, outcome := s.onEnd, s.outcome()
		s.onEnd = nil
		c.mu.Unlock()
		if onEnd != nil {
			onEnd(outcome)
		}
	}
}

// Dropped returns the policy's reason, if it has dropped the stream.
func (s *FastStream) Dropped() (r datapath.Reason, ok bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.dropped, s.dropped != datapath.Forwarded
}

// Begun says whether the client knows of the stream, or will: it does not of one that was dropped at its first byte. It does of one that was
// dropped later, if only by its reset.
func (s *FastStream) Begun() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return !s.unborn
}

// cut is called when the datapath has dropped the rest of the stream. The caller holds c.mu.
func (s *FastStream) cut(r datapath.Reason) {
	if s.dropped == datapath.ReasonDropStream {
		s.dropped = r // see finalDiffers
		return
	}
	if s.done || s.reset || s.wasSent() {
		return
	}
	s.dropped = r
	s.resetLocked(codeTooLate)
	s.c.b.wake()
}

// wasSent says whether all of the stream has been sent, so that what the datapath drops is a repeat of the publisher's.
func (s *FastStream) wasSent() bool {
	word, _ := s.c.space.StreamWord(s.slot)
	return s.finSent && s.ever.prefix() >= word&datapath.StreamOffset
}

// outcome says how a stream that is done ended.
func (s *FastStream) outcome() Outcome {
	return Outcome{Delivered: !s.reset && !s.unborn, Dropped: s.dropped, Begun: !s.unborn, Code: s.code, Stopped: s.stopped}
}

// SetPolicy makes p the policy by which the datapath admits media for the client, or says why it cannot be. It may be called
// before the connection has joined.
func (c *Conn) SetPolicy(p *datapath.Policy) error {
	x := c.c
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.space.SetPolicy(p); err != nil {
		return err
	}
	x.policy = *p
	return nil
}

// PolicyInUse names the client and its policy as the datapath's records do.
func (c *Conn) PolicyInUse() (client datapath.ClientID, generation uint8, version uint32) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.clientID, c.c.space.Generation(), c.c.space.PolicyVersion()
}

// Admit has the policy decide on media that userspace would send with quic-go, and draws what is admitted from the plan when it is sent.
func (c *Conn) Admit(o *datapath.Offer) (r datapath.Reason, cut bool) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.space.Admit(c.c.space.Now(), o)
}

// Reprioritize gives what waits of a track for this client, and what will have to be sent again, the importance that follows from a new priority of
// the subscription. The datapath has to be told before (SetSubscription): what it has opened by the old priority is known afterwards.
func (c *Conn) Reprioritize(up datapath.UpstreamID, track datapath.TrackID, priority uint8) {
	x := c.c
	x.b.drain()
	x.mu.Lock()
	for _, s := range x.streams {
		if s.upstream == up && s.track == track {
			s.rank = datapath.Importance(priority, s.priority)
		}
	}
	slices.SortFunc(x.need, (*FastStream).compare)
	x.unlockAndSend()
}

// Path is what is known of the path to a client.
type Path struct {
	Rate          uint64 // bytes per second that the path is taken to carry; 0: unknown
	Window        uint64 // bytes, as what follows
	InFlight      uint64
	Sent          uint64 // by anybody, so far
	Lost          uint64 // in media packets that were declared lost, so far
	Backlog       uint64 // of fast streams, waiting to be sent for the first time or again
	SmoothedRTT   time.Duration
	MinRTT        time.Duration
	Plan          time.Duration // how far ahead of now the plan is filled
	UnackedStream int           // fast streams in progress
}

// Path returns what is known of the path now. It takes time that grows with the streams in progress.
func (c *Conn) Path() Path {
	x := c.c
	x.mu.Lock()
	defer x.mu.Unlock()
	p := Path{Sent: x.space.Sent(), Lost: x.lostBytes, UnackedStream: len(x.streams)}
	if now, at := x.space.Now(), x.space.PlanTime(); at > now {
		p.Plan = time.Duration(at - now)
	}
	for _, s := range x.streams {
		if !s.reset && !s.done {
			p.Backlog += s.end - min(s.end, s.sent.size())
		}
	}
	if x.loss == nil {
		return p
	}
	p.Window, p.InFlight = x.loss.Window(), x.loss.InFlight()
	p.SmoothedRTT, p.MinRTT = durationOf(x.loss.RTT.Smoothed), durationOf(x.loss.RTT.Min)
	p.Rate = x.loss.Bandwidth()
	return p
}

// tellWaiting tells the datapath how important the media are that wait in userspace for the budget: what is not more important
// waits behind them. The caller holds mu.
func (c *conn) tellWaiting() {
	waiting := uint32(datapath.NothingWaits)
	for _, s := range c.need {
		if waiting = min(waiting, uint32(s.rank)); !s.urgent {
			break // the others are not more important
		}
	}
	if waiting != c.waiting {
		c.waiting = waiting
		c.space.SetWaiting(waiting)
	}
}
