package delay

import (
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// epoch is when the captures start.
var epoch = time.Unix(1_700_000_000, 123_456_789)

// synthConn writes the packets of one connection in the clear, as its client's interface sees them.
type synthConn struct {
	client, server netip.AddrPort
	cids           [2][]byte // destination IDs, by direction
	numbers        [2]uint64
	keys           *wire.Keys
	out            *[]capture.Packet
}

// newSynth starts a connection at a time: the client's Initial packet and the server's, whose contents nothing reads.
func newSynth(out *[]capture.Packet, client, server string, clientCID, serverCID []byte, at time.Time) *synthConn {
	k, err := wire.NewKeys(wire.SuiteNull, wire.Version1, nil)
	if err != nil {
		panic(err)
	}
	c := &synthConn{
		client: netip.MustParseAddrPort(client), server: netip.MustParseAddrPort(server),
		cids: [2][]byte{serverCID, clientCID}, keys: k, out: out,
	}
	c.emit(at, outgoing, longPacket(append([]byte("original"), serverCID...), clientCID))
	c.emit(at, incoming, longPacket(clientCID, serverCID))
	return c
}

// longPacket returns an Initial packet of version 1 that nobody can open.
func longPacket(dcid, scid []byte) []byte {
	b := []byte{0xc0, 0, 0, 0, 1}
	dcid = dcid[:min(len(dcid), wire.MaxCIDLen)]
	b = append(append(b, byte(len(dcid))), dcid...)
	b = append(append(b, byte(len(scid))), scid...)
	b = append(b, 0) // token
	b = wire.AppendVarint(b, 40)
	return append(b, make([]byte, 40)...)
}

// emit adds a UDP packet to the capture.
func (c *synthConn) emit(at time.Time, d direction, payload []byte) {
	src, dst := c.client, c.server
	if d == incoming {
		src, dst = dst, src
	}
	*c.out = append(*c.out, capture.Packet{Time: at, Outgoing: d == outgoing, Data: udpFrame(src, dst, payload)})
}

func udpFrame(src, dst netip.AddrPort, payload []byte) []byte {
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer = &layers.IPv4{
		Version: 4, Protocol: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
	}
	if src.Addr().Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, eth, ip, udp, gopacket.Payload(payload)); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// send adds a 1-RTT packet with the frames.
func (c *synthConn) send(at time.Time, d direction, frames []byte) {
	if len(frames) < 4 {
		frames = wire.AppendPadding(frames, 4)
	}
	c.emit(at, d, c.keys.Seal(nil, 0, c.cids[d], c.numbers[d], 4, frames))
	c.numbers[d]++
}

func varbytes(b []byte, s string) []byte { return append(wire.AppendVarint(b, uint64(len(s))), s...) }

// subscribe returns a SUBSCRIBE message for the track name in the namespace "live", "cam".
func subscribe(d wire.Draft, request uint64, name string) []byte {
	p := wire.AppendVarint(nil, request)
	p = wire.AppendVarint(p, 2)
	p = varbytes(varbytes(p, "live"), "cam")
	p = varbytes(p, name)
	if d == wire.Draft14 {
		p = append(p, 128, 1, 1, byte(wire.FilterNextGroupStart))
	}
	b, err := wire.AppendControl(nil, wire.MsgSubscribe, append(p, 0)) // no parameters
	if err != nil {
		panic(err)
	}
	return b
}

// subscribeOK returns a SUBSCRIBE_OK message.
func subscribeOK(d wire.Draft, request, alias uint64) []byte {
	p := wire.AppendVarint(wire.AppendVarint(nil, request), alias)
	if d == wire.Draft14 {
		p = append(p, 0, 1, 0)
	}
	b, err := wire.AppendControl(nil, wire.MsgSubscribeOK, append(p, 0))
	if err != nil {
		panic(err)
	}
	return b
}

// stream returns the bytes of a subgroup stream: header and content, whose first varint is the ID of the first object.
func stream(d wire.Draft, alias, group, subgroup uint64, mode wire.SubgroupMode, content []byte) []byte {
	h := wire.SubgroupHeader{TrackAlias: alias, Group: group, Subgroup: subgroup, SubgroupMode: mode, Priority: 7}
	return append(h.Append(nil, d), content...)
}
