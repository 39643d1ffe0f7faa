package relay_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// scenarioPlan is what a seed decides: who comes when, over which paths, for what. What stock quic-go draws by itself it does not decide.
type scenarioPlan struct {
	seed        uint64
	draft       wire.Draft // of the publisher
	up, down    netsim.Shape
	tracks      []trackPlan
	subscribers []subscriberPlan
	length      time.Duration // of the publication
	drops       *dropPlan     // nil: nothing is dropped by policy
}

type layout uint8

const (
	perFrame  layout = iota // a stream for each object
	perGroup                // a stream for each group
	datagrams               // no streams
)

func (l layout) String() string { return [...]string{"per frame", "per group", "datagrams"}[l] }

// trackPlan is a track of groups of objects that are sent at a steady pace.
type trackPlan struct {
	name     string
	layout   layout
	group    uint64 // objects per group
	interval time.Duration
	max      int // bytes of the largest object
}

type ending uint8

const (
	stays ending = iota
	unsubscribes
	closes
	dies // silently
)

func (e ending) String() string { return [...]string{"stays", "unsubscribes", "closes", "dies"}[e] }

// visit is a subscription to all tracks, for a time.
type visit struct {
	after  time.Duration // since the last visit, or since the start
	filter moq.Filter
	past   bool // of absolute filters: they start before the largest object
	stay   time.Duration
	end    ending
}

// subscriberPlan is a host. Visits that follow unsubscribes use the same connection.
type subscriberPlan struct {
	draft         wire.Draft
	up, down      netsim.Shape
	small         bool // windows
	streams       int64
	priority      uint8         // of its subscriptions
	timeout       time.Duration // of delivery; 0: none
	visits        []visit
	rebind, moves time.Duration // when a NAT gives it another address, and when it goes to another path by itself; 0: never
}

func (s *subscriberPlan) config() *quic.Config {
	c := &quic.Config{
		MaxIncomingUniStreams: s.streams, EnableDatagrams: true, KeepAlivePeriod: 10 * time.Second,
		HandshakeIdleTimeout: time.Minute, MaxIdleTimeout: time.Minute,
	}
	if s.small {
		c.InitialStreamReceiveWindow, c.MaxStreamReceiveWindow = 16<<10, 16<<10
		c.InitialConnectionReceiveWindow, c.MaxConnectionReceiveWindow = 64<<10, 64<<10
	}
	return c
}

// paths draws the two directions of a host's link. Loss is at most 10 % in all in each direction.
func paths(rnd *rand.Rand) (up, down netsim.Shape) {
	delay := time.Duration(1+rnd.IntN(30)) * time.Millisecond
	rough := rnd.IntN(5) > 0 // otherwise the link is perfect
	for _, s := range []*netsim.Shape{&up, &down} {
		s.Delay, s.MTU = delay, 1280
		if !rough {
			continue
		}
		s.Jitter = time.Duration(rnd.IntN(5)) * time.Millisecond
		switch rnd.IntN(4) {
		case 0:
			s.Loss = rnd.Float64() * 0.1
		case 1:
			s.Loss = rnd.Float64() * 0.02
		case 2:
			s.Burst = netsim.Burst{Leave: 0.1 + rnd.Float64()*0.4, Loss: 0.5 + rnd.Float64()*0.5}
			s.Burst.Enter = s.Burst.Leave * rnd.Float64() * 0.1
		}
		if rnd.IntN(2) == 0 {
			s.Reorder, s.ReorderBy = rnd.Float64()*0.1, time.Duration(1+rnd.IntN(10))*time.Millisecond
		}
		if rnd.IntN(3) == 0 {
			s.Duplicate = rnd.Float64() * 0.03
		}
		if rnd.IntN(4) == 0 {
			s.Rate, s.Queue = 150_000+rnd.IntN(2_000_000), 16<<10+rnd.IntN(100<<10)
		}
	}
	return up, down
}

func newScenarioPlan(seed uint64) *scenarioPlan {
	rnd := rand.New(rand.NewPCG(seed, 99))
	drafts := []wire.Draft{wire.Draft14, wire.Draft16}
	p := &scenarioPlan{seed: seed, draft: drafts[rnd.IntN(2)], length: time.Duration(1500+rnd.IntN(2500)) * time.Millisecond}
	p.up, p.down = paths(rnd)
	p.up.Rate, p.down.Rate = 0, 0 // a publisher that cannot send what it publishes is not a relay's concern
	p.tracks = []trackPlan{{name: "video", layout: perFrame, group: uint64(5 + rnd.IntN(15)), interval: 40 * time.Millisecond, max: 6000}}
	if rnd.IntN(2) == 0 {
		p.tracks = append(p.tracks, trackPlan{name: "layers", layout: perGroup, group: uint64(2 + rnd.IntN(20)), interval: 60 * time.Millisecond, max: 4000})
	}
	if rnd.IntN(3) == 0 {
		p.tracks = append(p.tracks, trackPlan{name: "audio", layout: datagrams, group: uint64(10 + rnd.IntN(20)), interval: 20 * time.Millisecond, max: 400})
	}
	n := 1 + rnd.IntN(4)
	if rnd.IntN(4) == 0 {
		n = 1 + rnd.IntN(8)
	}
	for i := range n {
		s := subscriberPlan{draft: p.draft, streams: 1000}
		if rnd.IntN(6) == 0 {
			s.draft = drafts[rnd.IntN(2)]
		}
		s.up, s.down = paths(rnd)
		if rnd.IntN(3) == 0 {
			s.small, s.streams = true, int64(3+rnd.IntN(20))
		}
		visits := 1
		if i > 0 && rnd.IntN(2) == 0 {
			visits = 2 + rnd.IntN(2)
		}
		for k := range visits {
			v := visit{filter: moq.Filter(1 + rnd.IntN(4)), past: rnd.IntN(2) == 0, end: stays, stay: time.Duration(100+rnd.IntN(1200)) * time.Millisecond}
			if i > 0 || k > 0 {
				v.after = time.Duration(rnd.IntN(int(p.length/time.Millisecond)/visits)) * time.Millisecond
			}
			switch {
			case k < visits-1:
				v.end = []ending{unsubscribes, unsubscribes, closes, dies}[rnd.IntN(4)]
			case i > 0 && rnd.IntN(6) == 0:
				v.end = []ending{unsubscribes, closes, dies}[rnd.IntN(3)]
			}
			s.visits = append(s.visits, v)
		}
		if rnd.IntN(5) == 0 {
			s.rebind = time.Duration(300+rnd.IntN(2000)) * time.Millisecond
		} else if rnd.IntN(5) == 0 {
			s.moves = time.Duration(300+rnd.IntN(2000)) * time.Millisecond
		}
		p.subscribers = append(p.subscribers, s)
	}
	return p
}

// lossless reports whether every datagram that is sent to a subscriber arrives.
func (p *scenarioPlan) lossless(s *subscriberPlan) bool {
	return p.up.Lossless() && s.down.Lossless() && s.up.Lossless() && !s.small && s.rebind == 0 && s.moves == 0
}

func (p *scenarioPlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %v, %v of media\npublisher up %+v\n          down %+v\n", p.seed, p.draft, p.length, p.up, p.down)
	for _, t := range p.tracks {
		fmt.Fprintf(&b, "track %s: %v, %d objects a group, one every %v, up to %d bytes\n", t.name, t.layout, t.group, t.interval, t.max)
	}
	for i, s := range p.subscribers {
		fmt.Fprintf(&b, "subscriber %d: %v, small windows %v, %d streams, rebind after %v, moves after %v\n  up %+v\n  down %+v\n",
			i, s.draft, s.small, s.streams, s.rebind, s.moves, s.up, s.down)
		for _, v := range s.visits {
			fmt.Fprintf(&b, "  after %v: filter %d (past %v) for %v, then %v\n", v.after, v.filter, v.past, v.stay, v.end)
		}
	}
	return b.String()
}
