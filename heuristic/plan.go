package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

const (
	// headroom is the share of media in what is sent is less than one (headers, repairs, quic-go's own), and yet a little
	// more is planned than congestion control allows: a window that is never filled does not grow.
	headroom = 1.1
	// correction is the time over which the plan's error is made good.
	correction = 500 * time.Millisecond
	// minBurst lets a few packets pass on the slowest path.
	minBurst = 8 << 10
)

// plan returns a policy without bands whose plan is that of the path: its rate what congestion control allows, corrected by what the last
// plans got wrong, its burst what the path carries in queue. ok is false while the path's rate is not known: everything is admitted then.
//
// The plan believes that admitted bytes leave at its rate. Those that wait in userspace beyond what it believes to be ahead show that
// they leave more slowly; if fewer wait, they leave faster.
func plan(v *View, queue time.Duration) (p datapath.Policy, ok bool) {
	if v.Rate == 0 {
		return p, false
	}
	rate := float64(min(v.Rate, maxRate))
	ahead := v.Plan.Seconds() * rate
	wrong := (ahead - float64(v.Backlog)) / correction.Seconds()
	p.Rate = uint64(min(max(rate*headroom+wrong, rate/4), rate*1.5))
	p.Rate = max(p.Rate, 1)
	p.Burst = max(uint64(rate*queue.Seconds()), minBurst)
	return p, true
}

// maxRate is more than any path carries; it keeps what is computed from a rate within datapath.Policy's bounds.
const maxRate = 100e9
