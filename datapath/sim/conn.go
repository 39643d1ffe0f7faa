package sim

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
)

// firstEdge is the interface index of the first wrapped connection: high, so that others may number theirs from 1.
const firstEdge = 1 << 20

// maxAddrs bounds a connection's cache of addresses.
const maxAddrs = 4096

// Wrap puts the datapath at a relay's socket. What ReadFrom returns has passed client and server ingress, as a frame
// with link-layer addresses made from the IP addresses; forwarded packets go out by the inner connection's WriteTo. The
// way to a client is known as soon as the client is set. Reads from different goroutines are served one after the other.
func (s *Sim) Wrap(pc net.PacketConn) net.PacketConn {
	c := &conn{PacketConn: pc, sim: s, addrs: make(map[netip.AddrPort]*net.UDPAddr)}
	c.local = addrPort(pc.LocalAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Port == 0 {
		s.cfg.Port = c.local.Port()
	}
	c.ifindex = firstEdge + len(s.edges)
	s.edges = append(s.edges, c)
	for id, cl := range s.clients {
		if cl != nil && s.links[id].Interface == 0 {
			s.resolve(datapath.ClientID(id), cl)
		}
	}
	// Only what the inner connection has is offered: quic-go asks by type. ReadMsgUDP never is, as quic-go would then read past ReadFrom.
	buffers, _ := pc.(bufferConn)
	raw, _ := pc.(syscall.Conn)
	switch {
	case buffers != nil && raw != nil:
		return &rawConn{bufferedConn{c, buffers}, raw}
	case buffers != nil:
		return &bufferedConn{c, buffers}
	}
	return c
}

type bufferConn interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

type bufferedConn struct {
	*conn
	bufferConn
}

type rawConn struct {
	bufferedConn
	syscall.Conn
}

// conn is a wrapped connection.
type conn struct {
	net.PacketConn
	sim     *Sim
	ifindex int
	local   netip.AddrPort

	read  sync.Mutex
	frame frameBuilder

	addrsMu sync.Mutex
	addrs   map[netip.AddrPort]*net.UDPAddr
}

// ReadFrom implements net.PacketConn.
func (c *conn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(p)
	if err != nil {
		return n, from, err
	}
	if src := addrPort(from); src.IsValid() {
		c.addr(src, from.(*net.UDPAddr))
		c.read.Lock()
		if frame, err := c.frame.build(src, c.localFor(src), p[:n]); err == nil {
			c.sim.Ingress(frame, c.ifindex, c.sim.cfg.Now())
		}
		c.read.Unlock()
	}
	return n, from, nil
}

// localFor returns the relay's address as a peer sees it. A socket bound to all addresses does not know it.
func (c *conn) localFor(peer netip.AddrPort) netip.AddrPort {
	if a := c.local.Addr(); a.IsValid() && a.Is4() == peer.Addr().Is4() {
		return c.local
	}
	if peer.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), c.local.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), c.local.Port())
}

// sendTo sends a payload to a client.
func (c *conn) sendTo(payload []byte, to netip.AddrPort) error {
	_, err := c.PacketConn.WriteTo(payload, c.addr(to, nil))
	return err
}

// addr returns the net.Addr of an address as the inner connection knows it: simulated networks tell the 4-byte and the
// 16-byte form of an IPv4 address apart. It is the form that packets came with, seen, or else that of the local address.
func (c *conn) addr(a netip.AddrPort, seen *net.UDPAddr) *net.UDPAddr {
	c.addrsMu.Lock()
	defer c.addrsMu.Unlock()
	known := c.addrs[a]
	if known != nil && (seen == nil || len(seen.IP) == len(known.IP)) {
		return known
	}
	if len(c.addrs) >= maxAddrs {
		clear(c.addrs)
	}
	set := net.UDPAddrFromAddrPort(a)
	form := seen
	if form == nil {
		form, _ = c.LocalAddr().(*net.UDPAddr)
	}
	if form != nil && len(form.IP) == net.IPv6len {
		set.IP = set.IP.To16()
	}
	if seen != nil {
		set.Zone = seen.Zone
	}
	c.addrs[a] = set
	return set
}

// resolve fills a client's link if there is a wrapped connection: its neighbours are known by their addresses.
func (s *Sim) resolve(id datapath.ClientID, c *client) {
	if len(s.edges) == 0 {
		return
	}
	edge := s.edges[0]
	for _, e := range s.edges {
		if e.local == c.Local {
			edge = e
		}
	}
	s.links[id] = rules.Link{Interface: edge.ifindex, Src: LinkAddr(c.Local.Addr()), Dst: LinkAddr(c.Remote.Addr())}
}

// LinkAddr returns the link-layer address that an IP address has at a wrapped connection: locally administered, made
// of the address.
func LinkAddr(a netip.Addr) rules.MAC {
	b := a.As16()
	h := sha256.Sum256(b[:])
	m := rules.MAC(h[:6])
	m[0] = m[0]&^1 | 2
	return m
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmap(u.AddrPort())
}

// frameBuilder makes Ethernet frames of UDP payloads.
type frameBuilder struct {
	buf gopacket.SerializeBuffer
	eth layers.Ethernet
	ip4 layers.IPv4
	ip6 layers.IPv6
	udp layers.UDP

	src, dst netip.AddrPort // what the layers are set to
}

func (f *frameBuilder) build(src, dst netip.AddrPort, payload []byte) ([]byte, error) {
	if f.buf == nil {
		f.buf = gopacket.NewSerializeBuffer()
	}
	if src != f.src || dst != f.dst {
		f.src, f.dst = src, dst
		s, d := LinkAddr(src.Addr()), LinkAddr(dst.Addr())
		f.eth = layers.Ethernet{SrcMAC: s[:], DstMAC: d[:], EthernetType: layers.EthernetTypeIPv4}
		f.udp = layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		f.ip4 = layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		f.ip6 = layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: f.ip4.SrcIP, DstIP: f.ip4.DstIP}
	}
	if err := f.buf.Clear(); err != nil {
		return nil, err
	}
	ip, network := gopacket.SerializableLayer(&f.ip4), gopacket.NetworkLayer(&f.ip4)
	if !src.Addr().Is4() {
		f.eth.EthernetType = layers.EthernetTypeIPv6
		ip, network = &f.ip6, &f.ip6
	}
	if err := f.udp.SetNetworkLayerForChecksum(network); err != nil {
		return nil, err
	}
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	for _, l := range [...]gopacket.SerializableLayer{gopacket.Payload(payload), &f.udp, ip, &f.eth} {
		if err := l.SerializeTo(f.buf, opts); err != nil {
			return nil, err
		}
	}
	return f.buf.Bytes(), nil
}
