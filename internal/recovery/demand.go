package recovery

// tardy is how much later than it might, in nanoseconds, a packet leaves a sender that has more to send than it may: processing takes a while.
const tardy = 50_000

// demand finds out whether the path or the sender limits what is sent (draft-ietf-ccwg-bbr, section 4.1.2.4). The draft marks the time when
// the sender has nothing left to send. Nobody knows that of a datapath, but it shows in the next packet: it came later than window and rate
// allowed.
type demand struct {
	paced  int64  // when the rate lets the next packet leave
	full   bool   // the window has had no room since the last packet
	since  int64  // when it got room
	size   uint64 // of the last packet
	bubble uint64 // until more than this is delivered, packets are marked
	marked bool   // bubble counts
}

// sent takes a packet that was sent at a time with inFlight bytes in flight before it, and says whether the sender limits.
func (d *demand) sent(at int64, size int, inFlight, delivered, window, rate uint64) bool {
	cost := int64(0)
	if rate > 0 {
		cost = int64(float64(size) * 1e9 / float64(rate))
	}
	d.size = uint64(size)
	if late := at - max(d.paced, d.since); !d.full && late > cost/8+tardy {
		d.bubble, d.marked = delivered+inFlight, true
	}
	d.paced = max(d.paced, at) + cost
	d.full = inFlight+2*d.size > window
	d.since = max(d.since, at)
	return d.marked
}

// room is told of the window whenever something has left flight.
func (d *demand) room(now int64, inFlight, window uint64) {
	if d.full && inFlight+d.size <= window {
		d.full, d.since = false, now
	}
}

// acked is told of what has been delivered so far.
func (d *demand) acked(delivered uint64) {
	if delivered > d.bubble {
		d.marked = false
	}
}
