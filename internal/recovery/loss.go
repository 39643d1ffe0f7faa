package recovery

// detect declares packets lost (RFC 9002, section 6.1), and works out when the time threshold strikes next.
func (s *Sender[T]) detect(now int64) {
	s.lossTime = 0
	if s.largest == 0 {
		return
	}
	delay := s.RTT.lossDelay()
	persistent := false
	for p := s.following(s.head); p != nil && p.Number < s.largest; p = s.following(p.next) {
		if p.state != sent || p.Kind == Silent {
			continue
		}
		if s.largest-1 >= p.Number+packetThreshold || p.Sent+delay <= now {
			persistent = s.lose(p, now) || persistent
			continue
		}
		if t := p.Sent + delay; s.lossTime == 0 || t < s.lossTime {
			s.lossTime = t
		}
	}
	if persistent {
		s.cc.OnPersistentCongestion(now)
		s.anewMin, s.runLast = true, 0
	}
}

// lose declares a packet lost, and says whether that establishes persistent congestion.
func (s *Sender[T]) lose(p *Packet[T], now int64) (persistent bool) {
	s.land(p)
	p.state = lost
	if s.counts(p) && p.Kind != MTUProbe {
		s.lostBytes += uint64(p.Size)
		s.cc.OnLost(now, p.told())
		persistent = s.persists(p)
	}
	s.handler.OnLost(p)
	return persistent
}

// persists follows runs of lost packets (section 7.6): two that are further apart than the duration, both sent after the first
// RTT sample, and none between them acknowledged.
func (s *Sender[T]) persists(p *Packet[T]) bool {
	if s.firstSample == 0 || p.Sent <= s.firstSample || p.Number < s.runLast {
		return false
	}
	if s.runLast == 0 || s.ackedBetween(s.runLast, p.Number) {
		s.runSince = p.Sent
	}
	s.runLast = p.Number + 1
	return p.Sent-s.runSince > s.RTT.PTO()*persistentThreshold
}

// ackedBetween says whether a number in [from, to) was acknowledged. Over all calls each number is looked at once.
func (s *Sender[T]) ackedBetween(from, to uint64) bool {
	if from < s.base {
		return true // that is what base moves past
	}
	for n := from; n < to; n++ {
		if s.at(n).state == acked {
			return true
		}
	}
	return false
}

// Deadline returns when OnTimer is to be called, 0 for never.
func (s *Sender[T]) Deadline() int64 {
	switch {
	case s.lossTime != 0:
		return s.lossTime
	case s.ours == 0:
		return 0
	default:
		return s.lastEliciting + s.RTT.PTO()<<s.backoff
	}
}

// OnTimer is to be called at the deadline. It declares packets lost, or returns how many probes are to be sent, whatever the
// congestion window (section 6.2.4). Nothing is lost for want of acknowledgment alone.
func (s *Sender[T]) OnTimer(now int64) (probes int) {
	if t := s.Deadline(); t == 0 || now < t {
		return 0
	}
	if s.lossTime != 0 {
		s.detect(now)
		s.demand.room(now, s.inFlight, s.cc.Window())
		s.trim()
		return 0
	}
	s.backoff = min(s.backoff+1, maxBackoff)
	s.lastEliciting = now // that of the probes
	return 2
}

// Oldest calls f for the packets of kind Ours that are in flight, the oldest first, until it returns false.
func (s *Sender[T]) Oldest(f func(*Packet[T]) bool) {
	for p := s.following(s.head); p != nil; p = s.following(p.next) {
		if p.state == sent && p.Kind == Ours && !f(p) {
			return
		}
	}
}

// Lose declares a packet lost at once: whoever should have sent it says that it did not. It returns false if no such packet is
// in flight. A full queue here is congestion like one on the path, and the window answers once for each round trip, as TCP's does. But a
// link that is down says nothing about the path: it is not persistent congestion (section 7.6).
func (s *Sender[T]) Lose(number uint64, now int64) bool {
	p := s.at(number)
	if p == nil || p.state != sent || p.Kind == Silent {
		return false
	}
	runSince, runLast := s.runSince, s.runLast
	s.lose(p, now)
	s.runSince, s.runLast = runSince, runLast
	s.demand.room(now, s.inFlight, s.cc.Window())
	return true
}
