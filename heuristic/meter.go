package heuristic

import (
	"math"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

const (
	// MaxClasses is how many importances a Meter tells apart; what comes beyond is counted with the nearest.
	MaxClasses = 32
	// meterStreams is how many streams of late a Meter knows. A frame of an older one counts as a new stream.
	meterStreams = 64
	// meterTime is the time constant of rates: some groups' worth, so that a rate does not breathe with the key frames.
	meterTime = 2 * time.Second
	// meterForget is after what time a class from which nothing came is forgotten, and so are its peaks.
	meterForget = 10 * time.Second
)

// Meter measures what is offered to one client, for the Classes of its views. The zero Meter is ready. Offer does not allocate.
type Meter struct {
	classes []class // by importance
	streams [meterStreams]meterStream
	next    uint // place of the next new stream
	last    time.Duration
	view    []Class
}

type class struct {
	Class
	sum                  float64       // offered bytes, older ones less: e^(-age/meterTime)
	since, seen          time.Duration // first and last offer
	peak, group, streams decayingMax
	span                 decayingMax   // ns
	id                   uint64        // the latest group
	followed             time.Duration // last offer of its track
	inGroup              Count         // what came of it
}

type meterStream struct {
	id, bytes uint64
	first     time.Duration // offer
	known     bool
	dropped   bool
}

// Offer counts a frame that was offered to the client: bytes of a stream that were not offered before, or a datagram.
// stream names the stream among all that the client is offered, a datagram being one of its own; group is that of track. reason says what
// became of it in the datapath: only those of a policy (datapath.Reason.Dropped) are drops, everything else is sent sooner or later.
func (m *Meter) Offer(now time.Duration, importance uint16, track, group, stream uint64, bytes int, reason datapath.Reason) {
	c, s := m.class(now, importance), m.stream(stream)
	n := uint64(max(bytes, 0))
	c.decay(now)
	c.sum += float64(n)
	c.seen = now
	begins := uint64(0)
	if !s.known {
		s.known, s.first, begins = true, now, 1
	}
	c.begin(now, track, group)
	current := track == c.Track && group == c.id
	if current {
		c.inGroup.add(n, begins)
		c.group.raise(now, c.inGroup.Bytes)
		c.streams.raise(now, c.inGroup.Streams)
	}
	s.bytes += n
	c.span.raise(now, uint64(max(now-s.first, 0)))
	c.peak.raise(now, s.bytes)
	c.Offered.add(n, begins)
	if reason.Dropped() {
		if !s.dropped {
			begins, s.dropped = 1, true
		}
		c.Dropped.add(n, begins)
		if current {
			c.Shed += begins
		}
	} else {
		c.Admitted.add(n, begins)
	}
}

func (c *Count) add(bytes, streams uint64) { c.Bytes += bytes; c.Streams += streams }

// class returns the class of an importance.
func (m *Meter) class(now time.Duration, importance uint16) *class {
	i, ok := slices.BinarySearchFunc(m.classes, importance, func(c class, t uint16) int { return int(c.Importance) - int(t) })
	switch {
	case ok:
	case len(m.classes) < MaxClasses:
		if m.classes == nil {
			m.classes = make([]class, 0, MaxClasses)
		}
		m.classes = slices.Insert(m.classes, i, class{Class: Class{Importance: importance}, since: now})
	case i == len(m.classes):
		i--
	}
	return &m.classes[i]
}

// stream returns what is known of a stream. Most frames are of one of the newest.
func (m *Meter) stream(id uint64) *meterStream {
	for i := range uint(meterStreams) {
		if s := &m.streams[(m.next-1-i)%meterStreams]; s.known && s.id == id {
			return s
		}
	}
	s := &m.streams[m.next]
	*s = meterStream{id: id}
	m.next = (m.next + 1) % meterStreams
	return s
}

// begin notes that a group of the class has begun, if it is a new one. Of several tracks the first counts, until nothing more comes of it.
func (c *class) begin(now time.Duration, track, group uint64) {
	first, gone := c.inGroup == Count{}, now-c.followed > meterForget
	if !first && !gone && (track != c.Track || group <= c.id) {
		if track == c.Track {
			c.followed = now
		}
		return
	}
	if between := now - c.Begun; !first && !gone {
		if c.Period == 0 {
			c.Period = between
		}
		c.Deviation += ((between - c.Period).Abs() - c.Deviation) / 4
		c.Period += (between - c.Period) / 4
	}
	c.Track, c.id, c.inGroup, c.Shed, c.Begun, c.followed = track, group, Count{}, 0, now, now
}

// decay ages the class's sum to now.
func (c *class) decay(now time.Duration) {
	if now > c.seen {
		c.sum *= math.Exp(-float64(now-c.seen) / float64(meterTime))
		c.seen = now
	}
}

// View writes what was offered since the last call to v: Classes and LastInterval. v.Now must be set.
func (m *Meter) View(v *View) {
	v.LastInterval, m.last = v.Now-m.last, v.Now
	m.view = m.view[:0]
	keep := m.classes[:0]
	for i := range m.classes {
		c := &m.classes[i]
		if v.Now-c.seen > meterForget {
			continue
		}
		sum := c.sum * math.Exp(-float64(v.Now-c.seen)/float64(meterTime))
		// A class that is new has not filled the time constant yet; the first second of it says little.
		age := max(v.Now-c.since, time.Second)
		c.Rate = uint64(sum / (meterTime.Seconds() * (1 - math.Exp(-float64(age)/float64(meterTime)))))
		c.Peak, c.Group, c.Streams, c.Span = c.peak.at(v.Now), c.group.at(v.Now), c.streams.at(v.Now), time.Duration(c.span.at(v.Now))
		m.view = append(m.view, c.Class)
		c.Offered, c.Admitted, c.Dropped = Count{}, Count{}, Count{}
		keep = append(keep, *c)
	}
	m.classes = keep
	v.Classes = m.view
}

// decayingMax is the largest of values, those of the last few seconds: the maximum of the present window and of the one before.
type decayingMax struct {
	window    time.Duration
	now, past uint64
}

func (d *decayingMax) raise(now time.Duration, x uint64) {
	d.turn(now)
	d.now = max(d.now, x)
}

func (d *decayingMax) turn(now time.Duration) {
	const window = meterForget / 2
	switch w := now / window; w {
	case d.window:
	case d.window + 1:
		d.window, d.past, d.now = w, d.now, 0
	default:
		d.window, d.past, d.now = w, 0, 0
	}
}

func (d *decayingMax) at(now time.Duration) uint64 {
	d.turn(now)
	return max(d.now, d.past)
}
