package datapathtest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Side is a party on the wire, as frames show it.
type Side struct {
	MAC  [6]byte
	Addr netip.AddrPort
}

// Builder makes packets of a publisher. The zero value of a field but From, To and CID is a sound packet's.
type Builder struct {
	From, To Side
	CID      []byte              // of the relay
	Keys     *wire.Keys          // nil: null cipher
	Phase    uint64              // key generation
	PNLen    int                 // bytes of the packet number; default 4
	First    byte                // bits flipped in the first byte of a null packet
	Change   func(packet []byte) // changes the sealed packet
}

// Packet returns a short header packet with the given frames.
func (b *Builder) Packet(number uint64, frames []byte) []byte {
	n := b.PNLen
	if n == 0 {
		n = 4
	}
	k := b.Keys
	if k == nil {
		var err error
		if k, err = wire.NewKeys(wire.SuiteNull, wire.Version1, nil); err != nil {
			panic(err) // the null suite takes any secret
		}
	}
	p := k.Seal(nil, b.Phase, b.CID, number, n, frames)
	if len(p) > 0 {
		p[0] ^= b.First
	}
	if b.Change != nil {
		b.Change(p)
	}
	return p
}

// Frame returns an Ethernet frame with a packet of the given frames.
func (b *Builder) Frame(number uint64, frames []byte) []byte {
	return UDPFrame(b.From, b.To, b.Packet(number, frames))
}

// UDPFrame returns an Ethernet frame with a UDP datagram.
func UDPFrame(from, to Side, payload []byte) []byte {
	eth := &layers.Ethernet{SrcMAC: from.MAC[:], DstMAC: to.MAC[:], EthernetType: layers.EthernetTypeIPv4}
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Addr.Port()), DstPort: layers.UDPPort(to.Addr.Port())}
	src, dst := from.Addr.Addr().AsSlice(), to.Addr.Addr().AsSlice()
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment, SrcIP: src, DstIP: dst}
	if !from.Addr.Addr().Is4() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err) // IPv4 and IPv6 have a pseudo header
	}
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, eth, ip, udp, gopacket.Payload(payload)); err != nil {
		panic(fmt.Sprintf("datapathtest: payload of %d bytes: %v", len(payload), err))
	}
	return buf.Bytes()
}

// Sent is a frame that came out, taken apart.
type Sent struct {
	SrcMAC, DstMAC [6]byte
	Src, Dst       netip.AddrPort
	Payload        []byte
}

// ParseFrame takes a frame apart that a datapath sent, and checks all that is fixed: lengths, checksums, TTL, flags.
func ParseFrame(frame []byte) (Sent, error) {
	var s Sent
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		return s, e.Error()
	}
	eth, _ := p.LinkLayer().(*layers.Ethernet)
	udp, _ := p.TransportLayer().(*layers.UDP)
	if eth == nil || udp == nil {
		return s, fmt.Errorf("frame %x is not Ethernet with UDP", frame)
	}
	s.SrcMAC, s.DstMAC, s.Payload = [6]byte(eth.SrcMAC), [6]byte(eth.DstMAC), udp.Payload
	var src, dst []byte
	var pseudo uint32
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, dst = ip.SrcIP.To4(), ip.DstIP.To4()
		if ip.TTL != 64 || ip.TOS != 0 || ip.Id != 0 || ip.Flags != layers.IPv4DontFragment || ip.IHL != 5 || int(ip.Length) != len(frame)-14 {
			return s, fmt.Errorf("IPv4 header is not as it should be: %+v", ip)
		}
		if c := Checksum(0, ip.Contents); c != 0 {
			return s, fmt.Errorf("IPv4 checksum is off by %#04x", c)
		}
	case *layers.IPv6:
		src, dst = ip.SrcIP.To16(), ip.DstIP.To16()
		if ip.HopLimit != 64 || ip.TrafficClass != 0 || ip.FlowLabel != 0 || int(ip.Length) != len(frame)-54 {
			return s, fmt.Errorf("IPv6 header is not as it should be: %+v", ip)
		}
	default:
		return s, fmt.Errorf("frame %x has no IP header", frame)
	}
	for i := 0; i < len(src); i += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(src[i:])) + uint32(binary.BigEndian.Uint16(dst[i:]))
	}
	if udp.Checksum == 0 {
		return s, fmt.Errorf("UDP checksum is missing")
	}
	if int(udp.Length) != 8+len(udp.Payload) {
		return s, fmt.Errorf("UDP length is %d for %d bytes", udp.Length, len(udp.Payload))
	}
	if c := Checksum(pseudo+17+uint32(udp.Length), frame[len(frame)-int(udp.Length):]); c != 0 {
		return s, fmt.Errorf("UDP checksum is off by %#04x", c)
	}
	s.Src = addrPort(src, uint16(udp.SrcPort))
	s.Dst = addrPort(dst, uint16(udp.DstPort))
	return s, nil
}

func addrPort(ip []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a, port)
}

// Checksum returns the Internet checksum of b on top of a sum, two bytes at a time (RFC 1071); 0 over a header that has a right one.
func Checksum(sum uint32, b []byte) uint16 {
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Subgroup returns the start of a subgroup stream: type 0x14, alias, group, subgroup 0, priority, then payload.
func Subgroup(alias, group uint64, priority uint8, payload string) []byte {
	b := wire.AppendVarint([]byte{0x14}, alias)
	b = wire.AppendVarint(b, group)
	return append(append(b, 0, priority), payload...)
}

// ObjectDatagram returns an object datagram of type 0x00 with object ID 0.
func ObjectDatagram(alias, group uint64, priority uint8, payload string) []byte {
	b := wire.AppendVarint([]byte{0x00}, alias)
	b = wire.AppendVarint(b, group)
	return append(append(b, 0, priority), payload...)
}

// CID returns a connection ID of the relay.
func CID(n byte) []byte {
	b := make([]byte, datapath.CIDLen)
	for i := range b {
		b[i] = n + byte(i)
	}
	return b
}
