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
// it. What still waits when the next key frame comes, and cannot be in time behind it, is given up, and so is what has waited for as long as the subscriber's deadline, or a second
// without one: also what was admitted while nothing was known of the path yet.
//
// What is what is seen from the streams of a track: key frames are one in a group, reference frames several; audio frames are several of about
// the same size, and no key frames; a stream that lasts is a layer, of which the most important is sent and others as long as the path carries them. While
// groups are not known they are taken to go on for ever.
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
	useful := min(or(max(v.Timeout, 0), liveLimit), maxQueue) // not every subscriber says so itself
	p, ok := l.plan.Plan(v, limit)
	if !ok || len(v.Classes) == 0 {
		return datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, MaxAge: useful}}}
	}
	o := outlook{deadline: max(v.Timeout-v.SmoothedRTT, 0), now: v.Now, limit: limit, rate: float64(p.Rate), full: carried(&p, limit), top: true, idle: v.Backlog == 0 && v.InFlight < v.Window/2}
	var found [2]outlookTrack
	o.tracks = found[:0]
	least, classes := o.full, bands(v)
	p.Bands = make([]datapath.Band, 0, len(classes))
	for i := range classes {
		c := &classes[i]
		b := datapath.Band{UpTo: c.Importance, MaxAge: useful}
		least = max(min(least, o.depth(c, &b)), 0)
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
	tracks []outlookTrack
}

// outlookTrack is what was found of a track.
type outlookTrack struct {
	id            uint64
	heads         float64 // rate of what begins its groups
	group         Class   // tells when groups begin; its Period is 0 if that is not known
	headed, based bool    // there were key frames; there was a layer
	chained       bool    // there were reference frames
	tight         bool    // they alone are too much
	before        float64 // how much may wait for them
}

// track returns what was found of a track so far.
func (o *outlook) track(id uint64) *outlookTrack {
	for i := range o.tracks {
		if o.tracks[i].id == id {
			return &o.tracks[i]
		}
	}
	o.tracks = append(o.tracks, outlookTrack{id: id})
	return &o.tracks[len(o.tracks)-1]
}

// depth returns how many bytes may wait when a stream of the class is admitted, and completes its band.
func (o *outlook) depth(c *Class, b *datapath.Band) float64 {
	t, rate := o.track(c.Track), float64(c.Rate)
	first := !t.headed && !t.based && !t.chained
	switch {
	case c.lasting() && first: // the most important layer, or all of an audio track
		t.based, b.Overflow = true, o.top
		o.steady += rate
		o.largest = max(o.largest, min(c.Peak/uint64(max(c.Period/Interval, 1)), maxRate))
		return o.important()
	case c.lasting():
		return o.layer(c, b)
	case c.single():
		t.headed, b.Overflow = true, o.top
		if c.grouped() {
			t.group = *c
		}
		room := o.important()
		t.heads += rate
		o.heads += rate
		o.largest = max(o.largest, min(c.Peak, maxRate))
		return room
	case first && c.even(): // audio
		b.Overflow = o.top
		room := o.important()
		o.steady += rate
		return room
	}
	o.top = false
	return o.frames(t, c, b)
}

// important returns how many bytes may wait when what has to arrive comes: all, or of a track that is less important than another's reference frames, what those leave.
func (o *outlook) important() float64 {
	if o.top {
		return o.full
	}
	return o.room(o.steady+o.heads, o.limit)
}

// layer returns the depth for streams that last and are not the most important of their track.
func (o *outlook) layer(c *Class, b *datapath.Band) float64 {
	o.top = false
	carries := o.rate
	if o.idle { // a window that is not used does not grow, so what the path carries has to be tried
		carries *= 1.5
	}
	share := (carries - o.steady - o.heads) / max(float64(c.Rate), 1)
	o.steady += float64(c.Rate)
	if share >= 1 {
		return o.full / 2
	}
	// Of one that does not fit the beginning does: it is given up when it has fallen behind by what may wait.
	if part := time.Duration(share * float64(c.Period)); part > liveReopen {
		b.MaxAge = o.limit
		return o.full / 2
	}
	return 0
}

// frames returns the depth for frames that depend on what came before in their group: first the reference frames, then what nothing needs.
func (o *outlook) frames(t *outlookTrack, c *Class, b *datapath.Band) float64 {
	if t.group.Period == 0 && c.grouped() {
		t.group = *c
	}
	used := o.steady + o.heads - t.heads
	o.steady += float64(c.Rate)
	rest, period := o.limit, o.limit
	if g := &t.group; g.Period > 0 {
		rest, period = g.Period+g.deviation()-(o.now-g.Begun), g.Period
		left := rest
		if left < liveReopen {
			left += period
		}
		// What the next key frame overtakes may be too late behind it, and would be sent in vain.
		if o.deadline > 0 && left+liveAfter+time.Duration(float64(o.largest)/o.rate*float64(time.Second)) > o.deadline {
			b.MaxAge = min(b.MaxAge, max(left+liveAfter+g.deviation(), Interval))
		}
	}
	if !t.chained {
		t.chained, b.Cut = true, true
		if c.Shed > 0 || rest < liveReopen { // of this group nothing more comes, or only little
			rest = period
		}
		t.before = o.room(used, rest)
		t.tight = o.steady > o.rate && period <= o.limit*3/4
		return t.before
	}
	if t.tight {
		return t.before
	}
	room := o.room(used, rest)
	if o.steady+o.heads <= o.rate { // averages: what fits is not dropped for being early
		room += o.full / 8
	}
	return room
}

// room returns how many bytes may wait to be sent within d, if used is the rate of what is more important.
func (o *outlook) room(used float64, d time.Duration) float64 {
	return max(o.rate-used, 0) * min(max(d, 0), o.limit).Seconds()
}

// grouped says whether the class's groups follow each other slowly enough to plan by.
func (c *Class) grouped() bool { return c.Period > 2*liveReopen }

// lasting says whether streams of the class go on for much of their group.
func (c *Class) lasting() bool { return c.grouped() && c.Span > c.Period/3 }

// single says whether a group has one stream of the class. So it is in the first group, for all that is known.
func (c *Class) single() bool { return c.Streams == 1 && (c.grouped() || c.Period == 0) }

// even says whether streams of the class are of about the same size, as audio frames.
func (c *Class) even() bool { return c.Peak*c.Streams <= 3*c.Group }
