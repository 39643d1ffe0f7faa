package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

const (
	// defaultQueue is how much may wait, at the path's rate, unless a heuristic knows better.
	defaultQueue = 500 * time.Millisecond
	// minBurst lets a few packets pass on the slowest path.
	minBurst = 8 << 10
	// maxRate is more than any path carries; it keeps what is computed from a rate within datapath.Policy's bounds.
	maxRate = 10e9
	// maxQueue bounds what may wait, whatever a heuristic asks for.
	maxQueue = 10 * time.Second
	// rateTime is over what time rates are averaged: a congestion window breathes, and what was dropped for it does not come back.
	rateTime = 500 * time.Millisecond
	// rateBreath is by what factor a congestion window breathes at most. What is averaged is not higher: the first window over the RTT of a path
	// on which nothing queues yet may be a thousand times what the path carries, and would count for seconds.
	rateBreath = 4
	// payload is the share of media in packets; the rest is headers, acknowledgments and control.
	payload = 0.95
	// reportAge is for how long a client's report counts, and reportDelay the delay from which on it is believed more than congestion control.
	reportAge, reportDelay = time.Second, 200 * time.Millisecond
)

// Planner makes the plan of policies: how fast admitted bytes leave, and how many may be ahead. The zero Planner is ready; one
// belongs to one heuristic of one client.
//
// A plan alone would be wrong for as long as the rate is that it believes in. So each is corrected by what the last one got wrong: the plan
// says how many bytes are ahead, and it is known how many wait in userspace. Between two views the plan tells how that goes on.
//
// The rate is that of congestion control, or what the client reports that arrives, if it reports a long delay with it, too: then
// something queues that congestion control does not see (thesis, 3.4.1).
type Planner struct {
	rate float64       // smoothed; 0: nothing was planned yet
	at   time.Duration // when
}

// Plan returns a policy without bands, whose plan lets so many bytes wait as the path carries in queue. Bands leave some of its Burst to
// the more important with their Reserve. ok is false while the path's rate is not known: everything is to be admitted then.
func (p *Planner) Plan(v *View, queue time.Duration) (policy datapath.Policy, ok bool) {
	if v.Rate == 0 {
		p.rate = 0
		return policy, false
	}
	rate := v.Rate
	if r := v.Reported; r != nil && r.Rate > 0 && v.Now-r.At <= reportAge && r.Delay > reportDelay {
		rate = min(rate, r.Rate)
	}
	ran := p.rate > 0
	p.smooth(v.Now, float64(min(rate, maxRate)))
	policy.Rate = max(uint64(p.rate*payload), 1)
	burst := carried(&policy, min(queue, maxQueue))
	if ran {
		burst += carried(&policy, min(v.Plan, maxQueue)) - float64(min(v.Backlog, maxRate))
	}
	policy.Burst = uint64(max(burst, minBurst))
	return policy, true
}

// smooth takes a rate of now into the average.
func (p *Planner) smooth(now time.Duration, rate float64) {
	if p.rate == 0 {
		p.rate = rate
	}
	p.rate = min(p.rate, rateBreath*rate)
	p.rate += (rate - p.rate) * min(max(float64(now-p.at), 0)/float64(rateTime), 1)
	p.at = now
}

// carried returns how many bytes a plan gives back in d.
func carried(p *datapath.Policy, d time.Duration) float64 {
	return float64(p.Rate) * max(d, 0).Seconds()
}

// or returns d, or its default if it is 0.
func or(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}

// bands returns the classes, at most as many as a policy has bands: of more, neighbours of which the least is offered become one.
func bands(v *View) []Class {
	if len(v.Classes) <= datapath.Bands {
		return v.Classes
	}
	c := append([]Class(nil), v.Classes...)
	for len(c) > datapath.Bands {
		at := 0
		for i := range len(c) - 1 {
			if c[i].Rate+c[i+1].Rate < c[at].Rate+c[at+1].Rate {
				at = i
			}
		}
		a, b := c[at], &c[at+1]
		b.Rate += a.Rate
		b.Peak = max(b.Peak, a.Peak)
		b.Group, b.Streams, b.Shed = b.Group+a.Group, b.Streams+a.Streams, b.Shed+a.Shed
		b.Begun, b.Period = max(b.Begun, a.Begun), max(b.Period, a.Period)
		for _, n := range [...]struct{ to, from *Count }{{&b.Offered, &a.Offered}, {&b.Admitted, &a.Admitted}, {&b.Dropped, &a.Dropped}} {
			n.to.add(n.from.Bytes, n.from.Streams)
		}
		c = append(c[:at], c[at+1:]...)
	}
	return c
}

// finish makes the policy's last band reach to the least important.
func finish(p datapath.Policy) datapath.Policy {
	if n := len(p.Bands); n > 0 {
		p.Bands[n-1].UpTo = datapath.MaxImportance
	}
	return p
}

// deviation is Deviation as far as it can be planned with: views may come from anywhere.
func (c *Class) deviation() time.Duration { return min(max(c.Deviation, 0), time.Minute) }
