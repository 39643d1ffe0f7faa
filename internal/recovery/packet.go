package recovery

import "github.com/fastrelay/fastrelay/internal/congestion"

// Kind says what a packet is to recovery.
type Kind uint8

const (
	// Silent packets do not make the peer acknowledge: they are not in flight, and are not found lost.
	Silent Kind = iota
	// Eliciting packets are in flight until acknowledged or lost. Somebody else probes for them.
	Eliciting
	// MTUProbe packets are eliciting ones whose loss does not mean congestion (RFC 9000, section 14.4).
	MTUProbe
	// Ours are eliciting packets for which Deadline names probe timeouts.
	Ours
)

type state uint8

const (
	unused  state = iota // nobody has sent it, as far as is known
	sent                 // and neither acknowledged nor lost
	acked                // or forgotten
	lost                 // and may still be acknowledged
	skipped              // nobody will send it
)

// Packet is a packet that was sent. Carried is the caller's, and survives until the packet's place is used again; the rest
// is for reading.
type Packet[T any] struct {
	Carried T
	Number  uint64
	Sent    int64 // when
	Size    int   // bytes of UDP payload
	Kind    Kind

	state   state
	limited bool // when this was sent, the sender used less than it might
	// prev and next are the neighbours among the packets that are not acknowledged: number + 1, 0 for none.
	prev, next uint64
	// When it was sent: bytes in flight, itself included; what had been lost and delivered, and when the last was; the beginning of
	// the flight that it belongs to.
	inFlight, lost, delivered uint64
	deliveredAt, firstSent    int64
}

// told is what congestion control learns of the packet.
func (p *Packet[T]) told() congestion.Packet {
	return congestion.Packet{
		Sent: p.Sent, Size: p.Size, InFlight: p.inFlight, Delivered: p.delivered, Lost: p.lost, AppLimited: p.limited,
	}
}

// Lost says whether the packet has been declared lost.
func (p *Packet[T]) Lost() bool { return p.state == lost }

const (
	// slack is how far below the largest acknowledged number a packet may still be acknowledged.
	slack = 512
	// maxSpan bounds the numbers that a Sender keeps, and so its memory.
	maxSpan = 1 << 14
)

// at returns the place of a number, nil if it is outside the ring.
func (s *Sender[T]) at(number uint64) *Packet[T] {
	if number < s.base || number >= s.end {
		return nil
	}
	return &s.ring[number&uint64(len(s.ring)-1)]
}

// Seen says whether a packet with a number is known, was known, or will never be sent.
func (s *Sender[T]) Seen(number uint64) bool {
	if number < s.base {
		return true
	}
	p := s.at(number)
	return p != nil && p.state != unused
}

// Base returns the number below which all is done with.
func (s *Sender[T]) Base() uint64 { return s.base }

// extend makes room for a number, and returns its place, nil if the number is done with, taken, or too far ahead.
func (s *Sender[T]) extend(number uint64) *Packet[T] {
	if number < s.base {
		return nil
	}
	for number-s.base >= uint64(len(s.ring)) {
		if len(s.ring) < maxSpan {
			s.grow()
		} else if !s.forget() {
			return nil
		}
	}
	for ; s.end <= number; s.end++ {
		s.ring[s.end&uint64(len(s.ring)-1)].state = unused
	}
	if p := s.at(number); p.state == unused {
		return p
	}
	return nil
}

func (s *Sender[T]) grow() {
	old := s.ring
	s.ring = make([]Packet[T], 2*len(old))
	for n := s.base; n < s.end; n++ {
		s.ring[n&uint64(len(s.ring)-1)] = old[n&uint64(len(old)-1)]
	}
}

// forget makes room in a full ring: the oldest number is given up, if it is not in flight. A peer need not acknowledge
// packets that carry nothing but acknowledgments.
func (s *Sender[T]) forget() bool {
	if s.base == s.end {
		return false
	}
	p := s.at(s.base)
	if p.state == sent && p.Kind != Silent {
		return false
	}
	s.drop(p)
	s.base++
	s.trim()
	return true
}

// drop takes a packet out of the list of those not acknowledged.
func (s *Sender[T]) drop(p *Packet[T]) {
	if p.state == sent || p.state == lost || p.state == skipped {
		s.unlink(p)
	}
	p.state = acked
}

// trim moves base past what is done with, and past what is too old to be acknowledged.
func (s *Sender[T]) trim() {
	for s.base < s.end {
		p := s.at(s.base)
		old := s.base+slack < s.largest
		if p.state != acked && (!old || p.state == sent && p.Kind != Silent) {
			return
		}
		s.drop(p)
		s.base++
	}
}

// link puts a packet in its place among those not acknowledged. Numbers come nearly in order.
func (s *Sender[T]) link(p *Packet[T]) {
	after := s.tail
	for after > p.Number+1 {
		after = s.at(after - 1).prev
	}
	p.prev = after
	if after == 0 {
		p.next, s.head = s.head, p.Number+1
	} else {
		q := s.at(after - 1)
		p.next, q.next = q.next, p.Number+1
	}
	if p.next == 0 {
		s.tail = p.Number + 1
	} else {
		s.at(p.next - 1).prev = p.Number + 1
	}
}

func (s *Sender[T]) unlink(p *Packet[T]) {
	if p.prev == 0 {
		s.head = p.next
	} else {
		s.at(p.prev - 1).next = p.next
	}
	if p.next == 0 {
		s.tail = p.prev
	} else {
		s.at(p.next - 1).prev = p.prev
	}
}

// following returns the packet after a link, nil at the end.
func (s *Sender[T]) following(link uint64) *Packet[T] {
	if link == 0 {
		return nil
	}
	return s.at(link - 1)
}
