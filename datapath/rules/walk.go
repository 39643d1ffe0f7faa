package rules

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Frame is a media frame of a publisher's packet.
type Frame struct {
	Stream   uint64 // of a DATAGRAM frame: its position among those of the packet
	Offset   uint64
	Data     []byte // aliases the packet
	Fin      bool
	Datagram bool
}

// Media is what Walk found in a packet.
type Media struct {
	Frames  [datapath.MaxForward]Frame
	Len     int    // of Frames
	Further int    // media frames beyond them
	Above   uint64 // largest stream + 1 of the further STREAM frames at offset 0; 0: none
}

// Walk goes over the frames of a packet and picks its media frames: DATAGRAM, and STREAM of streams whose two low bits
// are streamBits (ingress, rule 6). On a reason m is of no use.
func Walk(frames []byte, streamBits uint8, m *Media) datapath.Reason {
	m.Len, m.Further, m.Above = 0, 0, 0
	datagrams := uint64(0)
	var f wire.Frame
	for left := datapath.MaxFrames; len(frames) > 0; left-- {
		if left == 0 {
			return datapath.ReasonTooManyFrames
		}
		if t := wire.FrameType(frames[0]); t == wire.FrameAck || t == wire.FrameAckECN {
			n, ranges, r := walkAck(frames, left-1)
			if r != datapath.Forwarded {
				return r
			}
			frames = frames[n:]
			left -= ranges
			continue
		}
		n, err := f.Parse(frames)
		if err != nil {
			return datapath.ReasonMalformedFrame
		}
		frames = frames[n:]
		switch {
		case f.IsDatagram():
			m.add(Frame{Stream: datagrams, Data: f.Data, Datagram: true})
			datagrams++
		case f.IsStream() && uint8(f.V[0]&3) == streamBits:
			m.add(Frame{Stream: f.V[0], Offset: f.Offset, Data: f.Data, Fin: f.Fin})
		}
	}
	return datapath.Forwarded
}

func (m *Media) add(f Frame) {
	if m.Len < datapath.MaxForward {
		m.Frames[m.Len] = f
		m.Len++
		return
	}
	m.Further++
	if !f.Datagram && f.Offset == 0 {
		m.Above = max(m.Above, f.Stream+1)
	}
}

// walkAck returns the length of the ACK frame at the start of b and its ranges after the first, at most left
// (RFC 9000, section 19.3). It stops at the limit before it reads on, so that work is bounded and the first fault decides.
func walkAck(b []byte, left int) (n, ranges int, r datapath.Reason) {
	ecn := wire.FrameType(b[0]) == wire.FrameAckECN
	var v [4]uint64 // largest, delay, range count, first range
	n = 1
	for i := range v {
		var l int
		if v[i], l = wire.ReadVarint(b[n:]); l == 0 {
			return 0, 0, datapath.ReasonMalformedFrame
		}
		n += l
	}
	if v[3] > v[0] {
		return 0, 0, datapath.ReasonMalformedFrame
	}
	smallest := v[0] - v[3]
	for ; uint64(ranges) < v[2]; ranges++ {
		if ranges == left {
			return 0, 0, datapath.ReasonTooManyFrames
		}
		gap, l := wire.ReadVarint(b[n:])
		if l == 0 {
			return 0, 0, datapath.ReasonMalformedFrame
		}
		n += l
		size, l := wire.ReadVarint(b[n:])
		if l == 0 || smallest < gap+2 || smallest-gap-2 < size {
			return 0, 0, datapath.ReasonMalformedFrame
		}
		n += l
		smallest -= gap + 2 + size
	}
	for i := 0; ecn && i < 3; i++ {
		_, l := wire.ReadVarint(b[n:])
		if l == 0 {
			return 0, 0, datapath.ReasonMalformedFrame
		}
		n += l
	}
	return n, ranges, datapath.Forwarded
}
