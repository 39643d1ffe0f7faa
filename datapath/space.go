package datapath

import (
	"sync/atomic"
	"time"
)

// Layout of the words that a client shares with the datapath, in 64-bit words of a page of their own. The kernel and Go
// change them with atomic instructions only. bpf/types.h has the same numbers.
//
//	0 next packet number      3 pool head (datapath takes)   6 generation, low 8 bits count
//	1 stream data sent        4 pool tail (userspace adds)   7 sent: UDP payload bytes, by anybody
//	2 stream data allowed     5 largest size (UDP payload)     72 send limit: sent bytes allowed (congestion window)
//	8…71    pool: slot<<48 | stream ID, a ring                  73 pace time   74 pace cost   75 pace burst
//	76 plan time   77 policy: version<<2 | on<<1 | half   78 importance from which on media wait behind userspace's
//	79 entries in the table of clients' streams
//	80…95, 96…111 the halves of the policy: cost, depth for what has begun, zeros, 8 bands from the 9th word on
//	128…383 slots: per stream the stream word and the peer's MAX_STREAM_DATA
const (
	SpaceWords     = 512
	WordNext       = 0
	WordDataUsed   = 1
	WordDataLimit  = 2
	WordPoolHead   = 3
	WordPoolTail   = 4
	WordMaxSize    = 5
	WordGeneration = 6
	WordSent       = 7
	WordPool       = 8
	PoolSize       = 64
	WordSendLimit  = 72
	WordPaceTime   = 73
	WordPaceCost   = 74
	WordPaceBurst  = 75
	WordPlanTime   = 76
	WordPolicy     = 77
	WordWaiting    = 78
	WordStreams    = 79
	WordPolicies   = 80
	WordSlots      = 128
	Slots          = 128
)

// A half of the policy, in words from its start.
const (
	policyHalf    = 16
	policyCost    = 0 // as the pace cost; 0: the plan has no limit
	policyStarted = 1 // burst and overflow, ns
	policyBands   = 8

	// WordPolicy: the half in use, whether there is a policy, and how many were set.
	policySecond = 1
	policyOn     = 2
	policyShift  = 2
)

// Stream word: closed bit, tag of the stream ID, highest offset sent.
//
//	63      62…48   47…0
//	closed  tag     highest offset
//
// The datapath closes a stream itself with the FIN that it forwards: the highest offset is the final size then.
const (
	StreamClosed    = 1 << 63
	StreamOffset    = 1<<48 - 1
	streamTagShift  = 48
	streamTagMask   = 1<<15 - 1
	MaxStreamOffset = StreamOffset
)

// StreamTag returns the tag of a stream ID in its place within a stream word. It keeps a slot that was given to another
// stream from being changed by a packet of its predecessor.
func StreamTag(streamID uint64) uint64 { return (streamID >> 2 & streamTagMask) << streamTagShift }

// Space is what a client shares with the datapath. Its methods are the userspace half; they never block and make no
// system call. The zero Space is not usable: NewSpace or a Datapath makes one.
type Space struct {
	w     []uint64
	clock func() uint64
	step  func() // see Interleave
}

// NewSpace makes a space over SpaceWords words, 8-byte aligned, which a backend maps; nil allocates them. clock is that of
// the backend's packet path, in nanoseconds; nil is one that starts now.
func NewSpace(words []uint64, clock func() uint64) *Space {
	if words == nil {
		words = make([]uint64, SpaceWords)
	}
	if clock == nil {
		start := time.Now()
		clock = func() uint64 { return uint64(time.Since(start)) }
	}
	return &Space{w: words[:SpaceWords:SpaceWords], clock: clock}
}

// Interleave has step called before each operation on a shared word, so that a test can let others change the words there.
// Only before the space is used.
func (s *Space) Interleave(step func()) { s.step = step }

// Step is where others may change the words, with Interleave: backends in Go call it between their operations.
func (s *Space) Step() {
	if s.step != nil {
		s.step()
	}
}

// Now returns the time of the datapath's clock, in nanoseconds, as in WordPaceTime.
func (s *Space) Now() uint64 { return s.clock() }

// Word returns the word at index i, for use with sync/atomic.
func (s *Space) Word(i int) *uint64 { return &s.w[i] }

// Reset makes the space that of a new client, which nothing is sent to yet: all words but the generation are zero, and
// the budget has no limit. Backends call it.
func (s *Space) Reset() {
	for i := range s.w {
		if i != WordGeneration {
			atomic.StoreUint64(&s.w[i], 0)
		}
	}
	s.SetSendLimit(Unlimited)
	s.SetWaiting(NothingWaits)
}

// Generation returns the client's generation, as in its records.
func (s *Space) Generation() uint8 { return uint8(atomic.LoadUint64(&s.w[WordGeneration])) }

// Next returns the number that the next packet will have.
func (s *Space) Next() uint64 { return atomic.LoadUint64(&s.w[WordNext]) }

// SetNext sets the next number. Only before the datapath may forward to the client.
func (s *Space) SetNext(n uint64) { atomic.StoreUint64(&s.w[WordNext], n) }

// TakeNumber takes a packet number for userspace.
func (s *Space) TakeNumber() uint64 {
	s.Step()
	return atomic.AddUint64(&s.w[WordNext], 1) - 1
}

// DataUsed returns the bytes of connection flow control that are used.
func (s *Space) DataUsed() uint64 { return atomic.LoadUint64(&s.w[WordDataUsed]) }

// Charge takes n bytes of connection flow control up to limit, and says whether they were there.
func (s *Space) Charge(n, limit uint64) bool {
	s.Step()
	if atomic.AddUint64(&s.w[WordDataUsed], n) > limit {
		s.Step()
		atomic.AddUint64(&s.w[WordDataUsed], -n)
		return false
	}
	return true
}

// SetDataLimit sets how far the datapath may use the connection's flow control.
func (s *Space) SetDataLimit(n uint64) { atomic.StoreUint64(&s.w[WordDataLimit], n) }

// SetMaxSize sets the largest UDP payload that the datapath may send to the client.
func (s *Space) SetMaxSize(n int) { atomic.StoreUint64(&s.w[WordMaxSize], uint64(n)) }

// PoolLen returns the number of reserved stream IDs that the datapath has not taken.
func (s *Space) PoolLen() int {
	return int(atomic.LoadUint64(&s.w[WordPoolTail]) - atomic.LoadUint64(&s.w[WordPoolHead]))
}

// Reserve adds a stream ID to the pool and readies its slot, which must be free, with the peer's limit for the stream. It
// returns false if the pool is full.
func (s *Space) Reserve(streamID uint64, slot uint8, limit uint64) bool {
	s.Step()
	tail := atomic.LoadUint64(&s.w[WordPoolTail])
	if tail-atomic.LoadUint64(&s.w[WordPoolHead]) >= PoolSize {
		return false
	}
	s.Step()
	atomic.StoreUint64(&s.w[WordSlots+2*int(slot)], StreamTag(streamID))
	s.Step()
	atomic.StoreUint64(&s.w[WordSlots+2*int(slot)+1], limit)
	s.Step()
	atomic.StoreUint64(&s.w[WordPool+int(tail%PoolSize)], uint64(slot)<<48|streamID)
	s.Step()
	atomic.StoreUint64(&s.w[WordPoolTail], tail+1)
	return true
}

// SetStreamLimit raises the peer's MAX_STREAM_DATA of the stream in a slot.
func (s *Space) SetStreamLimit(slot uint8, limit uint64) {
	atomic.StoreUint64(&s.w[WordSlots+2*int(slot)+1], limit)
}

// CloseStream keeps the datapath from sending on the stream in a slot, and returns the highest offset sent: the final
// size, if the stream is reset.
func (s *Space) CloseStream(slot uint8) uint64 {
	s.Step()
	return atomic.OrUint64(&s.w[WordSlots+2*int(slot)], StreamClosed) & StreamOffset
}

// FinishStream is CloseStream before userspace sends the stream's FIN itself. finished says that it was closed already: unless
// userspace did that, the datapath has sent a FIN, at the highest offset.
func (s *Space) FinishStream(slot uint8) (highest uint64, finished bool) {
	s.Step()
	old := atomic.OrUint64(&s.w[WordSlots+2*int(slot)], StreamClosed)
	return old & StreamOffset, old&StreamClosed != 0
}

// StreamWord returns the stream word of a slot and the stream's limit.
func (s *Space) StreamWord(slot uint8) (word, limit uint64) {
	return atomic.LoadUint64(&s.w[WordSlots+2*int(slot)]), atomic.LoadUint64(&s.w[WordSlots+2*int(slot)+1])
}

// Advance moves a stream's highest offset to end, if it is further, charging the growth to connection flow control up to
// limit. It is what userspace does before it sends stream data itself; closed streams may be advanced by userspace alone.
// It returns false, and changes nothing, if the credit is not there.
func (s *Space) Advance(slot uint8, end, limit uint64) bool {
	p := &s.w[WordSlots+2*int(slot)]
	for {
		s.Step()
		old := atomic.LoadUint64(p)
		if old&StreamOffset >= end {
			return true
		}
		growth := end - old&StreamOffset
		if !s.Charge(growth, limit) {
			return false
		}
		s.Step()
		if atomic.CompareAndSwapUint64(p, old, old&^StreamOffset|end) {
			return true
		}
		s.Step()
		atomic.AddUint64(&s.w[WordDataUsed], -growth)
	}
}
