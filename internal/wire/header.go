package wire

import "encoding/binary"

// QUIC versions (RFC 9000, section 15; RFC 9369, section 3.1).
const (
	Version1 = 1
	Version2 = 0x6b3343cf
)

// MaxCIDLen is the longest connection ID of QUIC v1 and v2 (RFC 9000, section 17.2).
const MaxCIDLen = 20

const (
	formBit  = 0x80
	fixedBit = 0x40
)

// IsLongHeader tells whether b is the first byte of a long header packet (RFC 8999, section 5).
func IsLongHeader(b byte) bool { return b&formBit != 0 }

// LongType is the kind of a long header packet. Its zero value is no kind.
type LongType uint8

// Kinds of long header packets (RFC 9000, section 17.2).
const (
	LongInitial LongType = iota + 1
	Long0RTT
	LongHandshake
	LongRetry
	LongVersionNegotiation
)

func (t LongType) String() string {
	switch t {
	case LongInitial:
		return "initial"
	case Long0RTT:
		return "0rtt"
	case LongHandshake:
		return "handshake"
	case LongRetry:
		return "retry"
	case LongVersionNegotiation:
		return "version_negotiation"
	default:
		return "unknown"
	}
}

// LongHeader is the part of a long header packet that is not protected (RFC 9000, section 17.2).
// Its slices alias the packet.
type LongHeader struct {
	Type       LongType
	Version    uint32
	DCID, SCID []byte
	Token      []byte // of Initial and Retry
	HeaderLen  int    // bytes before the packet number; with Retry before the token, with Version Negotiation before the versions
	PacketLen  int    // bytes of this packet; what follows in the datagram is the next, coalesced one
}

// ParseLongHeader parses the long header packet at the start of the datagram or rest of a datagram b.
// A version other than 1 and 2 gives ErrVersion, together with Version, DCID and SCID, which all versions
// have in common (RFC 8999, section 5.1) and which may be up to 255 bytes long there.
func ParseLongHeader(b []byte) (LongHeader, error) {
	var h LongHeader
	if len(b) == 0 {
		return h, ErrTruncated
	}
	if !IsLongHeader(b[0]) {
		return h, ErrNotQUIC
	}
	if len(b) < 5 {
		return h, ErrTruncated
	}
	h.Version = binary.BigEndian.Uint32(b[1:])
	n := 5
	for _, cid := range [...]*[]byte{&h.DCID, &h.SCID} {
		if n >= len(b) || len(b)-n-1 < int(b[n]) {
			return LongHeader{Version: h.Version}, ErrTruncated
		}
		end := n + 1 + int(b[n])
		*cid = b[n+1 : end : end]
		n = end
	}
	h.HeaderLen, h.PacketLen = n, len(b)
	switch h.Version {
	case 0:
		h.Type = LongVersionNegotiation
		return h, nil
	case Version1, Version2:
	default:
		return h, ErrVersion
	}
	if b[0]&fixedBit == 0 {
		return h, ErrNotQUIC
	}
	if len(h.DCID) > MaxCIDLen || len(h.SCID) > MaxCIDLen {
		return h, ErrCIDLen
	}
	h.Type = longType(b[0], h.Version)
	return h, h.parseRest(b)
}

// longType reads the type bits, which version 2 rotates by one (RFC 9369, section 3.2).
func longType(first byte, version uint32) LongType {
	bits := first >> 4 & 3
	if version == Version2 {
		bits = (bits - 1) & 3
	}
	return LongInitial + LongType(bits)
}

// parseRest parses what follows the connection IDs.
func (h *LongHeader) parseRest(b []byte) error {
	n := h.HeaderLen
	switch h.Type {
	case LongRetry:
		// The integrity tag ends the packet (RFC 9000, section 17.2.5).
		if len(b)-n < TagLen {
			return ErrTruncated
		}
		end := len(b) - TagLen
		h.Token = b[n:end:end]
		return nil
	case LongInitial:
		size, l := ReadVarint(b[n:])
		if l == 0 || size > uint64(len(b)-n-l) {
			return ErrTruncated
		}
		n += l
		end := n + int(size)
		h.Token = b[n:end:end]
		n = end
	}
	size, l := ReadVarint(b[n:])
	if l == 0 || size > uint64(len(b)-n-l) {
		return ErrTruncated
	}
	h.HeaderLen = n + l
	h.PacketLen = n + l + int(size)
	return nil
}
