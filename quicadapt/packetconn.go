package quicadapt

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// bufferPool holds scratch for datagrams on their way out, with room for a whole segmentation offload batch.
var bufferPool = sync.Pool{New: func() any { b := make([]byte, 1<<17); return &b }}

// newPacketConn returns what quic-go gets for a socket.
func newPacketConn(b *Boundary, pc net.PacketConn) net.PacketConn {
	basic := &packetConn{b, pc}
	if u, ok := pc.(*net.UDPConn); ok {
		return newUDPConn(basic, u)
	}
	if raw, ok := pc.(rawConn); ok {
		return &rawPacketConn{basic, raw}
	}
	return basic
}

// rawConn is what quic-go needs of a socket to keep packets from being fragmented, and so for path MTU discovery.
type rawConn interface {
	SyscallConn() (syscall.RawConn, error)
}

// rawPacketConn is the boundary over something that has a socket.
type rawPacketConn struct {
	*packetConn
	rawConn
}

// packetConn is the boundary over any net.PacketConn.
type packetConn struct {
	b     *Boundary
	inner net.PacketConn
}

// ReadFrom reads a datagram and translates it. The records of what the datapath did with it are read first.
func (p *packetConn) ReadFrom(buf []byte) (int, net.Addr, error) {
	n, addr, err := p.inner.ReadFrom(buf)
	if err != nil {
		return n, addr, err
	}
	p.b.drain()
	return p.b.input(buf, n, addrPort(addr)), addr, nil
}

// WriteTo translates a datagram and writes it. One that must not leave counts as written: quic-go finds it lost.
func (p *packetConn) WriteTo(buf []byte, addr net.Addr) (int, error) {
	scratch := bufferPool.Get().(*[]byte)
	defer bufferPool.Put(scratch)
	out, _ := p.b.output(buf, addrPort(addr), *scratch, nil)
	if len(out) == 0 {
		return len(buf), nil
	}
	if _, err := p.inner.WriteTo(out, addr); err != nil {
		return 0, err
	}
	return len(buf), nil
}

func (p *packetConn) Close() error                       { return p.inner.Close() }
func (p *packetConn) LocalAddr() net.Addr                { return p.inner.LocalAddr() }
func (p *packetConn) SetDeadline(t time.Time) error      { return p.inner.SetDeadline(t) }
func (p *packetConn) SetReadDeadline(t time.Time) error  { return p.inner.SetReadDeadline(t) }
func (p *packetConn) SetWriteDeadline(t time.Time) error { return p.inner.SetWriteDeadline(t) }

// SetReadBuffer and SetWriteBuffer pass quic-go's wishes on to a socket that has buffers.
func (p *packetConn) SetReadBuffer(n int) error {
	if s, ok := p.inner.(interface{ SetReadBuffer(int) error }); ok {
		return s.SetReadBuffer(n)
	}
	return nil
}

func (p *packetConn) SetWriteBuffer(n int) error {
	if s, ok := p.inner.(interface{ SetWriteBuffer(int) error }); ok {
		return s.SetWriteBuffer(n)
	}
	return nil
}
