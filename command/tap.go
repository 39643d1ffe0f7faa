package command

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/netsim"
)

// tap records what passes an endpoint's socket, with the time at the socket. It stands in for a capture where all
// parties share a machine and a network interface. It hides segmentation offload from quic-go, so that packets are single.
type tap struct {
	udp   *net.UDPConn
	inner net.PacketConn // udp, or paths before it
	local netip.AddrPort
	mu    sync.Mutex
	seen  []tapped
}

type tapped struct {
	time   time.Time
	out    bool
	remote netip.AddrPort
	data   []byte
}

// newTap opens a socket on any port of an address.
func newTap(ip net.IP) (*tap, error) {
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip})
	if err != nil {
		return nil, fmt.Errorf("cannot open a UDP socket: %w", err)
	}
	return &tap{udp: pc, inner: pc, local: pc.LocalAddr().(*net.UDPAddr).AddrPort()}, nil
}

// shape puts a path before the socket in each direction, and what is received behind a bottleneck unless that is nil. It is to be called
// before the tap is used.
func (t *tap) shape(s netsim.Shape, seed uint64, b *netsim.Bottleneck) *netsim.Shaped {
	down := netsim.NewPath(s, 2*seed+1)
	down.Behind(b)
	shaped := netsim.NewShaped(t.udp, netsim.NewPath(s, 2*seed), down)
	t.inner = shaped
	return shaped
}

func (t *tap) record(at time.Time, out bool, remote net.Addr, data []byte) {
	ua, ok := remote.(*net.UDPAddr)
	if !ok {
		return
	}
	p := tapped{time: at, out: out, remote: ua.AddrPort(), data: slices.Clone(data)}
	t.mu.Lock()
	t.seen = append(t.seen, p)
	t.mu.Unlock()
}

// ReadFrom implements net.PacketConn.
func (t *tap) ReadFrom(p []byte) (int, net.Addr, error) {
	n, addr, err := t.inner.ReadFrom(p)
	if err == nil {
		t.record(time.Now(), false, addr, p[:n])
	}
	return n, addr, err
}

// WriteTo implements net.PacketConn.
func (t *tap) WriteTo(p []byte, addr net.Addr) (int, error) {
	at := time.Now()
	n, err := t.inner.WriteTo(p, addr)
	if err == nil {
		t.record(at, true, addr, p)
	}
	return n, err
}

// The rest of net.PacketConn, and what quic-go sets up a socket with.

func (t *tap) Close() error                          { return t.inner.Close() }
func (t *tap) LocalAddr() net.Addr                   { return t.inner.LocalAddr() }
func (t *tap) SetDeadline(at time.Time) error        { return t.inner.SetDeadline(at) }
func (t *tap) SetReadDeadline(at time.Time) error    { return t.inner.SetReadDeadline(at) }
func (t *tap) SetWriteDeadline(at time.Time) error   { return t.inner.SetWriteDeadline(at) }
func (t *tap) SetReadBuffer(n int) error             { return t.udp.SetReadBuffer(n) }
func (t *tap) SetWriteBuffer(n int) error            { return t.udp.SetWriteBuffer(n) }
func (t *tap) SyscallConn() (syscall.RawConn, error) { return t.udp.SyscallConn() }

// recording returns what the taps recorded as a capture, in order of time, with link-layer and IP headers made up.
func recording(taps ...*tap) (*capture.Recording, error) {
	var r capture.Recording
	buf := gopacket.NewSerializeBuffer()
	for _, t := range taps {
		t.mu.Lock()
		seen := t.seen
		t.mu.Unlock()
		for i := range seen {
			frame, err := seen[i].frame(t.local, buf)
			if err != nil {
				return nil, err
			}
			r.Packets = append(r.Packets, capture.Packet{Time: seen[i].time, Outgoing: seen[i].out, Data: frame, Length: len(frame)})
		}
	}
	slices.SortStableFunc(r.Packets, func(a, b capture.Packet) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	return &r, nil
}

func (p *tapped) frame(local netip.AddrPort, buf gopacket.SerializeBuffer) ([]byte, error) {
	src, dst := local, p.remote
	if !p.out {
		src, dst = dst, src
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6)}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	srcIP, dstIP := src.Addr().Unmap(), dst.Addr().Unmap()
	if srcIP.Is4() {
		eth.EthernetType = layers.EthernetTypeIPv4
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: srcIP.AsSlice(), DstIP: dstIP.AsSlice()}
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: srcIP.AsSlice(), DstIP: dstIP.AsSlice()}
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, eth, ip, udp, gopacket.Payload(p.data)); err != nil {
		return nil, fmt.Errorf("rebuild a packet: %w", err)
	}
	return slices.Clone(buf.Bytes()), nil
}
