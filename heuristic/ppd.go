package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// PriorityDrop is "ppd", quality-adaptive streaming by priority drop (Krasic, Walpole and Feng, NOSSDAV 2003). Time is divided into windows. What
// comes within one is sent in the order of its importance, as far as the path gets; when the window ends, what has
// not been sent is dropped, and the next begins with an empty queue.
//
// There the sender has a window's media ahead of time and sorts them. Here they come in the window in which they are sent, so the order is
// that of what waits. A window is a group long where groups are known, so that each begins with a key frame.
//
// Use it where nothing is known of what depends on what, and importance says it all. Streams of one importance are sent in the order in which they
// came, so of a group's reference frames the first ones arrive. Bytes are lost to what a window's end finds half sent.
type PriorityDrop struct {
	Window time.Duration // default: a group between 200 ms and 2 s, or 500 ms
	began  time.Duration
	group  time.Duration // when the group began that the window began with
}

func (d *PriorityDrop) Name() string { return "ppd" }

func (d *PriorityDrop) Policy(v *View) datapath.Policy {
	const least, most = 200 * time.Millisecond, 2 * time.Second
	window, early := or(d.Window, defaultQueue), 2*Interval
	if c := slowest(v); d.Window == 0 && c != nil && c.Period >= least && c.Period <= most {
		if c.Begun != d.group {
			d.began, d.group = c.Begun, c.Begun
		}
		window, early = c.Period, early+2*c.deviation()
	}
	if v.Now-d.began >= window {
		d.began = v.Now
	}
	left := window - (v.Now - d.began)
	if left < early { // the next window may begin before there is another policy
		left += window
	}
	return datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, MaxAge: max(left, Interval)}}}
}

// slowest returns the class with one stream in a group that has the longest groups: key frames, or layers.
func slowest(v *View) (s *Class) {
	for i := range v.Classes {
		if c := &v.Classes[i]; c.Streams == 1 && c.Period > 0 && (s == nil || c.Period > s.Period) {
			s = c
		}
	}
	return s
}
