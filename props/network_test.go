package props_test

import (
	mrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// router is a network that loses, repeats and delays packets by a seed.
type router struct {
	simnet.PerfectRouter
	mu              sync.Mutex
	rnd             *mrand.Rand
	loss, dup, late float64
	on              bool
}

func (r *router) SendPacket(p simnet.Packet) error {
	r.mu.Lock()
	a, b, c, on := r.rnd.Float64(), r.rnd.Float64(), r.rnd.Float64(), r.on
	r.mu.Unlock()
	switch {
	case !on:
	case a < r.loss:
		return nil
	case b < r.dup:
		_ = r.PerfectRouter.SendPacket(p)
	case c < r.late:
		time.AfterFunc(3*time.Millisecond, func() { _ = r.PerfectRouter.SendPacket(p) })
		return nil
	}
	return r.PerfectRouter.SendPacket(p)
}

// detachable is a socket with a datapath that can be taken off, as a TC program can.
type detachable struct {
	net.PacketConn // with the datapath
	bare           net.PacketConn
	off            atomic.Bool
}

func (d *detachable) ReadFrom(p []byte) (int, net.Addr, error) {
	if d.off.Load() {
		return d.bare.ReadFrom(p)
	}
	return d.PacketConn.ReadFrom(p)
}

// WriteTo is what userspace sends: it is not the datapath's to fail.
func (d *detachable) WriteTo(p []byte, to net.Addr) (int, error) { return d.bare.WriteTo(p, to) }

// flaky is the socket that the datapath sends by; two of three packets fail.
type flaky struct {
	net.PacketConn
	on    atomic.Bool
	count atomic.Uint64
}

func (f *flaky) WriteTo(p []byte, to net.Addr) (int, error) {
	if f.on.Load() && f.count.Add(1)%3 > 0 {
		return 0, errSend
	}
	return f.PacketConn.WriteTo(p, to)
}
