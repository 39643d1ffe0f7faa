package netsim

import (
	"math/rand/v2"
	"time"
)

// Shape says what a path does to packets. The zero value passes them on at once.
type Shape struct {
	Delay     time.Duration // of every packet, one way
	Jitter    time.Duration // added to it: uniformly 0 to Jitter, in the order of sending
	Reorder   float64       // share of packets that ReorderBy is added to, so that later ones overtake them
	ReorderBy time.Duration
	Duplicate float64 // share of packets that arrive twice
	Loss      float64 // share of packets that are lost, each by itself
	Burst     Burst   // loss in bursts, in addition
	Rate      int     // of the bottleneck, bytes per second; 0: there is none
	Queue     int     // bytes that fit into the bottleneck's queue; what does not fit is lost
	MTU       int     // UDP payload bytes of the largest packet that passes; 0: any
}

// Burst is the loss model of Gilbert and Elliott: a path is in a good state, where nothing is lost, or in a bad one. The bad one
// also ends by itself, maxBurst after it began: counted in packets alone, a burst that meets a sender which backs off lasts for minutes.
type Burst struct {
	Enter float64 // chance of going from good to bad, per packet
	Leave float64 // chance of going back, per packet
	Loss  float64 // share of packets that are lost in the bad state
}

// maxBurst is how long a burst lasts at most.
const maxBurst = 2 * time.Second

// Mean returns the share of packets that are lost in the long run.
func (b Burst) Mean() float64 {
	if b.Enter == 0 {
		return 0
	}
	return b.Enter / (b.Enter + b.Leave) * b.Loss
}

// Lossless reports whether every packet arrives once, in order: what a bottleneck does depends on what is sent.
func (s Shape) Lossless() bool {
	return s.Loss == 0 && s.Burst == Burst{} && s.Rate == 0 && s.Duplicate == 0 && s.Reorder == 0
}

// Fate is what happened to a packet.
type Fate uint8

// Fates.
const (
	Passed      Fate = iota
	Late             // overtaken
	Duplicated       // arrives twice
	Lost             // at random
	LostBurst        // in a burst
	QueueFull        // at the bottleneck
	TooBig           // for the MTU
	Unreachable      // nobody has the address
)

var fateNames = [...]string{"passed", "late", "duplicated", "lost", "lost in a burst", "queue full", "too big", "unreachable"}

func (f Fate) String() string { return fateNames[f] }

// Path is one direction of a link. Its methods take the time, which must not go backwards for a bottleneck to be exact.
type Path struct {
	shape Shape
	rnd   *rand.Rand
	bad   bool      // of Burst
	since time.Time // when bad began
	free  time.Time // when the bottleneck has sent all that waits
	last  time.Time // latest arrival of a packet that was not delayed out of order
	neck  *Bottleneck
}

// NewPath returns a path whose chances are those of a seed.
func NewPath(s Shape, seed uint64) *Path {
	return &Path{shape: s, rnd: rand.New(rand.NewPCG(seed, 0x70617468))}
}

// Send sends a packet of a size and returns when it arrives: never, once or twice.
func (p *Path) Send(size int, at time.Time) (arrivals []time.Time, fate Fate) {
	s := &p.shape
	// Every packet draws the same numbers, so that what happens to one does not change the chances of the next.
	lost, burst, turn, late, twice, jitter := p.rnd.Float64(), p.rnd.Float64(), p.rnd.Float64(), p.rnd.Float64(), p.rnd.Float64(), p.rnd.Float64()
	switch {
	case p.bad:
		p.bad = turn >= s.Burst.Leave && at.Sub(p.since) < maxBurst
	case turn < s.Burst.Enter:
		p.bad, p.since = true, at
	}
	if s.MTU > 0 && size > s.MTU {
		return nil, TooBig
	}
	if s.Rate > 0 {
		if p.free.Before(at) {
			p.free = at
		}
		took := time.Duration(int64(size) * int64(time.Second) / int64(s.Rate))
		waiting := int(int64(p.free.Sub(at)) * int64(s.Rate) / int64(time.Second))
		if waiting+size > s.Queue {
			return nil, QueueFull
		}
		p.free = p.free.Add(took)
		at = p.free
	}
	if p.neck != nil {
		var ok bool
		if at, ok = p.neck.pass(size, at); !ok {
			return nil, QueueFull
		}
	}
	switch {
	case lost < s.Loss:
		return nil, Lost
	case p.bad && burst < s.Burst.Loss:
		return nil, LostBurst
	}
	at = at.Add(s.Delay + time.Duration(jitter*float64(s.Jitter)))
	if at.Before(p.last) {
		at = p.last
	}
	fate = Passed
	if late < s.Reorder {
		at, fate = at.Add(s.ReorderBy), Late
	} else {
		p.last = at
	}
	arrivals = append(arrivals, at)
	if twice < s.Duplicate {
		arrivals, fate = append(arrivals, at.Add(s.ReorderBy)), Duplicated
	}
	return arrivals, fate
}
