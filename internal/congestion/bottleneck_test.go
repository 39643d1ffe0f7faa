package congestion_test

import (
	"container/heap"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

const (
	ms       = int64(time.Millisecond)
	second   = int64(time.Second)
	datagram = 1200
)

// bottleneck is one link with a queue that drops what does not fit, in virtual time. Senders are recovery.Senders; their receivers
// acknowledge every second packet, a gap at once, and anything within 25 ms.
//
//	flow ─┐
//	flow ─┼─► queue ─► rate ─► half an RTT ─► receiver ─► half an RTT ─► flow
type bottleneck struct {
	now    int64
	events eventHeap
	seq    uint64

	rate  func(now int64) float64 // bytes per second
	limit float64                 // of the queue, bytes
	rtt   func(now int64) int64   // without queue
	loss  func(n uint64) bool     // of the n-th packet, at random as it were; nil: none
	n     uint64
	burst bool // flows send bursts as quicadapt lets the datapath: what the controller allows, or 20 ms if that is more

	free    int64 // when the link has sent what waits
	flows   []*flow
	warmup  int64
	queue   []int64 // queueing delay, each millisecond after the warm-up
	offered uint64  // packets, after the warm-up
	dropped uint64
}

type event struct {
	at  int64
	seq uint64
	do  func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

func (b *bottleneck) at(t int64, do func()) {
	b.seq++
	heap.Push(&b.events, event{max(t, b.now), b.seq, do})
}

// run plays until a time.
func (b *bottleneck) run(until int64) {
	for t := b.now; t < until; t += ms {
		b.at(t, func() {
			if b.now >= b.warmup {
				b.queue = append(b.queue, max(b.free-b.now, 0))
			}
		})
	}
	for len(b.events) > 0 && b.events[0].at <= until {
		e := heap.Pop(&b.events).(event)
		b.now = e.at
		e.do()
	}
}

// percentile returns a percentile of the queueing delay in milliseconds.
func (b *bottleneck) percentile(p float64) float64 {
	s := slices.Clone(b.queue)
	slices.Sort(s)
	return float64(s[min(int(p*float64(len(s))), len(s)-1)]) / 1e6
}

// send puts a packet in the queue, and returns when it arrives.
func (b *bottleneck) send() (arrives int64, ok bool) {
	b.n++
	measured := b.now >= b.warmup
	if measured {
		b.offered++
	}
	rate := b.rate(b.now)
	waiting := float64(max(b.free-b.now, 0)) * rate / 1e9
	if waiting+datagram > b.limit || b.loss != nil && b.loss(b.n) {
		if measured {
			b.dropped++
		}
		return 0, false
	}
	b.free = max(b.free, b.now) + int64(datagram/rate*1e9)
	return b.free + b.rtt(b.now)/2, true
}

// flow is a sender and its receiver.
type flow struct {
	b       *bottleneck
	sender  *recovery.Sender[struct{}]
	cc      congestion.Controller
	bulk    bool
	pending int // packets that wait at the sender, without bulk
	next    uint64
	paced   int64
	waking  bool
	timer   int64

	received  []wire.AckRange // the largest first
	unacked   int
	oldest    int64 // when the oldest packet that is not acknowledged came
	newest    int64 // when the newest packet came
	delivered uint64
	since     uint64 // delivered before the warm-up
	waited    []int64
	arrivals  []int64 // of frames' packets at the sender, those that wait
}

func (b *bottleneck) join(at int64, cc congestion.Controller, bulk bool) *flow {
	f := &flow{b: b, cc: cc, bulk: bulk}
	f.sender = recovery.New(0, recovery.Handler[struct{}](f), cc)
	f.sender.RTT.MaxAckDelay, f.sender.RTT.Confirmed = 25*ms, true
	b.flows = append(b.flows, f)
	b.at(at, f.send)
	b.at(b.warmup, func() { f.since = f.delivered })
	return f
}

// OnAcked implements recovery.Handler.
func (f *flow) OnAcked(*recovery.Packet[struct{}]) {}

// OnLost implements recovery.Handler: what is lost is sent again.
func (f *flow) OnLost(*recovery.Packet[struct{}]) {
	if !f.bulk {
		f.pending++
		f.arrivals = append([]int64{f.b.now}, f.arrivals...)
	}
}

// produce gives an application-limited flow packets to send.
func (f *flow) produce(packets int) {
	f.pending += packets
	for range packets {
		f.arrivals = append(f.arrivals, f.b.now)
	}
	f.send()
}

// send sends what window and rate allow, and comes back when the rate allows more.
func (f *flow) send() {
	for f.bulk || f.pending > 0 {
		if f.sender.InFlight()+datagram > f.sender.Window() {
			break
		}
		if at := f.paced - f.ahead(); at > f.b.now {
			if !f.waking {
				f.waking = true
				f.b.at(at, func() { f.waking = false; f.send() })
			}
			break
		}
		f.transmit()
	}
	f.arm()
}

// ahead returns how far ahead of its pace a flow may be.
func (f *flow) ahead() int64 {
	rate := f.sender.Rate()
	if !f.b.burst || rate == 0 {
		return 0
	}
	return max(int64(f.sender.Burst(rate, datagram)*1e9/rate), 20*ms)
}

func (f *flow) transmit() {
	if rate := f.sender.Rate(); rate > 0 {
		f.paced = max(f.paced, f.b.now) + int64(datagram*1e9/float64(rate))
	}
	if f.pending > 0 {
		f.pending--
		f.waited = append(f.waited, f.b.now-f.arrivals[0])
		f.arrivals = f.arrivals[1:]
	}
	n := f.next
	f.next++
	f.sender.Add(n, f.b.now, datagram, recovery.Ours)
	if arrives, ok := f.b.send(); ok {
		f.b.at(arrives, func() { f.receive(n) })
	}
}

// arm sets the timer of loss recovery.
func (f *flow) arm() {
	at := f.sender.Deadline()
	if at == 0 || at == f.timer {
		return
	}
	f.timer = at
	f.b.at(at, func() {
		if f.timer != at {
			return
		}
		f.timer = 0
		for range f.sender.OnTimer(f.b.now) {
			f.transmit()
		}
		f.send()
	})
}

// receive is the receiver's.
func (f *flow) receive(n uint64) {
	f.delivered += datagram
	gap := len(f.received) > 0 && n != f.received[0].Largest+1
	if len(f.received) > 0 && !gap {
		f.received[0].Largest = n
	} else {
		f.received = slices.Insert(f.received, 0, wire.AckRange{Smallest: n, Largest: n})
		f.received = f.received[:min(len(f.received), 32)]
	}
	f.unacked++
	f.newest = f.b.now
	if f.unacked == 1 {
		f.oldest = f.b.now
		at := f.b.now + 25*ms
		f.b.at(at, func() {
			if f.unacked > 0 && f.oldest+25*ms == at {
				f.acknowledge()
			}
		})
	}
	if f.unacked >= 2 || gap {
		f.acknowledge()
	}
}

func (f *flow) acknowledge() {
	f.unacked = 0
	ranges, delay := slices.Clone(f.received), f.b.now-f.newest
	f.b.at(f.b.now+f.b.rtt(f.b.now)/2, func() {
		if err := f.sender.OnAck(f.b.now, ranges, delay); err != nil {
			panic(err)
		}
		f.send()
	})
}

// media gives a flow what a live source at a mean rate in bytes per second makes: 30 frames a second, the first of each 30 six times as
// large as the others (with the phase given).
func (f *flow) media(from, to int64, rate float64, phase int) {
	unit := rate / (35.0 / 30 * 30) / datagram
	left := 0.0
	for i, t := 0, from; t < to; i, t = i+1, t+second/30 {
		size := unit
		if (i+phase)%30 == 0 {
			size *= 6
		}
		left += size
		n := int(left)
		left -= float64(n)
		f.b.at(t, func() { f.produce(n) })
	}
}
