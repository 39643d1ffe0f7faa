package netsim

import (
	"container/heap"
	"net"
	"os"
	"sync"
	"time"
)

// packet is on its way.
type packet struct {
	at   time.Time
	seq  uint64 // in order of sending: packets that arrive at the same time keep it
	addr *net.UDPAddr
	data []byte
}

type packetHeap []packet

func (h packetHeap) Len() int { return len(h) }
func (h packetHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)   { *h = append(*h, x.(packet)) }
func (h *packetHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = packet{}
	*h = old[:len(old)-1]
	return p
}

// line holds packets until they arrive.
type line struct {
	mu       sync.Mutex
	packets  packetHeap
	seq      uint64
	deadline time.Time
	closed   bool
	changed  chan struct{} // a signal to one who waits
}

func newLine() *line { return &line{changed: make(chan struct{}, 1)} }

func (l *line) signal() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *line) put(at time.Time, addr *net.UDPAddr, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.seq++
	heap.Push(&l.packets, packet{at, l.seq, addr, data})
	l.signal()
}

// take waits for the next packet to arrive. One goroutine may call it at a time.
func (l *line) take() (packet, error) {
	var timer *time.Timer
	for {
		l.mu.Lock()
		now := time.Now()
		switch {
		case l.closed:
			l.mu.Unlock()
			return packet{}, net.ErrClosed
		case !l.deadline.IsZero() && !now.Before(l.deadline):
			l.mu.Unlock()
			return packet{}, os.ErrDeadlineExceeded
		case len(l.packets) > 0 && !l.packets[0].at.After(now):
			p := heap.Pop(&l.packets).(packet)
			l.mu.Unlock()
			return p, nil
		}
		next := l.deadline
		if len(l.packets) > 0 && (next.IsZero() || l.packets[0].at.Before(next)) {
			next = l.packets[0].at
		}
		l.mu.Unlock()
		if next.IsZero() {
			<-l.changed
			continue
		}
		if timer == nil {
			timer = time.NewTimer(next.Sub(now))
			defer timer.Stop()
		} else {
			timer.Reset(next.Sub(now))
		}
		select {
		case <-l.changed:
		case <-timer.C:
		}
	}
}

func (l *line) setDeadline(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	l.signal()
}

// close ends the line and returns what was on its way.
func (l *line) close() []packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.packets
	l.closed, l.packets = true, nil
	l.signal()
	return left
}
