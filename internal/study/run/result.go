package run

import (
	"time"
)

// Result is what a run yields.
type Result struct {
	Scenario    string  `json:"scenario"`
	Congestion  string  `json:"congestion"`
	Heuristic   string  `json:"heuristic"`
	Seed        uint64  `json:"seed"`
	Subscribers int     `json:"subscribers"`
	Seconds     float64 `json:"seconds"` // of media

	Classes [Classes]Fate `json:"classes"` // audio, key, reference, non_reference; of all subscribers together

	Delay      Distribution `json:"delay"`       // capture to whole, of what came whole, ms
	VideoDelay Distribution `json:"video_delay"` // of video that could be decoded

	Stalls     int     `json:"stalls"`
	StallTime  float64 `json:"stall_s"`
	Arrived    uint64  `json:"arrived_bytes"` // of media, the first time
	Wasted     uint64  `json:"wasted_bytes"`  // of them, of frames that could not be decoded
	Duplicates uint64  `json:"duplicate_bytes"`
	Resent     uint64  `json:"resent_bytes"`

	Fairness    float64      `json:"fairness"`    // Jain's index of the subscribers' decodable bytes
	Utilisation float64      `json:"utilisation"` // of the links, while media were published
	Queue       Distribution `json:"queue"`       // in the links, ms, every 10 ms
	Standing    Distribution `json:"standing"`    // the least of it in the last 100 ms

	Control       Distribution `json:"control"`         // one way, ms
	ControlSent   int          `json:"control_sent"`    //
	ControlInTime int          `json:"control_in_2rtt"` // within two smoothed round trips
	ControlLost   int          `json:"control_lost"`    // of the others, those of which a packet was lost behind the queue

	Packets    uint64 `json:"packets"`
	Forwarded  uint64 `json:"forwarded"` // of them, by the datapath
	Repairs    uint64 `json:"repairs"`   // by userspace, for what was held or lost
	Lost       uint64 `json:"lost"`      // found lost
	Spurious   uint64 `json:"spurious"`  // of them, acknowledged after all
	Probes     uint64 `json:"probes"`
	QueueDrops uint64 `json:"queue_drops"`
	LinkLosses uint64 `json:"link_losses"`
	Policies   int    `json:"policies"`

	// Refused is how many subscribers' heuristics were replaced by the default, because of a policy that is none, Refusal why the first was.
	Refused int    `json:"refused,omitempty"`
	Refusal string `json:"refusal,omitempty"`
}

// Fate is what became of the objects of a class. Published is the sum of Delivered, Late, Dropped, Reset and Unfinished.
type Fate struct {
	Published  int         `json:"published"`
	Delivered  int         `json:"delivered"`  // whole, in time for the player
	Late       int         `json:"late"`       // whole, too late
	Dropped    [causes]int `json:"dropped"`    // none of their stream was sent, by reason
	Reset      [causes]int `json:"reset"`      // their stream was begun and reset, by reason
	Unfinished int         `json:"unfinished"` // neither whole nor given up at the end
	Decodable  int         `json:"decodable"`  // of those delivered, those whose needs were delivered too
}

// standingSamples is of how many samples of a queue the least is what stands: those of 100 ms, CoDel's interval (RFC 8289, section 4.3). A burst
// that drains within it is no standing queue.
const standingSamples = int(100*int64(time.Millisecond)/sampleEvery) + 1

// stallAfter is how long nothing new may be shown before it is a stall.
const stallAfter = 200 * int64(time.Millisecond)

// result looks back on the run.
func (w *world) result() (*Result, error) {
	s := w.config.Scenario
	r := &Result{
		Scenario: s.Name, Congestion: w.config.Congestion, Heuristic: w.config.Heuristic, Seed: w.config.Seed,
		Subscribers: len(w.clients), Seconds: time.Duration(s.Duration).Seconds(),
	}
	var all, video, control samples
	var good, square float64
	decodable := make([]bool, len(w.program.objects))
	for _, c := range w.clients {
		before := r.Classes
		bytes := c.look(r, decodable, s.Playout.Nanoseconds(), &all, &video)
		if err := c.audit(&before, &r.Classes); err != nil {
			return nil, err
		}
		good += bytes
		square += bytes * bytes
		control = append(control, c.receiver.control...)
		r.ControlSent += len(c.controls)
		for i := range c.controls {
			switch x := &c.controls[i]; {
			case x.inTime:
				r.ControlInTime++
			case x.lost:
				r.ControlLost++
			}
		}
		r.Arrived += c.receiver.bytes
		r.Duplicates += c.receiver.again
		r.Resent += c.stats.resent
		r.Packets += c.stats.packets
		r.Forwarded += c.stats.forwarded
		r.Repairs += c.stats.repairs
		r.Lost += c.stats.lost
		r.Spurious += c.stats.spurious
		r.Probes += c.stats.probes
		r.Policies += c.policies
	}
	r.Refused, r.Refusal = w.refused, w.refusal
	r.Delay, r.VideoDelay, r.Control = all.distribution(), video.distribution(), control.distribution()
	r.Fairness = 1
	if square > 0 {
		r.Fairness = good * good / (float64(len(w.clients)) * square)
	}
	var queue, standing samples
	var sent, capacity float64
	for _, l := range w.links {
		queue = append(queue, l.delays...)
		standing = append(standing, l.delays.least(standingSamples)...)
		sent += float64(l.sentBytes)
		capacity += l.capacity(w.program.end)
		r.QueueDrops += l.dropped
		r.LinkLosses += l.lost
	}
	r.Queue, r.Standing = queue.distribution(), standing.distribution()
	r.Utilisation = min(sent/capacity, 1)
	return r, nil
}

// look counts what became of a client's objects, and returns the bytes of those that could be decoded.
func (c *client) look(r *Result, decodable []bool, playout int64, all, video *samples) (good float64) {
	w := c.w
	shown := int64(0) // when the last frame that was shown was captured
	for i := range w.program.objects {
		o := &w.program.objects[i]
		f := &r.Classes[o.class]
		f.Published++
		at := c.receiver.delivered[i]
		delay := at - epoch - o.at
		in := at > 0 && delay <= playout
		switch s := &c.streams[o.stream]; {
		case in:
			f.Delivered++
		case at > 0:
			f.Late++
		case s.phase == dropped && int32(i) > s.at || s.phase == reset && int32(i) > s.at:
			f.Dropped[causeStream]++
		case s.phase == dropped:
			f.Dropped[s.why]++
		case s.phase == reset:
			f.Reset[s.why]++
		default:
			f.Unfinished++
		}
		if at > 0 {
			all.add(delay)
		}
		decodable[i] = in && (o.needs < 0 || decodable[o.needs])
		if decodable[i] {
			f.Decodable++
			good += float64(o.size)
			if o.track == trackVideo {
				video.add(delay)
			}
		} else {
			r.Wasted += c.arrivedOf(int32(i))
		}
		if o.track == trackVideo && decodable[i] {
			if gap := o.at - shown; gap > stallAfter {
				r.Stalls++
				r.StallTime += float64(gap) / 1e9
			}
			shown = o.at
		}
	}
	if gap := w.program.end - shown; gap > stallAfter {
		r.Stalls++
		r.StallTime += float64(gap) / 1e9
	}
	return good
}

// arrivedOf returns how many bytes of an object the subscriber got.
func (c *client) arrivedOf(object int32) (bytes uint64) {
	o := &c.w.program.objects[object]
	first := c.w.program.streams[o.stream].first
	for i := first + o.last; i >= first && c.w.program.pieces[i].object == object; i-- {
		if c.pieces[i]&pieceGot != 0 {
			bytes += uint64(c.w.program.pieces[i].size)
		}
	}
	return bytes
}

// DecodableFPS returns the decodable video frames per second and subscriber.
func (r *Result) DecodableFPS() float64 {
	n := 0
	for class := Key; class < Classes; class++ {
		n += r.Classes[class].Decodable
	}
	return float64(n) / r.Seconds / float64(r.Subscribers)
}
