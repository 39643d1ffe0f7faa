package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

const (
	// liveLimit is how long admitted media may wait at most, whatever the subscriber's deadline.
	liveLimit = time.Second
	// liveReopen is how long before the next group is due its first frames are let in already: a policy takes effect some time after it
	// is made, and a frame that is dropped by the policy of the old group cuts the new one.
	liveReopen = 3 * Interval
	// liveAfter is for how long frames are still sent after the next group was due.
	liveAfter = 2 * Interval
)

// Live is "live", the default: as many frames that can be decoded as the path carries, key frames and audio first.
//
// Of a group of pictures that is too much for the path, the best that can be sent is its beginning: a frame depends on those before it. So
// a frame is admitted if it would still be sent before the next group begins, that is if what waits is less than
//
//	(path's rate − rate of what is more important and comes all the time) × time until the next group is due
//
// Early in a group much may wait, late in it little, and each group leaves an empty queue to the next one's key frame. The first
// reference frame that does not fit cuts its group. Frames less important than those go first: the more important takes all of the rate that
// they may have. Only if a group is short against the subscriber's deadline, and even its reference frames do not all fit, they are
// sent as long as those are: the end of the group is lost anyway, and they cost little. Key frames and audio have all of the queue and overflow
// it. What still waits when the next key frame comes, and cannot be in time behind it, is given up.
//
// What is what is seen from the streams: key frames are one in a group, reference frames several; audio frames are several of about the
// same size; a stream that lasts is a layer, of which the most important is sent and others as long as the path carries them. While
// groups are not known, or overlap because several tracks have the same importance, they are taken to go on for ever.
//
// It is made for live video with audio, whose groups are a few times shorter or longer than the subscriber's deadline.
type Live struct{ plan Planner }

func (l *Live) Name() string { return "live" }

func (l *Live) Policy(v *View) datapath.Policy {
	limit := liveLimit
	if v.Timeout > 0 { // what is admitted still has to cross the network
		timeout := min(v.Timeout, maxQueue)
		limit = max(min(limit, timeout*9/10-v.SmoothedRTT), timeout/4)
	}
	p, ok := l.plan.Plan(v, limit)
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{}
	}
	o := outlook{deadline: max(v.Timeout-v.SmoothedRTT, 0), now: v.Now, limit: limit, rate: float64(p.Rate), full: carried(&p, limit), top: true, idle: v.Backlog == 0 && v.InFlight < v.Window/2}
	least := o.full
	for _, c := range bands(v) {
		b := datapath.Band{UpTo: c.Importance}
		if v.Timeout == 0 {
			b.MaxAge = liveLimit + min(max(c.Span, 0), maxQueue)
		}
		least = max(min(least, o.depth(&c, &b)), 0)
		b.Reserve = uint64(o.full - least)
		p.Bands = append(p.Bands, b)
	}
	p.Overflow = uint64(o.full/4) + 2*o.largest
	return finish(p)
}

// outlook is what a walk through the classes, from the most important on, has found.
type outlook struct {
	now, limit time.Duration
	deadline   time.Duration // for what leaves userspace; 0: none
	rate       float64       // of the path
	full       float64       // bytes that it carries in limit
	idle       bool          // it could carry more now
	top        bool          // nothing has come yet that may not overflow
	largest    uint64        // bytes of a key frame

	// Of what is more important than the class looked at.
	steady float64 // rate of what comes all the time
	heads  float64 // rate of what begins groups

	// Of the track that the class is of, or may be.
	group         *Class  // tells when groups begin
	headed, based bool    // there were key frames; there was a layer
	chained       bool    // there were reference frames
	tight         bool    // they alone are too much
	before        float64 // how much may wait for them
}

// depth returns how many bytes may wait when a stream of the class is admitted, and completes its band.
func (o *outlook) depth(c *Class, b *datapath.Band) float64 {
	rate := float64(c.Rate)
	switch {
	case c.lasting():
		carries := o.rate
		if o.idle { // a window that is not used does not grow, so what the path carries has to be tried
			carries *= 1.5
		}
		share := (carries - o.steady - o.heads) / max(rate, 1)
		o.steady += rate
		if !o.based && !o.chained {
			o.based, b.Overflow = true, o.top
			o.largest = max(o.largest, min(c.Peak/uint64(max(c.Period/Interval, 1)), maxRate))
			return o.full
		}
		o.top = false
		if share >= 1 {
			return o.full / 2
		}
		// Of one that does not fit the beginning does.
		if part := time.Duration(share * float64(c.Period)); part > liveReopen {
			b.MaxAge = part
			return o.full / 2
		}
		return 0
	case c.single():
		if o.chained || o.based { // another track's
			*o = outlook{deadline: o.deadline, now: o.now, limit: o.limit, rate: o.rate, full: o.full, idle: o.idle, largest: o.largest, steady: o.steady + o.heads}
		}
		o.headed = true
		if c.grouped() {
			copied := *c
			o.group = &copied
		}
		room := o.full
		if !o.top {
			room = o.room(o.limit)
		}
		o.heads += rate
		o.largest = max(o.largest, min(c.Peak, maxRate))
		b.Overflow = o.top
		return room
	case c.even() && !o.follows(c):
		o.steady += rate
		b.Overflow = o.top
		return o.full
	}
	o.top = false
	if o.group == nil && c.grouped() {
		copied := *c
		o.group = &copied
	}
	rest, period := o.limit, o.limit
	if o.group != nil {
		rest, period = o.group.Period+o.group.Deviation-(o.now-o.group.Begun), o.group.Period
	}
	// What the next key frame overtakes may be too late behind it, and would be sent in vain.
	left := rest
	if left < liveReopen {
		left += period
	}
	if o.deadline > 0 && o.group != nil && left+liveAfter+time.Duration(float64(o.largest)/o.rate*float64(time.Second)) > o.deadline {
		b.MaxAge = left + liveAfter + o.group.Deviation
	}
	if !o.chained {
		o.chained, b.Cut = true, true
		if c.Shed > 0 || rest < liveReopen { // of this group nothing more comes, or only little
			rest = period
		}
		o.before = o.room(rest)
		o.steady += rate
		o.tight = o.steady > o.rate && period <= o.limit*3/4
		return o.before
	}
	room := o.room(rest)
	o.steady += rate
	if o.tight {
		return o.before
	}
	if o.steady+o.heads <= o.rate { // averages: what fits is not dropped for being early
		room += o.full / 8
	}
	return room
}

// follows says whether the class may be what follows in the groups that were begun: as far as is known, its groups come as often.
func (o *outlook) follows(c *Class) bool {
	if o.group != nil {
		return (c.Period - o.group.Period).Abs() <= o.group.Period/4+o.group.Deviation
	}
	return o.headed && (c.grouped() || c.Period == 0) || o.based || o.chained
}

// room returns how many bytes may wait to be sent within d, behind all that is more important.
func (o *outlook) room(d time.Duration) float64 {
	return max(o.rate-o.steady, 0) * min(max(d, 0), o.limit).Seconds()
}

// grouped says whether the class's groups follow each other slowly enough to plan by.
func (c *Class) grouped() bool { return c.Period > 2*liveReopen }

// lasting says whether streams of the class go on for much of their group.
func (c *Class) lasting() bool { return c.grouped() && c.Span > c.Period/3 }

// single says whether a group has one stream of the class. So it is in the first group, for all that is known; but what is small may
// well be a catalog then.
func (c *Class) single() bool {
	const small = 4 << 10
	return c.Streams == 1 && (c.grouped() || c.Period == 0 && c.Peak > small)
}

// even says whether streams of the class are of about the same size, as audio frames.
func (c *Class) even() bool { return c.Peak*c.Streams <= 3*c.Group }
