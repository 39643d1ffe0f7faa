package netsim

import (
	"sync"
	"time"
)

// Bottleneck is a link of a rate that several paths share.
type Bottleneck struct {
	rate  uint64 // bytes per second
	queue int    // bytes

	mu   sync.Mutex
	free time.Time // when it has sent all that waits
}

// NewBottleneck returns a link of a rate in bytes per second, with a queue of so many bytes; what does not fit is lost.
func NewBottleneck(rate uint64, queue int) *Bottleneck {
	return &Bottleneck{rate: max(rate, 1), queue: queue}
}

// Behind puts a path behind a bottleneck, in addition to its own; nil is none.
func (p *Path) Behind(b *Bottleneck) { p.neck = b }

// pass returns when a packet that comes at a time has left, and whether it fits into the queue.
func (b *Bottleneck) pass(size int, at time.Time) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free.Before(at) {
		b.free = at
	}
	waiting := b.free.Sub(at).Seconds() * float64(b.rate)
	if int(waiting)+size > b.queue {
		return time.Time{}, false
	}
	b.free = b.free.Add(time.Duration(float64(size) / float64(b.rate) * float64(time.Second)))
	return b.free, true
}
