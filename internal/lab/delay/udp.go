package delay

import (
	"encoding/binary"
	"net/netip"
)

// flow is an address of this side and one of the far side, which packets go between.
type flow struct{ local, remote netip.AddrPort }

const (
	etherLen = 14
	udpLen   = 8
	protoUDP = 17
)

// parseUDP returns the addresses and the payload of a whole UDP packet in an Ethernet frame. The payload aliases the frame.
func parseUDP(frame []byte) (src, dst netip.AddrPort, payload []byte, ok bool) {
	if len(frame) < etherLen {
		return src, dst, nil, false
	}
	ip := frame[etherLen:]
	var a, b netip.Addr
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if len(ip) < 20 || ip[0]>>4 != 4 || ip[9] != protoUDP || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return src, dst, nil, false
		}
		a, b = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if header < 20 || total < header || total > len(ip) {
			return src, dst, nil, false
		}
		ip = ip[header:total]
	case 0x86dd:
		if len(ip) < 40 || ip[0]>>4 != 6 || ip[6] != protoUDP {
			return src, dst, nil, false
		}
		a, b = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		total := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if total > len(ip) {
			return src, dst, nil, false
		}
		ip = ip[40:total]
	default:
		return src, dst, nil, false
	}
	if len(ip) < udpLen {
		return src, dst, nil, false
	}
	size := int(binary.BigEndian.Uint16(ip[4:]))
	if size < udpLen || size > len(ip) {
		return src, dst, nil, false
	}
	src = netip.AddrPortFrom(a, binary.BigEndian.Uint16(ip))
	dst = netip.AddrPortFrom(b, binary.BigEndian.Uint16(ip[2:]))
	return src, dst, ip[udpLen:size], true
}
