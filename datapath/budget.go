package datapath

import "sync/atomic"

// The budget of a client bounds what is sent to it: a congestion window, and pacing within it. Userspace sets both, and
// everything that is sent draws from both, whoever sends it. Sizes are bytes of UDP payload.
//
//	window  sent + size ≤ send limit                     send limit = bytes no longer in flight + congestion window
//	pacing  max(pace time, now) + size·cost ≤ now + burst     afterwards the left side is the pace time
//
// Pacing is a token bucket told by the time at which it is full again (the generic cell rate algorithm): one word that is
// moved by compare-and-swap. The datapath looks before it takes anything, with the client's largest size, and charges the
// packet's own size when it is composed; of several CPUs each may therefore overdraw by one packet. What quic-go sends
// is charged without looking, and delays what comes after, but not for ever: ChargeOwn.

// Unlimited as a send limit is no limit. Spaces of a new client have it.
const Unlimited = 1<<64 - 1

// paceShift is the unit of the pace cost: nanoseconds per 1024 bytes.
const paceShift = 10

// PaceAfter returns the pace time after a packet of size bytes that is sent now. cost 0 is no pacing.
func PaceAfter(pace, cost, now, size uint64) uint64 { return max(pace, now) + size*cost>>paceShift }

// CheckBudget says whether a packet of size bytes fits a budget now: Forwarded, ReasonCongestionWindow or ReasonPaced.
func CheckBudget(sent, limit, pace, cost, burst, now, size uint64) Reason {
	switch {
	case sent+size > limit:
		return ReasonCongestionWindow
	case cost > 0 && PaceAfter(pace, cost, now, size) > now+burst:
		return ReasonPaced
	}
	return Forwarded
}

// Budget says whether a packet of size bytes fits the budget now. It takes nothing.
func (s *Space) Budget(now, size uint64) Reason {
	s.Step()
	return CheckBudget(atomic.LoadUint64(&s.w[WordSent]), atomic.LoadUint64(&s.w[WordSendLimit]),
		atomic.LoadUint64(&s.w[WordPaceTime]), atomic.LoadUint64(&s.w[WordPaceCost]), atomic.LoadUint64(&s.w[WordPaceBurst]), now, size)
}

// PaceDelay returns after how many nanoseconds a packet of size bytes fits the pacing, 0 if it does now.
func (s *Space) PaceDelay(now, size uint64) uint64 {
	cost := atomic.LoadUint64(&s.w[WordPaceCost])
	if cost == 0 {
		return 0
	}
	at, until := PaceAfter(atomic.LoadUint64(&s.w[WordPaceTime]), cost, now, size), now+atomic.LoadUint64(&s.w[WordPaceBurst])
	if at <= until {
		return 0
	}
	return at - until
}

// budgetTries is how often the pace time is tried to be moved exactly; afterwards the cost is added to whatever it is.
const budgetTries = 4

// ChargeBudget draws a packet of size bytes that is sent now from the budget, whether it fits or not.
func (s *Space) ChargeBudget(now, size uint64) { s.charge(now, size, Unlimited) }

// ChargeOwn is ChargeBudget for what is sent without looking. Of the pacing it leaves a packet of the client's largest size: a sender
// that never waits, and is faster than the pace for long, would otherwise run up a debt that those who look had to wait for.
func (s *Space) ChargeOwn(now, size uint64) {
	cost, burst := atomic.LoadUint64(&s.w[WordPaceCost]), atomic.LoadUint64(&s.w[WordPaceBurst])
	spare := min(burst, atomic.LoadUint64(&s.w[WordMaxSize])*cost>>paceShift)
	s.charge(now, size, now+burst-spare)
}

// charge draws a packet from the budget, and moves the pace time to most at most, if it is not later already.
func (s *Space) charge(now, size, most uint64) {
	s.Step()
	atomic.AddUint64(&s.w[WordSent], size)
	s.draw(WordPaceTime, atomic.LoadUint64(&s.w[WordPaceCost]), now, size, most)
}

// draw moves the time at which a token bucket is full again by what size bytes cost, to most at most, if it is not later already. cost 0 is
// a bucket without a limit.
func (s *Space) draw(word int, cost, now, size, most uint64) {
	if cost == 0 {
		return
	}
	at := &s.w[word]
	for range budgetTries {
		s.Step()
		old := atomic.LoadUint64(at)
		next := PaceAfter(old, cost, now, size)
		if most != Unlimited {
			next = max(old, min(next, most))
		}
		s.Step()
		if atomic.CompareAndSwapUint64(at, old, next) {
			return
		}
	}
	if most != Unlimited {
		return // those who have won the race are at it
	}
	s.Step()
	atomic.AddUint64(at, size*cost>>paceShift)
}

// Sent returns the bytes sent so far, by anybody.
func (s *Space) Sent() uint64 { return atomic.LoadUint64(&s.w[WordSent]) }

// SetSendLimit sets how far Sent may grow by what the datapath sends; it may shrink.
func (s *Space) SetSendLimit(n uint64) { atomic.StoreUint64(&s.w[WordSendLimit], n) }

// SetPace sets the rate, in bytes per second, and the burst, in bytes. A rate of 0 switches pacing off. What was charged
// at the old rate stays.
func (s *Space) SetPace(rate, burst uint64) {
	cost := uint64(0)
	if rate > 0 {
		cost = max((1e9<<paceShift)/rate, 1)
	}
	atomic.StoreUint64(&s.w[WordPaceBurst], burst*cost>>paceShift)
	atomic.StoreUint64(&s.w[WordPaceCost], cost)
}
