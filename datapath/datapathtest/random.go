package datapathtest

import (
	"math/rand/v2"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Random makes input that knows the structure of what it makes: valid frames with all their fields at their limits, and
// damage. The same seed makes the same input.
type Random struct{ *rand.Rand }

// NewRandom returns a Random of a seed.
func NewRandom(seed uint64) Random { return Random{rand.New(rand.NewPCG(seed, 0x66617374))} }

// OneIn is true once in n times.
func (r Random) OneIn(n int) bool { return r.IntN(n) == 0 }

// Pick returns one of list.
func Pick[T any](r Random, list ...T) T { return list[r.IntN(len(list))] }

// Number returns an integer of any magnitude up to 2^62 − 1, more often one next to a power of two, where varints change
// their length and words their meaning.
func (r Random) Number() uint64 {
	edge := uint64(1) << r.IntN(63)
	switch r.IntN(4) {
	case 0:
		edge--
	case 1:
		edge++
	case 2:
		edge = edge/2 + r.Uint64N(edge)
	}
	return edge & wire.MaxVarint
}

// Bytes returns up to most random bytes.
func (r Random) Bytes(most int) []byte {
	b := make([]byte, r.IntN(most+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Varint appends v, mostly in its shortest form.
func (r Random) Varint(b []byte, v uint64) []byte {
	if r.OneIn(4) {
		return wire.AppendVarintLen(b, v, max(wire.VarintLen(v), 1<<r.IntN(4)))
	}
	return wire.AppendVarint(b, v)
}

// field returns an integer that is mostly small.
func (r Random) field() uint64 {
	if r.OneIn(3) {
		return r.Number()
	}
	return r.Uint64N(12)
}

func (r Random) fields(b []byte, n int) []byte {
	for range n {
		b = r.Varint(b, r.field())
	}
	return b
}

func (r Random) counted(b, data []byte) []byte {
	return append(r.Varint(b, uint64(len(data))), data...)
}

// StreamFrame appends a STREAM frame; the length field is left out if the frame ends the packet.
func (r Random) StreamFrame(b []byte, id, offset uint64, data []byte, fin, last bool) []byte {
	t := byte(0x08)
	if fin {
		t |= 1
	}
	if !last || r.OneIn(2) {
		t |= 2
	}
	if offset > 0 || r.OneIn(2) {
		t |= 4
	}
	b = r.Varint(append(b, t), id)
	if t&4 != 0 {
		b = r.Varint(b, offset)
	}
	if t&2 != 0 {
		return r.counted(b, data)
	}
	return append(b, data...)
}

// DatagramFrame appends a DATAGRAM frame.
func (r Random) DatagramFrame(b, data []byte, last bool) []byte {
	if last && r.OneIn(2) {
		return append(append(b, 0x30), data...)
	}
	return r.counted(append(b, 0x31), data)
}

// Subgroup appends the header of a subgroup stream: of any type that draft has, sometimes of one that it has not.
func (r Random) Subgroup(b []byte, draft uint8, alias, group uint64) []byte {
	t := 0x10 | byte(r.IntN(2)) | byte(r.IntN(3))<<1 | byte(r.IntN(2))<<3
	if draft == uint8(wire.Draft16) && r.OneIn(2) {
		t |= 0x20
	}
	if r.OneIn(16) {
		t = byte(r.IntN(0x50))
	}
	b = r.Varint(append(b, t), alias)
	b = r.Varint(b, group)
	if t&0x06 == 0x04 {
		b = r.Varint(b, r.field())
	}
	if t&0x20 == 0 {
		b = append(b, r.priority())
	}
	return b
}

// priority returns a publisher's priority, more often one of a few.
func (r Random) priority() byte {
	if r.OneIn(3) {
		return byte(r.IntN(256))
	}
	return Pick(r, byte(7), 128)
}

// subscriberPriority is the same for a subscriber.
func (r Random) subscriberPriority() byte {
	if r.OneIn(3) {
		return byte(r.IntN(256))
	}
	return byte(r.IntN(2))
}

// importance returns that of one of a few priorities, or one next to it.
func (r Random) importance() uint16 {
	return datapath.Importance(r.subscriberPriority(), r.priority()) + Pick(r, 0, 0, 1, ^uint16(0))
}

// Object appends the header of an object datagram: of any type that draft has, sometimes of one that it has not.
func (r Random) Object(b []byte, draft uint8, alias, group uint64) []byte {
	t := Pick(r, byte(r.IntN(8)), 0x20, 0x21)
	if draft == uint8(wire.Draft16) && r.OneIn(2) {
		t = byte(r.IntN(16))
		if t&2 == 0 && r.OneIn(2) {
			t |= 0x20
		}
	}
	if r.OneIn(16) {
		t = byte(r.IntN(0x50))
	}
	b = r.Varint(append(b, t), alias)
	b = r.Varint(b, group)
	if t&0x04 == 0 {
		b = r.Varint(b, r.field())
	}
	if t&0x08 == 0 {
		b = append(b, r.priority())
	}
	return b
}

// Control appends a frame that carries no media. With wild its fields need not fit each other.
func (r Random) Control(b []byte, wild bool) []byte {
	switch r.IntN(8) {
	case 0:
		return append(b, make([]byte, r.IntN(4))...)
	case 1:
		return append(b, 0x01)
	case 2, 3:
		return r.ack(b, wild)
	case 4:
		return r.StreamFrame(b, 4*r.Uint64N(3), r.Uint64N(50), r.Bytes(6), r.OneIn(5), false)
	}
	if !wild {
		return wire.AppendMaxData(b, r.Number())
	}
	return r.any(b)
}

// ack appends an ACK frame, its ranges up to what a packet may have and beyond.
func (r Random) ack(b []byte, wild bool) []byte {
	n := uint64(r.IntN(4))
	if r.OneIn(6) {
		n = uint64(r.IntN(datapath.MaxFrames + 4))
	}
	largest := 6*n + 20 + r.Uint64N(200)
	if wild {
		largest = r.Uint64N(400)
	}
	t := byte(0x02) | byte(r.IntN(2))
	b = r.Varint(append(b, t), largest)
	b = r.fields(b, 1)
	b = r.Varint(b, n)
	b = r.Varint(b, r.Uint64N(4))
	for range 2 * n {
		b = r.Varint(b, r.Uint64N(3))
	}
	if t == 0x03 {
		b = r.fields(b, 3)
	}
	return b
}

// any appends a frame of any type with its fields at random.
func (r Random) any(b []byte) []byte {
	t := byte(r.IntN(0x34))
	if r.OneIn(3) {
		t = Pick(r, byte(0x18), 0x24, 0x1c, 0x1d, 0x06, 0x07, 0x12, 0x13, 0x16, 0x17)
	}
	b = append(b, t)
	switch t {
	case 0x06, 0x1d:
		return r.counted(r.fields(b, 1), r.Bytes(9))
	case 0x1c:
		return r.counted(r.fields(b, 2), r.Bytes(9))
	case 0x07, 0x31:
		return r.counted(b, r.Bytes(9))
	case 0x18:
		n := r.IntN(datapath.CIDLen + 3)
		return append(append(r.fields(b, 2), byte(n)), make([]byte, n+16)...)
	case 0x12, 0x13, 0x16, 0x17:
		return r.Varint(b, Pick(r, r.field(), 1<<60, 1<<60+1))
	case 0x1a, 0x1b:
		return append(b, make([]byte, 8)...)
	case 0x04:
		return r.fields(b, 3)
	case 0x24:
		return r.fields(b, 4)
	case 0x05, 0x11, 0x15:
		return r.fields(b, 2)
	case 0x10, 0x14, 0x19:
		return r.fields(b, 1)
	}
	return b
}

// Media appends a frame of media as a publisher without memory sends it: the stream, its offset and header are made up.
func (r Random) Media(b []byte, last bool) []byte {
	draft, alias, group := Pick(r, uint8(14), 16), r.field(), r.field()
	if r.OneIn(3) {
		return r.DatagramFrame(b, append(r.Object(nil, draft, alias, group), r.Bytes(20)...), last)
	}
	id := 4*r.Uint64N(8) | 2 | r.Uint64N(2)
	if r.OneIn(8) {
		id = r.Number()
	}
	if r.OneIn(3) {
		return r.StreamFrame(b, id, r.field(), r.Bytes(20), r.OneIn(4), last)
	}
	return r.StreamFrame(b, id, 0, append(r.Subgroup(nil, draft, alias, group), r.Bytes(20)...), r.OneIn(4), last)
}

// Frames returns the frames of a packet: media and others, at most a packet's size.
func (r Random) Frames() []byte {
	var b []byte
	n := r.IntN(7)
	for i := range n {
		if r.OneIn(2) {
			b = r.Media(b, i == n-1)
		} else {
			b = r.Control(b, r.OneIn(4))
		}
	}
	if r.OneIn(8) {
		b = append(b, make([]byte, r.IntN(datapath.MaxFrames+4))...)
	}
	return b[:min(len(b), datapath.MaxPacketSize)]
}

// Damage changes, removes, adds or cuts off some bytes of b.
func (r Random) Damage(b []byte) []byte {
	for range 1 + r.IntN(3) {
		if len(b) == 0 {
			return b
		}
		at := r.IntN(len(b))
		if r.OneIn(2) {
			at = r.IntN(min(len(b), 24))
		}
		switch r.IntN(6) {
		case 0:
			b[at] = byte(r.Uint32())
		case 1:
			b[at] ^= 1 << r.IntN(8)
		case 2:
			b[at] += byte(1 - 2*r.IntN(2))
		case 3:
			b[at] = Pick(r, byte(0), 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xff)
		case 4:
			b = b[:at]
		case 5:
			b = append(b[:at], b[min(at+1+r.IntN(4), len(b)):]...)
		}
	}
	return b
}
