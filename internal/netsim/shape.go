package netsim

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Shaped is a socket behind paths.
type Shaped struct {
	net.PacketConn
	in, out *line
	running sync.WaitGroup
	dropped atomic.Uint64

	mu sync.Mutex // guards up
	up *Path
}

// maxUDP is the size of the largest UDP payload.
const maxUDP = 1 << 16

// NewShaped puts paths before a socket, which it owns from then on: up for what is written, down for what is read.
func NewShaped(pc net.PacketConn, up, down *Path) *Shaped {
	s := &Shaped{PacketConn: pc, in: newLine(), out: newLine(), up: up}
	s.running.Go(func() {
		defer s.in.close()
		b := make([]byte, maxUDP)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			addr, ok := from.(*net.UDPAddr)
			if !ok {
				continue
			}
			data := slices.Clone(b[:n])
			arrivals, _ := down.Send(n, time.Now())
			s.count(arrivals)
			for _, at := range arrivals {
				s.in.put(at, addr, data)
			}
		}
	})
	s.running.Go(func() {
		for {
			p, err := s.out.take()
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(p.data, p.addr) // a packet that cannot be sent is a lost one
		}
	})
	return s
}

func (s *Shaped) count(arrivals []time.Time) {
	if len(arrivals) == 0 {
		s.dropped.Add(1)
	}
}

// Dropped returns how many packets were lost on the paths.
func (s *Shaped) Dropped() uint64 { return s.dropped.Load() }

// ReadFrom implements net.PacketConn.
func (s *Shaped) ReadFrom(b []byte) (int, net.Addr, error) {
	p, err := s.in.take()
	if err != nil {
		return 0, nil, err
	}
	return copy(b, p.data), p.addr, nil
}

// WriteTo implements net.PacketConn.
func (s *Shaped) WriteTo(p []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return s.PacketConn.WriteTo(p, to)
	}
	s.mu.Lock()
	arrivals, _ := s.up.Send(len(p), time.Now())
	s.mu.Unlock()
	s.count(arrivals)
	data := slices.Clone(p)
	for _, at := range arrivals {
		s.out.put(at, addr, data)
	}
	return len(p), nil
}

// SetDeadline implements net.PacketConn.
func (s *Shaped) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (s *Shaped) SetReadDeadline(t time.Time) error { s.in.setDeadline(t); return nil }

// SetWriteDeadline does nothing: writing does not block.
func (s *Shaped) SetWriteDeadline(time.Time) error { return nil }

// Close closes the socket. What was written is sent at once: a connection's last packet says that it has ended.
func (s *Shaped) Close() error {
	for _, p := range s.out.close() {
		_, _ = s.PacketConn.WriteTo(p.data, p.addr)
	}
	err := s.PacketConn.Close()
	s.running.Wait()
	return err
}
