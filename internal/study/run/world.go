// Package run simulates one run of a study, in virtual time: a relay that sends media to subscribers over bottlenecks.
//
//	program ──evArrival──► egress ──► link ──evDeliver──► receiver
//	                         │ held    ▲                     │
//	                         ▼         │                     │
//	                       need ──► compose ◄── recovery ◄─evAck
//	                                              │
//	            heuristic ──evPolicy──► Space ◄───┘ budget
//
// What decides is what decides in the relay: datapath.Space admits and bounds, recovery.Sender finds losses, congestion
// controls, heuristic makes policies. Modelled, after quicadapt, is the sender of what the datapath did not send, and the
// subscriber: its acknowledgments, its streams and its player.
//
// A run depends on nothing but its Config: the same one gives the same Result.
package run

import (
	"fmt"
	"time"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// Config is a run.
type Config struct {
	Scenario   *scenario.Scenario
	Heuristic  string
	Congestion string
	Seed       uint64
	// Trace gets the packets of the first subscriber; nil for none.
	Trace *Trace
}

// world is everything in a run.
type world struct {
	config  Config
	now     int64
	agenda  agenda
	program *program
	arrived int // of program.arrivals
	links   []*link
	clients []*client
	timeout int64
	end     int64

	packets     []packet
	freePackets []int32
	acks        []ack
	freeAcks    []int32
	resend      []resend
	refused     int    // heuristics that were replaced
	refusal     string // why the first was
	tracer      *Trace
}

// resend is a control message that was lost.
type resend struct {
	c *client
	m int32
}

// epoch is when the world begins: a time of 0 means none in many places.
const epoch = int64(time.Second)

const sampleEvery = 10 * int64(time.Millisecond)

// initialWindow is that of quicadapt, in datagrams.
const initialWindow = 32

// Run simulates a run.
func Run(config Config) (*Result, error) {
	w, err := newWorld(config)
	if err != nil {
		return nil, err
	}
	for w.now < w.end {
		if err := w.step(w.agenda.next()); err != nil {
			return nil, err
		}
	}
	return w.result()
}

func newWorld(config Config) (*world, error) {
	s := config.Scenario
	w := &world{config: config, now: epoch, program: newProgram(s, config.Seed), timeout: s.Timeout.Nanoseconds(), tracer: config.Trace}
	w.end = epoch + s.Duration.Nanoseconds() + max(s.Timeout, s.Playout).Nanoseconds() + int64(time.Second)
	for i := range s.Links {
		w.links = append(w.links, newLink(&s.Links[i], time.Duration(w.end), config.Seed, uint64(i)))
	}
	for i := range s.Subscribers {
		g := &s.Subscribers[i]
		for n := range g.Count {
			c, err := w.newClient(int32(len(w.clients)), g, g.SpreadDelay.Nanoseconds()*int64(n)/int64(max(g.Count-1, 1)))
			if err != nil {
				return nil, err
			}
			w.clients = append(w.clients, c)
		}
	}
	for i := range w.clients { // not all at the same moment
		offset := int64(heuristic.Interval) * int64(i) / int64(len(w.clients))
		w.agenda.add(epoch+offset, evPolicy, int32(i), 0)
		w.agenda.add(epoch+offset+s.Control.Nanoseconds()/2, evControl, int32(i), 0)
	}
	w.agenda.add(epoch, evSample, 0, 0)
	if len(w.program.arrivals) > 0 {
		w.agenda.add(epoch+w.program.arrivals[0].at, evArrival, 0, 0)
	}
	return w, nil
}

// since returns the time since the run began.
func (w *world) since() time.Duration { return time.Duration(w.now - epoch) }

func (w *world) step(e event) error {
	w.now = e.at
	switch e.kind {
	case evArrival:
		w.arrival()
	case evDeliver:
		w.receive(w.clients[e.who], e.arg)
	case evAck:
		c := w.clients[e.who]
		a := &w.acks[e.arg]
		if err := c.onAck(a); err != nil {
			return fmt.Errorf("subscriber %d at %v: %w", e.who, w.since(), err)
		}
		w.freeAcks = append(w.freeAcks, e.arg)
	case evAckTimer:
		w.ackTimer(w.clients[e.who])
	case evTimer:
		if c := w.clients[e.who]; c.timer == e.at {
			c.timer = 0
			c.onTimer()
		}
	case evPolicy:
		if err := w.clients[e.who].decide(); err != nil {
			return fmt.Errorf("subscriber %d at %v: %w", e.who, w.since(), err)
		}
		w.agenda.add(w.now+int64(heuristic.Interval), evPolicy, e.who, 0)
	case evControl:
		w.control(w.clients[e.who])
	case evSample:
		for _, l := range w.links {
			if w.now <= epoch+w.program.end {
				l.delays.add(l.queued(w.now))
			}
		}
		w.agenda.add(w.now+sampleEvery, evSample, 0, 0)
	}
	for len(w.resend) > 0 {
		r := w.resend[len(w.resend)-1]
		w.resend = w.resend[:len(w.resend)-1]
		r.c.sendControl(r.m)
	}
	return nil
}

// arrival gives a packet of the publisher to all clients.
func (w *world) arrival() {
	n := w.program.arrivals[w.arrived].piece
	for _, c := range w.clients {
		c.egress(n)
		c.flush()
	}
	if w.arrived++; w.arrived < len(w.program.arrivals) {
		w.agenda.add(epoch+w.program.arrivals[w.arrived].at, evArrival, 0, 0)
	}
}

func (w *world) control(c *client) {
	if w.now > epoch+w.program.end {
		return
	}
	c.controls = append(c.controls, control{sent: w.now, rtt: c.loss.RTT.Smoothed})
	c.sendControl(int32(len(c.controls)))
	w.agenda.add(w.now+w.config.Scenario.Control.Nanoseconds(), evControl, c.index, 0)
}

// decide asks the heuristic for a policy.
func (c *client) decide() error {
	v := &c.view
	v.Now = c.w.since()
	v.Window, v.InFlight = c.loss.Window(), c.loss.InFlight()
	v.SmoothedRTT, v.MinRTT = time.Duration(c.loss.RTT.Smoothed), time.Duration(c.loss.RTT.Min)
	v.Rate = 0
	if v.SmoothedRTT > 0 {
		v.Rate = uint64(float64(v.Window) * 1e9 / float64(v.SmoothedRTT))
		if r := c.loss.Rate(); r > 0 {
			v.Rate = min(v.Rate, r)
		}
	}
	v.Sent, c.sentBefore = c.stats.bytes-c.sentBefore, c.stats.bytes
	v.Lost, c.lostBefore = c.lostBytes-c.lostBefore, c.lostBytes
	v.Backlog = c.held
	v.Plan = time.Duration(max(int64(c.space.PlanTime())-c.w.now, 0))
	v.Timeout = time.Duration(c.w.timeout)
	c.meter.View(v)
	p := c.heuristic.Policy(v)
	c.policies++
	if err := c.space.SetPolicy(&p); err != nil {
		return err // not with what comes from a Guard
	}
	c.policy = p
	if c.w.tracer != nil && c.index == 0 {
		c.w.tracer.policy(c)
	}
	return nil
}

// trace tells of a stream that was dropped or reset.
func (w *world) trace(c *client, n int32, s *sending) {
	if w.tracer != nil && c.index == 0 {
		w.tracer.gaveUp(c, n, s)
	}
}
