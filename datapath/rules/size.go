package rules

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// PacketOverhead returns the bytes of a packet to a client besides its frames.
func PacketOverhead(dcidLen int) int { return 1 + dcidLen + datapath.NumberLen + datapath.TagLen }

// StreamOverhead returns the bytes of a STREAM frame besides its data and its length field.
func StreamOverhead(id, offset uint64) int { return 1 + wire.VarintLen(id) + wire.VarintLen(offset) }

// DatagramOverhead is the same for a DATAGRAM frame.
const DatagramOverhead = 1

// DatagramSize returns the size of a DATAGRAM frame, as a peer's max_datagram_frame_size counts it.
func DatagramSize(length int, withLength bool) int {
	n := DatagramOverhead + length
	if withLength {
		n += wire.VarintLen(uint64(length))
	}
	return n
}

// Room is what is left of a packet to a client.
type Room struct {
	left int  // bytes
	done bool // the last frame has no length field
}

// NewRoom returns the room of a packet without frames (egress, rule 4). maxSize is the space's word.
func NewRoom(maxSize uint64, dcidLen int) Room {
	return Room{left: int(min(maxSize, datapath.MaxPacketSize)) - PacketOverhead(dcidLen)}
}

// Fit says whether a frame fits, overhead and length of its data being given, and whether with a length field. It does not take the room.
func (r Room) Fit(overhead, length int) (withLength bool, reason datapath.Reason) {
	switch bare := overhead + length; {
	case r.done || bare > r.left:
		return false, datapath.ReasonTooBig
	default:
		return bare+wire.VarintLen(uint64(length)) <= r.left, datapath.Forwarded
	}
}

// Take takes the room of a frame that fits.
func (r *Room) Take(overhead, length int, withLength bool) {
	r.left -= overhead + length
	if withLength {
		r.left -= wire.VarintLen(uint64(length))
	} else {
		r.done = true
	}
}
