package quicadapt

// Kinds of sent packets.
const (
	kindNone  = iota // number not used by anybody that we know of yet
	kindOwn          // quic-go's
	kindMedia        // of the datapath, or a repair: carries frames of fast streams
)

// sentFrame is a frame of a fast stream in a sent packet.
type sentFrame struct {
	stream *FastStream
	lo, hi uint64
	fin    bool
	reset  bool // RESET_STREAM
}

// sentPacket is a packet in flight.
type sentPacket struct {
	own    uint64 // quic-go's number, of kindOwn
	at     int64  // when it was sent, nanoseconds
	kind   uint8
	acked  bool
	frames [maxSentFrames]sentFrame
	n      uint8
}

const maxSentFrames = 4

// registry holds the packets of a connection that are in flight, by their number on the wire. Numbers below base are done
// with. It has no clock and does no scans over packets that are done.
//
//	base                        end
//	│ own │ media │ none │ own │
//	ring: number & (len-1)
type registry struct {
	ring      []sentPacket // length a power of two
	base, end uint64
	media     int // media packets in flight
}

func newRegistry(first uint64) *registry {
	return &registry{ring: make([]sentPacket, 64), base: first, end: first}
}

// at returns the packet with a number, nil if it is not in flight.
func (r *registry) at(number uint64) *sentPacket {
	if number < r.base || number >= r.end {
		return nil
	}
	return &r.ring[number&uint64(len(r.ring)-1)]
}

// registrySlack is how far below the largest acknowledged number a packet of quic-go may still be acknowledged.
const registrySlack = 2048

// maxWindow bounds the numbers that one registry spans, and so its memory.
const maxWindow = 1 << 16

// add enters a packet and returns its place to fill, nil if the number is done with or too far ahead.
func (r *registry) add(number uint64) *sentPacket {
	if number < r.base {
		return nil
	}
	for number-r.base >= uint64(len(r.ring)) {
		if len(r.ring) >= maxWindow {
			return nil
		}
		r.grow()
	}
	for ; r.end <= number; r.end++ {
		p := &r.ring[r.end&uint64(len(r.ring)-1)]
		p.kind, p.acked, p.n = kindNone, false, 0
	}
	p := &r.ring[number&uint64(len(r.ring)-1)]
	if p.kind != kindNone {
		return nil
	}
	return p
}

func (r *registry) grow() {
	old := r.ring
	r.ring = make([]sentPacket, 2*len(old))
	for n := r.base; n < r.end; n++ {
		r.ring[n&uint64(len(r.ring)-1)] = old[n&uint64(len(old)-1)]
	}
}

// done forgets a packet's frames; trim moves base past it later.
func (r *registry) done(p *sentPacket) {
	if p.kind == kindMedia && !p.acked {
		r.media--
	}
	p.acked = true
	for i := range p.frames[:p.n] {
		p.frames[i].stream = nil
	}
	p.n = 0
}

// trim moves base past packets that are done, and past own packets and unused numbers more than slack below largest:
// quic-go has given those up, or they were never used.
func (r *registry) trim(largest uint64) {
	for r.base < r.end {
		p := &r.ring[r.base&uint64(len(r.ring)-1)]
		if !p.acked && (p.kind == kindMedia || r.base+registrySlack > largest) {
			return
		}
		p.kind, p.acked = kindNone, false
		r.base++
	}
}
