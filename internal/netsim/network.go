package netsim

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Network joins hosts. A packet goes through the sender's path up and the receiver's path down; where both have a bottleneck the
// second one sees packets in the order of sending, not of arrival.
type Network struct {
	seed  uint64
	trace *Trace

	mu    sync.Mutex
	hosts map[netip.AddrPort]*Host
	paths uint64 // made so far
}

// New returns a network without hosts. Its chances are those of the seed. The trace, if not nil, gets every packet.
func New(seed uint64, trace *Trace) *Network {
	return &Network{seed: seed, trace: trace, hosts: make(map[netip.AddrPort]*Host)}
}

// Host is a host with one socket. It is a net.PacketConn that one goroutine may read at a time.
type Host struct {
	n        *Network
	up, down *Path // guarded by n.mu
	in       *line

	mu   sync.Mutex
	addr *net.UDPAddr
	key  netip.AddrPort
	dead bool
}

var _ net.PacketConn = (*Host)(nil)

// Host adds a host. Nobody else may have its address.
func (n *Network) Host(addr netip.AddrPort, up, down Shape) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		return nil, fmt.Errorf("address %v is taken", addr)
	}
	h := &Host{n: n, in: newLine(), addr: net.UDPAddrFromAddrPort(addr), key: addr}
	h.up, h.down = NewPath(up, n.seed<<16+n.paths), NewPath(down, n.seed<<16+n.paths+1)
	n.paths += 2
	n.hosts[addr] = h
	return h, nil
}

// Reshape changes what the host's paths do from now on. What is on its way stays so.
func (h *Host) Reshape(up, down Shape) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.up.shape, h.down.shape = up, down
}

// Rebind gives the host another address without its knowing, as a NAT does. Packets to the old one are lost.
func (h *Host) Rebind(addr netip.AddrPort) error {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.n.hosts[addr] != nil {
		return fmt.Errorf("address %v is taken", addr)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.n.hosts, h.key)
	h.key = addr
	h.n.hosts[addr] = h
	return nil
}

// Die cuts the host off: from now on nothing that it sends arrives anywhere, nor anything that is sent to it. Its socket stays.
func (h *Host) Die() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
}

func (h *Host) now() (addr netip.AddrPort, dead bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.key, h.dead
}

// WriteTo implements net.PacketConn. As with UDP, that a packet is lost is no error.
func (h *Host) WriteTo(p []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("address %v is not one of UDP", to)
	}
	if h.isClosed() {
		return 0, net.ErrClosed
	}
	dst := u.AddrPort()
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	src, dead := h.now()
	data, at := slices.Clone(p), time.Now()
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	peer := n.hosts[dst]
	gone := dead || peer == nil
	if !gone {
		_, gone = peer.now()
	}
	if gone {
		n.trace.add(Event{At: at, From: src, To: dst, Data: data, Fate: Unreachable})
		return len(p), nil
	}
	var arrivals []time.Time
	first, fate := h.up.Send(len(p), at)
	for _, t := range first {
		second, f := peer.down.Send(len(p), t)
		arrivals = append(arrivals, second...)
		if fate == Passed {
			fate = f
		}
	}
	n.trace.add(Event{At: at, From: src, To: dst, Data: data, Fate: fate, Arrivals: arrivals})
	from := net.UDPAddrFromAddrPort(src)
	for _, t := range arrivals {
		peer.in.put(t, from, data)
	}
	return len(p), nil
}

// ReadFrom implements net.PacketConn.
func (h *Host) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		p, err := h.in.take()
		if err != nil {
			return 0, nil, err
		}
		if _, dead := h.now(); !dead {
			return copy(b, p.data), p.addr, nil
		}
	}
}

func (h *Host) isClosed() bool {
	h.in.mu.Lock()
	defer h.in.mu.Unlock()
	return h.in.closed
}

// Close implements net.PacketConn. What the host has sent arrives all the same.
func (h *Host) Close() error {
	h.n.mu.Lock()
	key, _ := h.now()
	if h.n.hosts[key] == h {
		delete(h.n.hosts, key)
	}
	h.n.mu.Unlock()
	h.in.close()
	return nil
}

// LocalAddr returns the address that the host was made with.
func (h *Host) LocalAddr() net.Addr { return h.addr }

// SetDeadline implements net.PacketConn.
func (h *Host) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (h *Host) SetReadDeadline(t time.Time) error { h.in.setDeadline(t); return nil }

// SetWriteDeadline does nothing: writing does not block.
func (h *Host) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing: the queue of received packets has no bound. quic-go asks for it.
func (h *Host) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (h *Host) SetWriteBuffer(int) error { return nil }
