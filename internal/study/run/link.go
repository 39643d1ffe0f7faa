package run

import (
	"math/rand/v2"
	"time"

	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// link is a bottleneck: a queue that drops at its tail, served at a rate that changes, and a way behind it that loses and delays.
// Packets leave in the order in which they came, so when one leaves is known when it comes.
type link struct {
	steps  []rateStep
	period int64 // after which the steps begin again; 0: the last stays
	step   int   // that free is in
	round  int64 // start of the period that free is in

	delay  int64
	jitter int64
	random *rand.Rand

	maxTime  int64  // the queue's depth, as a time
	maxBytes uint64 // or in bytes
	free     int64  // when all that has come has left
	waiting  []waiting
	head     int
	bytes    uint64 // of waiting

	loss, lossEnd float64 // chances that losses begin and end with a packet
	losing        bool

	sent, sentBytes, dropped, lost uint64
	delays                         samples
}

type rateStep struct {
	at   int64
	rate float64 // bytes per ns
}

type waiting struct {
	leaves int64
	size   uint32
}

func newLink(l *scenario.Link, length time.Duration, seed, index uint64) *link {
	steps, repeat := l.RateSteps(length, seed+index<<32)
	x := &link{
		delay: l.Delay.Nanoseconds(), jitter: l.Jitter.Nanoseconds(), maxTime: l.Queue.Time.Nanoseconds(), maxBytes: l.Queue.Bytes,
		random: rand.New(rand.NewPCG(seed, 0x11<<32|index)), period: repeat.Nanoseconds(), round: epoch,
	}
	for _, s := range steps {
		x.steps = append(x.steps, rateStep{s.At.Nanoseconds(), float64(s.Rate) / 8e9})
	}
	if l.Loss > 0 { // so that runs of losses last LossBurst packets, and Loss of all are lost
		x.lossEnd = 1 / l.LossBurst
		x.loss = min(l.Loss*x.lossEnd/(1-l.Loss), 1)
	}
	return x
}

// serve returns when size bytes whose first begins at a time have passed. Times do not go back.
func (l *link) serve(from int64, size float64) int64 {
	for {
		for l.step+1 < len(l.steps) && l.round+l.steps[l.step+1].at <= from {
			l.step++
		}
		if l.period > 0 && l.round+l.period <= from {
			l.round, l.step = from-(from-l.round)%l.period, 0
			continue
		}
		until := int64(1 << 62)
		if l.step+1 < len(l.steps) {
			until = l.round + l.steps[l.step+1].at
		} else if l.period > 0 {
			until = l.round + l.period
		}
		rate := l.steps[l.step].rate
		if passes := rate * float64(until-from); passes < size {
			size -= passes
			from = until
			continue
		}
		return from + int64(size/rate)
	}
}

// settle takes what has left by now out of the queue.
func (l *link) settle(now int64) {
	for l.head < len(l.waiting) && l.waiting[l.head].leaves <= now {
		l.bytes -= uint64(l.waiting[l.head].size)
		l.head++
	}
	if l.head == len(l.waiting) {
		l.waiting, l.head = l.waiting[:0], 0
	} else if l.head > 1024 && 2*l.head > len(l.waiting) {
		l.waiting, l.head = l.waiting[:copy(l.waiting, l.waiting[l.head:])], 0
	}
}

// queued returns how long what comes now would wait.
func (l *link) queued(now int64) int64 { return max(l.free-now, 0) }

// send takes a packet of size bytes, headers included, and returns when it has passed the link, or false if it is dropped or lost.
func (l *link) send(now int64, size int) (at int64, ok bool) {
	l.settle(now)
	full := l.maxBytes > 0 && l.bytes+uint64(size) > l.maxBytes || l.maxBytes == 0 && l.queued(now) > l.maxTime
	if full {
		l.dropped++
		return 0, false
	}
	l.free = l.serve(max(l.free, now), float64(size))
	l.waiting = append(l.waiting, waiting{l.free, uint32(size)})
	l.bytes += uint64(size)
	l.sent++
	l.sentBytes += uint64(size)
	if l.lossEnd > 0 {
		if l.losing {
			l.losing = l.random.Float64() >= l.lossEnd
		} else {
			l.losing = l.random.Float64() < l.loss
		}
		if l.losing {
			l.lost++
			return 0, false
		}
	}
	at = l.free + l.delay
	if l.jitter > 0 {
		at += int64(l.random.Float64() * float64(l.jitter))
	}
	return at, true
}

// capacity returns how many bytes the link can pass from the start until some time later.
func (l *link) capacity(end int64) float64 {
	sum := 0.0
	for round := int64(0); ; round += l.period {
		for i, s := range l.steps {
			until := end
			if i+1 < len(l.steps) {
				until = round + l.steps[i+1].at
			} else if l.period > 0 {
				until = round + l.period
			}
			sum += s.rate * float64(max(min(until, end)-(round+s.at), 0))
		}
		if l.period == 0 || round+l.period >= end {
			return sum
		}
	}
}
