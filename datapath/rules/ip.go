package rules

import (
	"encoding/binary"
	"net/netip"

	"github.com/fastrelay/fastrelay/datapath"
)

// Lengths of headers, in bytes.
const (
	EthernetLen = 14
	IPv4Len     = 20
	IPv6Len     = 40
	UDPLen      = 8
	MaxHeaders  = EthernetLen + IPv6Len + UDPLen
	MaxFrame    = MaxHeaders + datapath.MaxPacketSize
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoUDP  = 17

	ipv4DontFragment = 0x4000
	ipv4More         = 0x2000
	ipv4Offset       = 0x1fff
)

// MAC is a link-layer address.
type MAC [6]byte

// Datagram is a UDP datagram in an Ethernet frame.
type Datagram struct {
	Src, Dst       netip.AddrPort
	SrcMAC, DstMAC MAC
	Payload        []byte // aliases the frame; nil unless the lengths fit (CheckLengths)

	udp    int // offset of the UDP header
	ipEnd  int // where the IP header says that the packet ends
	odd    bool
	frame  []byte
	udpLen int
}

// ParseUDP finds the UDP datagram to the relay's port in an Ethernet frame (ingress, rule 1). ours is false for a frame
// that is passed on without being counted. The reason is ReasonFragment for IPv4 options and first fragments. Lengths
// are not judged: CheckLengths does that.
func ParseUDP(frame []byte, port uint16, d *Datagram) (ours bool, r datapath.Reason) {
	if len(frame) < EthernetLen {
		return false, 0
	}
	ip := frame[EthernetLen:]
	*d = Datagram{frame: frame, DstMAC: MAC(frame[0:6]), SrcMAC: MAC(frame[6:12])}
	var src, dst netip.Addr
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		if len(ip) < IPv4Len || ip[0]>>4 != 4 || ip[0]&15 < 5 || ip[9] != protoUDP {
			return false, 0
		}
		header, fragment := int(ip[0]&15)*4, binary.BigEndian.Uint16(ip[6:])
		if fragment&ipv4Offset != 0 {
			return false, 0
		}
		d.odd = header != IPv4Len || fragment&ipv4More != 0
		d.udp = EthernetLen + header
		d.ipEnd = EthernetLen + int(binary.BigEndian.Uint16(ip[2:]))
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	case etherIPv6:
		if len(ip) < IPv6Len || ip[0]>>4 != 6 || ip[6] != protoUDP {
			return false, 0
		}
		d.udp = EthernetLen + IPv6Len
		d.ipEnd = d.udp + int(binary.BigEndian.Uint16(ip[4:]))
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	default:
		return false, 0
	}
	if len(frame) < d.udp+UDPLen {
		return false, 0
	}
	udp := frame[d.udp:]
	if binary.BigEndian.Uint16(udp[2:]) != port {
		return false, 0
	}
	d.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(udp))
	d.Dst = netip.AddrPortFrom(dst, port)
	d.udpLen = int(binary.BigEndian.Uint16(udp[4:]))
	if d.odd {
		return true, datapath.ReasonFragment
	}
	return true, datapath.Forwarded
}

// CheckLengths judges the lengths in the headers and sets Payload (ingress, rule 2).
func (d *Datagram) CheckLengths() datapath.Reason {
	end := d.udp + d.udpLen
	if d.ipEnd > len(d.frame) || end > d.ipEnd || d.udpLen <= UDPLen {
		return datapath.ReasonTruncated
	}
	d.Payload = d.frame[d.udp+UDPLen : end : end]
	return datapath.Forwarded
}
