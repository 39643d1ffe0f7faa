package quicadapt

import "time"

const (
	// unclaimedAfter is how long a stream that the datapath opened waits for its sender. Nobody comes for it if the
	// subscription ended meanwhile.
	unclaimedAfter = 5 * time.Second
	// retireAfter is how long the packets of an ended connection are still told: quic-go repeats its CONNECTION_CLOSE.
	retireAfter = 500 * time.Millisecond
	// codeCancelled is MoQ's stream reset code CANCELLED (draft-ietf-moq-transport-16, section 10.4.3).
	codeCancelled = 0x1
	// codeInternal is INTERNAL_ERROR there.
	codeInternal = 0x0
)

// wake makes the loop look at once.
func (b *Boundary) wake() {
	select {
	case b.woken <- struct{}{}:
	default:
	}
}

// wakeBy makes the loop look at a time, if it would not before.
func (b *Boundary) wakeBy(at int64) {
	if next := b.nextTick.Load(); next == 0 || at < next {
		b.wake()
	}
}

// retire removes a connection in a while.
func (b *Boundary) retire(c *conn) {
	c.mu.Lock()
	c.retireAt = b.now() + int64(retireAfter)
	c.mu.Unlock()
	b.wake()
}

// loop drains an idle datapath, runs the connections' timers, and keeps pools full. It sleeps without end while there is
// nothing to wait for.
func (b *Boundary) loop() {
	defer close(b.loopDone)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var conns []*conn
	for {
		b.nextTick.Store(0) // what comes up meanwhile wakes the loop again
		next := b.tick(&conns)
		b.nextTick.Store(next)
		if next > 0 {
			timer.Reset(max(time.Duration(next-b.now()), time.Millisecond))
		} else {
			timer.Stop()
		}
		select {
		case <-b.stop:
			return
		case <-timer.C:
		case <-b.woken:
		}
	}
}

// tick does what is due and returns when to come again, 0 for never.
func (b *Boundary) tick(conns *[]*conn) (next int64) {
	b.mu.RLock()
	*conns = (*conns)[:0]
	for c := range b.conns {
		*conns = append(*conns, c)
	}
	b.mu.RUnlock()
	next = b.removeAgain()
	joined := false
	for _, c := range *conns {
		c.mu.Lock()
		joined = joined || c.joined && !c.closed
		c.mu.Unlock()
	}
	if joined {
		b.drain()
		next = b.now() + int64(b.cfg.DrainInterval) // a removal can wait so long
	}
	for _, c := range *conns {
		if t := b.service(c); t > 0 && (next == 0 || t < next) {
			next = t
		}
	}
	clear(*conns)
	return next
}

// service runs one connection's timers and returns when to come again.
func (b *Boundary) service(c *conn) (next int64) {
	now := b.now()
	c.mu.Lock()
	if c.closed {
		at := c.retireAt
		c.mu.Unlock()
		if at > 0 && now >= at {
			b.remove(c)
			return 0
		}
		return at
	}
	if !c.joined {
		c.mu.Unlock()
		return c.update()
	}
	c.onTimer(now)
	for _, s := range c.bySource {
		if now-s.opened > int64(unclaimedAfter) {
			delete(c.bySource, sourceKey{s.upstream, s.source})
			s.resetLocked(codeCancelled)
		}
	}
	c.expire(now)
	next = c.flush()
	c.tellOutcomes()
	if at := c.update(); at > 0 && (next == 0 || at < next) {
		next = at
	}
	c.cleanUp(now)
	c.refill()
	return next
}
