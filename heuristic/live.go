package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

const (
	// liveLimit is how long admitted media may wait at most, if the subscriber has no deadline.
	liveLimit = time.Second
	// liveSlack is what may wait beyond what is computed: rates are averages.
	liveSlack = 50 * time.Millisecond
	// liveReopen is how long before the next group is due its first frames are let in already: a policy takes effect some time after it
	// is made, and a frame that is dropped by the policy of the old group cuts the new one.
	liveReopen = 3 * Interval
)

// Live is "live", the default: as many frames that can be decoded as the path carries, key frames and audio first.
//
// Of a group of pictures that is too much for the path, the best that can be sent is its beginning: a frame depends on those before it. So
// a stream is admitted if it would still be sent before the next group begins, that is if what waits is less than
//
//	(path's rate − rate of what is more important and comes all the time) × time until the next group is due
//
// Early in a group much may wait, late in it little, and each group leaves an empty queue to the next one's key frame. The first frame that
// does not fit cuts its group. What nothing depends on (the importances below that of reference frames) is left out before a
// group is cut; but if even the reference frames alone do not fit, it is sent as long as they are, for its price is low and
// the end of the group is lost anyway. Key frames and audio have all of the queue and overflow it.
//
// It knows key frames and reference frames by how many streams of an importance a group has: one, or several. Groups that are not known yet, or
// overlap because several tracks have the same importance, are taken to go on for ever: then a stream is admitted if it would be sent
// before it is too old.
type Live struct{ plan Planner }

func (l *Live) Name() string { return "live" }

func (l *Live) Policy(v *View) datapath.Policy {
	limit := liveLimit
	if v.Timeout > 0 {
		limit = min(limit, v.Timeout*8/10)
	}
	p, ok := l.plan.Plan(v, limit)
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{}
	}
	p.Overflow = uint64(carried(&p, limit/4))
	full := carried(&p, limit)
	slack := carried(&p, liveSlack)
	room := func(used float64, d time.Duration) float64 {
		return slack + max(float64(p.Rate)-used, 0)*min(max(d, 0), limit).Seconds()
	}
	var (
		steady, heads float64       // rates of what is more important: what comes all the time, and what begins a group
		first         float64       // bytes that begin a group
		below         bool          // reference frames were there
		tight         bool          // they alone are too much
		open          time.Duration // for how long reference frames are looked ahead
		group         *Class        // tells when groups begin
		least         = full
	)
	for i, classes := 0, bands(v); i < len(classes); i++ {
		c, b := &classes[i], datapath.Band{UpTo: classes[i].Importance, MaxAge: maxAge(v, &classes[i])}
		if first > 0 && group == nil && c.grouped() || i == len(classes)-1 && first == 0 && c.grouped() {
			group = c
		}
		rest := limit
		if group != nil {
			rest = group.Period + group.Deviation - (v.Now - group.Begun)
		}
		depth := full
		switch {
		case c.head():
			if below { // of another track
				group, steady, heads, first, below, tight = nil, steady+heads, 0, 0, false, false
				depth = room(steady, limit)
			} else if i == 0 || p.Bands[i-1].Overflow {
				b.Overflow = true
			}
			if c.grouped() {
				group = c
			}
			heads += float64(c.Rate)
			first += float64(min(c.Peak, maxRate))
			p.Overflow += 2 * min(c.Peak, maxRate)
		case first == 0 && i < len(classes)-1: // audio
			b.Overflow = i == 0 || p.Bands[i-1].Overflow
			steady += float64(c.Rate)
		case !below:
			open = rest
			if group != nil && (c.Shed > 0 || rest < liveReopen) {
				open = group.Period
			}
			depth = max(room(steady, open), max(first, float64(c.Peak))+slack)
			b.Cut = true
			steady += float64(c.Rate)
			below, tight = true, steady > float64(p.Rate) && c.Period <= limit*3/2
		case tight:
			depth = least
			steady += float64(c.Rate)
		default:
			depth = room(steady, rest)
			steady += float64(c.Rate)
		}
		least = min(least, depth)
		b.Reserve = uint64(full - least)
		p.Bands = append(p.Bands, b)
	}
	return finish(p)
}

// grouped says whether the class's groups follow each other slowly enough to plan by.
func (c *Class) grouped() bool { return c.Period > 2*liveReopen }

// head says whether streams of the class begin groups, one each: key frames. So they do in the first group, for all that is known.
func (c *Class) head() bool { return c.Streams == 1 && (c.grouped() || c.Period == 0) }

// maxAge returns after what time streams of a class are given up. One that is a whole layer of a group goes on for as long.
func maxAge(v *View, c *Class) time.Duration {
	switch {
	case v.Timeout > 0:
		return 0
	case c.head():
		return liveLimit + c.Period
	}
	return liveLimit
}
