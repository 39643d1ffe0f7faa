package rules

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// AppendStream appends a client's STREAM frame (egress, rule 6). The offset is always there.
func AppendStream(b []byte, id uint64, p *Piece, fin, withLength bool) []byte {
	t := byte(0x0c)
	if withLength {
		t |= 0x02
	}
	if fin {
		t |= 0x01
	}
	b = append(b, t)
	b = wire.AppendVarint(b, id)
	b = wire.AppendVarint(b, p.Offset)
	return appendPiece(b, p, withLength)
}

// AppendDatagram appends a client's DATAGRAM frame (egress, rule 6).
func AppendDatagram(b []byte, p *Piece, withLength bool) []byte {
	if withLength {
		b = append(b, 0x31)
	} else {
		b = append(b, 0x30)
	}
	return appendPiece(b, p, withLength)
}

func appendPiece(b []byte, p *Piece, withLength bool) []byte {
	if withLength {
		b = wire.AppendVarint(b, uint64(p.Len()))
	}
	b = append(b, p.Head[:p.HeadLen]...)
	return append(b, p.Tail...)
}

// Link is the link-layer side of the way to a client.
type Link struct {
	Interface int // index
	Src, Dst  MAC // of the relay, of the next hop
}

// HeaderLen returns the bytes before the UDP payload.
func HeaderLen(a netip.Addr) int {
	if a.Is4() {
		return EthernetLen + IPv4Len + UDPLen
	}
	return EthernetLen + IPv6Len + UDPLen
}

// PutHeaders writes the headers before the UDP payload that starts at HeaderLen of frame and ends with it, checksums
// included (egress). The addresses are of one family.
func PutHeaders(frame []byte, link *Link, src, dst netip.AddrPort) {
	copy(frame[0:6], link.Dst[:])
	copy(frame[6:12], link.Src[:])
	ip := frame[EthernetLen:]
	var udp []byte
	var pseudo uint64
	if src.Addr().Is4() {
		binary.BigEndian.PutUint16(frame[12:], etherIPv4)
		udp = ip[IPv4Len:]
		s, d := src.Addr().As4(), dst.Addr().As4()
		ip[0], ip[1] = 0x45, 0
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], 0)
		binary.BigEndian.PutUint16(ip[6:], ipv4DontFragment)
		ip[8], ip[9], ip[10], ip[11] = 64, protoUDP, 0, 0
		copy(ip[12:], s[:])
		copy(ip[16:], d[:])
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:IPv4Len])))
		pseudo = sum(0, ip[12:20])
	} else {
		binary.BigEndian.PutUint16(frame[12:], etherIPv6)
		udp = ip[IPv6Len:]
		s, d := src.Addr().As16(), dst.Addr().As16()
		binary.BigEndian.PutUint32(ip, 6<<28)
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		ip[6], ip[7] = protoUDP, 64
		copy(ip[8:], s[:])
		copy(ip[24:], d[:])
		pseudo = sum(0, ip[8:40])
	}
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[6:], 0)
	pseudo, carry := bits.Add64(pseudo, protoUDP+uint64(len(udp)), 0)
	c := ^fold(sum(pseudo+carry, udp))
	if c == 0 {
		c = 0xffff // 0 says that there is no checksum (RFC 768; RFC 8200, section 8.1)
	}
	binary.BigEndian.PutUint16(udp[6:], c)
}

// sum adds b to a one's complement sum, eight bytes at a time (RFC 1071).
func sum(s uint64, b []byte) uint64 {
	var c uint64
	for ; len(b) >= 8; b = b[8:] {
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b), c)
	}
	var rest [8]byte
	copy(rest[:], b)
	s, c = bits.Add64(s, binary.BigEndian.Uint64(rest[:]), c)
	return s + c
}

// fold folds a sum to 16 bits.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s&0xffff)
}

// AppendNull appends a packet to a client without protection: 0x43, DCID, number, frames, zeros for the tag.
func AppendNull(b, dcid []byte, number uint64, frames []byte) []byte {
	b = append(b, fixedBit|(datapath.NumberLen-1))
	b = append(b, dcid...)
	b = binary.BigEndian.AppendUint32(b, uint32(number))
	b = append(b, frames...)
	var tag [datapath.TagLen]byte
	return append(b, tag[:]...)
}
