package recovery

import (
	"errors"

	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// ErrNeverSent says that the peer acknowledged a packet that was never sent (RFC 9000, section 13.1): a lie, told to make
// the sender faster than the path (section 21.4).
var ErrNeverSent = errors.New("acknowledgment of a packet that was never sent")

// Handler is told what became of packets. It must not call the Sender back.
type Handler[T any] interface {
	// OnAcked is called for a packet that is newly acknowledged. p.Lost says whether it had been declared lost before.
	OnAcked(p *Packet[T])
	// OnLost is called for a packet that is declared lost.
	OnLost(p *Packet[T])
}

// Sender is loss recovery for one packet number space. It is not safe for concurrent use.
type Sender[T any] struct {
	// RTT is what is known of the path.
	RTT RTT

	handler Handler[T]
	cc      congestion.Controller

	ring       []Packet[T] // length a power of two
	base, end  uint64
	head, tail uint64 // of those not acknowledged: number + 1, 0 for none
	scratch    []uint64

	inFlight  uint64 // bytes
	left      int64  // bytes that have left flight, or were never in it
	eliciting int    // packets in flight
	ours      int    // of them

	largest       uint64 // largest acknowledged + 1; 0: none
	lastEliciting int64  // when the newest eliciting packet was sent, or the last probe timeout was
	lossTime      int64  // when the time threshold strikes next; 0: not set
	backoff       uint8
	firstOnPath   uint64 // packets below were sent on a path that has been left
	firstSample   int64  // when the path's first RTT sample was taken; 0: not yet
	anewMin       bool   // the next sample is the minimum, after persistent congestion

	// The run of lost packets without an acknowledged one among them, for persistent congestion.
	runSince int64
	runLast  uint64 // number of its newest, + 1; 0: no run

	delivered   uint64 // bytes
	deliveredAt int64
	flightSince int64 // when the first packet of the flight was sent
	lostBytes   uint64
	demand      demand
}

// New returns a Sender whose first number is first, on a path that cc controls.
func New[T any](first uint64, h Handler[T], cc congestion.Controller) *Sender[T] {
	return &Sender[T]{handler: h, cc: cc, ring: make([]Packet[T], 64), base: first, end: first, firstOnPath: first}
}

// Add enters a packet that was sent, and returns it for the caller to say what it carries; that of a predecessor may still
// stand there. It returns nil, and the packet counts as having left flight, if the number is done with or taken, or too far
// ahead: then the peer has not acknowledged anything for long.
func (s *Sender[T]) Add(number uint64, at int64, size int, kind Kind) *Packet[T] {
	p := s.extend(number)
	if p == nil {
		s.left += int64(size)
		return nil
	}
	p.Number, p.Sent, p.Size, p.Kind, p.state = number, at, size, kind, sent
	s.link(p)
	if kind == Silent {
		s.left += int64(size)
		return p
	}
	if number < s.firstOnPath { // its record was late
		s.left += int64(size)
	} else {
		if s.inFlight == 0 {
			s.flightSince, s.deliveredAt = at, at
		}
		p.limited = s.demand.sent(at, size, s.inFlight, s.delivered, s.cc.Window(), s.Rate())
		s.inFlight += uint64(size)
		p.delivered, p.deliveredAt, p.firstSent = s.delivered, s.deliveredAt, s.flightSince
		p.inFlight, p.lost = s.inFlight, s.lostBytes
		s.cc.OnSent(p.told(), s.inFlight)
	}
	s.eliciting++
	if kind == Ours {
		s.ours++
	}
	s.lastEliciting = max(s.lastEliciting, at)
	return p
}

// Skip says that nobody will send a packet with this number: whoever acknowledges it lies.
func (s *Sender[T]) Skip(number uint64) {
	if p := s.extend(number); p != nil {
		p.Number, p.Kind, p.state = number, Silent, skipped
		s.link(p)
	}
}

// Room says whether Add will take the number.
func (s *Sender[T]) Room(number uint64) bool {
	if number-s.base < uint64(len(s.ring)) || len(s.ring) < maxSpan {
		return true
	}
	p := s.at(s.base)
	return p.state != sent || p.Kind == Silent
}

// land takes a packet out of flight.
func (s *Sender[T]) land(p *Packet[T]) {
	if p.Kind == Silent || p.state != sent {
		return
	}
	s.eliciting--
	if p.Kind == Ours {
		s.ours--
	}
	if s.counts(p) {
		s.inFlight -= uint64(p.Size)
		s.left += int64(p.Size)
	}
}

// counts says whether a packet counts for congestion on this path.
func (s *Sender[T]) counts(p *Packet[T]) bool { return p.Kind != Silent && p.Number >= s.firstOnPath }

// OnAck processes the ranges of an ACK frame that was received now, the largest first. It returns ErrNeverSent, having
// changed nothing, if they name a number that was skipped; numbers that nobody took are the caller's to find.
func (s *Sender[T]) OnAck(now int64, ranges []wire.AckRange, ackDelay int64) error {
	if len(ranges) == 0 {
		return nil
	}
	largest := ranges[0].Largest
	before := s.inFlight
	newly := s.scratch[:0]
	i := len(ranges) - 1
	for p := s.following(s.head); p != nil && p.Number <= largest; p = s.following(p.next) {
		for ranges[i].Largest < p.Number {
			i--
		}
		if p.Number < ranges[i].Smallest {
			continue
		}
		if p.state == skipped {
			s.scratch = newly
			return ErrNeverSent
		}
		newly = append(newly, p.Number)
	}
	s.scratch = newly
	if len(newly) == 0 {
		s.largest = max(s.largest, largest+1)
		s.trim()
		return nil
	}
	sample := s.acknowledge(now, largest, newly, ackDelay)
	s.largest = max(s.largest, largest+1)
	s.detect(now)
	for _, n := range newly {
		p := s.at(n)
		if s.counts(p) {
			s.cc.OnAcked(now, p.told(), before)
		}
	}
	s.backoff = 0
	sample.InFlight, sample.Smoothed, sample.Min = s.inFlight, s.RTT.Smoothed, s.RTT.Min
	sample.Lost = s.lostBytes
	s.cc.OnAck(now, sample)
	s.demand.acked(s.delivered)
	s.demand.room(now, s.inFlight, s.cc.Window())
	s.trim()
	return nil
}

// acknowledge notes packets as acknowledged, and takes samples of RTT and delivery rate.
func (s *Sender[T]) acknowledge(now int64, largest uint64, newly []uint64, ackDelay int64) (sample congestion.Sample) {
	elicits := false
	var newest *Packet[T]
	for _, n := range newly {
		p := s.at(n)
		if s.runLast > 0 && p.Number < s.runLast {
			s.runLast = 0 // it was not lost, or is amid those that were
		}
		s.handler.OnAcked(p)
		s.land(p)
		s.drop(p)
		if p.Kind == Silent {
			continue
		}
		elicits = true
		if s.counts(p) {
			sample.Delivered += uint64(p.Size)
			s.delivered += uint64(p.Size)
			s.deliveredAt = now
			newest = p
		}
	}
	sample.Total = s.delivered
	if p := s.at(largest); p != nil && p.Number == largest && newly[len(newly)-1] == largest && elicits && largest >= s.firstOnPath {
		if s.anewMin {
			s.RTT.Min, s.anewMin = 0, false
		}
		s.RTT.Sample(now-p.Sent, ackDelay)
		sample.RTT = s.RTT.Latest
		sample.AckDelay = max(min(ackDelay, s.RTT.MaxAckDelay, sample.RTT), 0)
		if s.firstSample == 0 {
			s.firstSample = now
		}
	}
	if newest != nil {
		s.flightSince = newest.Sent
		if d := max(newest.Sent-newest.firstSent, now-newest.deliveredAt); d > 0 {
			sample.Rate = uint64(float64(s.delivered-newest.delivered) * 1e9 / float64(d))
		}
		sample.AppLimited, sample.Newest = newest.limited, newest.told()
	}
	return sample
}

// InFlight returns the bytes in flight.
func (s *Sender[T]) InFlight() uint64 { return s.inFlight }

// Outstanding returns how many packets of kind Ours are in flight.
func (s *Sender[T]) Outstanding() int { return s.ours }

// Largest returns the largest acknowledged number + 1, 0 if none is.
func (s *Sender[T]) Largest() uint64 { return s.largest }

// Limit returns how many bytes may have been sent, counted from where the sender counts: what has left flight, and the
// congestion window.
func (s *Sender[T]) Limit() uint64 { return uint64(max(s.left+int64(s.cc.Window()), 0)) }

// Rate returns the pacing rate in bytes per second, 0 for none.
func (s *Sender[T]) Rate() uint64 { return s.cc.Rate(s.RTT.Smoothed) }

// burstDatagrams is how many datagrams may leave at once at least: the initial window that RFC 9002, section 7.7, allows.
const burstDatagrams = 10

// Burst returns how many bytes may leave at once at that rate. Without a controller that says so it is half a window, so that a key frame that comes at
// once does not wait on a path that is not congested, and ten datagrams of a size at least.
func (s *Sender[T]) Burst(rate uint64, datagram int) uint64 {
	if b, ok := s.cc.(congestion.Burster); ok {
		return max(b.Burst(rate), uint64(datagram)) // less lets nothing pass
	}
	return max(burstDatagrams*uint64(datagram), s.cc.Window()/2)
}

// Bandwidth returns how many bytes per second the path is taken to carry, 0 if unknown: what the controller knows of it, or a window per
// round trip, or the rate that is sent at if that is less.
func (s *Sender[T]) Bandwidth() uint64 {
	if e, ok := s.cc.(congestion.Estimator); ok {
		if b := e.Bandwidth(); b > 0 {
			return b
		}
	}
	if s.RTT.Smoothed <= 0 {
		return 0
	}
	b := uint64(float64(s.cc.Window()) * 1e9 / float64(s.RTT.Smoothed))
	if r := s.Rate(); r > 0 {
		b = min(b, r)
	}
	return b
}

// Window returns the congestion window in bytes.
func (s *Sender[T]) Window() uint64 { return s.cc.Window() }

// Recount makes Limit count from bytes that have been sent so far, by another count.
func (s *Sender[T]) Recount(sentBytes uint64) { s.left = int64(sentBytes) - int64(s.inFlight) }

// SetDatagramSize tells the largest datagram that is sent.
func (s *Sender[T]) SetDatagramSize(n int) { s.cc.SetDatagramSize(n) }

// ChangePath says that packets from now on are sent on another path, which cc controls: RTT and congestion of the old one
// say nothing about it (RFC 9000, section 9.4). next is the next number. What is in flight on the old path is still found acknowledged or lost.
func (s *Sender[T]) ChangePath(now int64, next uint64, cc congestion.Controller) {
	s.left += int64(s.inFlight)
	s.inFlight = 0
	s.firstOnPath = next
	s.cc, s.demand = cc, demand{}
	s.RTT = RTT{MaxAckDelay: s.RTT.MaxAckDelay, Confirmed: s.RTT.Confirmed}
	s.backoff, s.firstSample, s.runLast = 0, 0, 0
	s.detect(now) // the RTT is another
}
