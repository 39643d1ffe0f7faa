//go:build amd64 || arm64

package quicadapt

import (
	"encoding/binary"
	"errors"
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// oobConn is the boundary over a UDP socket. It offers what quic-go needs for segmentation offload, ECN and batched
// reads: hiding these costs more than the boundary itself.
type oobConn struct {
	*packetConn
	udp   *net.UDPConn
	batch *ipv4.PacketConn // for IPv6 too: the message is the same
}

func newUDPConn(p *packetConn, u *net.UDPConn) net.PacketConn {
	return &oobConn{p, u, ipv4.NewPacketConn(u)}
}

func (o *oobConn) SyscallConn() (syscall.RawConn, error) { return o.udp.SyscallConn() }
func (o *oobConn) SetReadBuffer(n int) error             { return o.udp.SetReadBuffer(n) }
func (o *oobConn) SetWriteBuffer(n int) error            { return o.udp.SetWriteBuffer(n) }

// ReadMsgUDP is not called: quic-go reads with ReadBatch where it is offered.
func (o *oobConn) ReadMsgUDP(_, _ []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	return 0, 0, 0, nil, errors.ErrUnsupported
}

// ReadBatch reads datagrams and translates them.
func (o *oobConn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := o.batch.ReadBatch(ms, flags)
	if n > 0 {
		o.b.drain()
	}
	for i := range n {
		m := &ms[i]
		m.N = o.b.input(m.Buffers[0], m.N, addrPort(m.Addr))
	}
	return n, err
}

// WriteMsgUDP translates a batch of segments and writes it. Translation may change a segment's length; a batch ends where
// one differs from those before it.
func (o *oobConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (int, int, error) {
	to := addrPort(addr)
	seg, at := segmentSize(oob)
	step := len(b)
	if seg > 0 && seg < step {
		step = seg
	}
	scratch := bufferPool.Get().(*[]byte)
	defer bufferPool.Put(scratch)
	control := oob
	if at >= 0 {
		control = append(make([]byte, 0, 128), oob...)
	}
	var c *conn
	out := (*scratch)[:0]
	size, short := 0, false
	var result error
	flush := func() {
		if len(out) == 0 {
			return
		}
		if at >= 0 {
			binary.NativeEndian.PutUint16(control[at:], uint16(size))
		}
		if _, _, err := o.udp.WriteMsgUDP(out, control, addr); err != nil {
			result = err
		}
		out, size, short = (*scratch)[:0], 0, false
	}
	var segment [2048]byte
	for p := 0; p < len(b); p += step {
		var r []byte
		r, c = o.b.output(b[p:min(p+step, len(b))], to, segment[:], c)
		if len(r) == 0 {
			continue
		}
		if size > 0 && (short || len(r) > size) {
			flush()
		}
		if size == 0 {
			size = len(r)
		}
		short = len(r) < size
		out = append(out, r...)
	}
	flush()
	if result != nil {
		return 0, 0, result
	}
	return len(b), len(oob), nil
}

// segmentSize returns the UDP_SEGMENT size in control messages and where it stands; 0, -1 if there is none.
func segmentSize(oob []byte) (size, at int) {
	for p := 0; p+unix.SizeofCmsghdr <= len(oob); {
		l := int(binary.NativeEndian.Uint64(oob[p:]))
		level := int32(binary.NativeEndian.Uint32(oob[p+8:]))
		typ := int32(binary.NativeEndian.Uint32(oob[p+12:]))
		if level == unix.IPPROTO_UDP && typ == unix.UDP_SEGMENT && p+unix.SizeofCmsghdr+2 <= len(oob) {
			return int(binary.NativeEndian.Uint16(oob[p+unix.SizeofCmsghdr:])), p + unix.SizeofCmsghdr
		}
		if l < unix.SizeofCmsghdr {
			break
		}
		p += (l + 7) &^ 7
	}
	return 0, -1
}
