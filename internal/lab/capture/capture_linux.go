package capture

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// Capture is a capture that is going on.
type Capture struct {
	fd, wake int // packet socket; event that ends the reading
	ring     ring
	pcap     *pcapgo.Writer
	err      error // of reading, and of writing the pcap; valid once done is closed
	pcapErr  error
	arena    []byte
	rec      Recording
	done     chan struct{}
	stop     sync.Once
	stopErr  error
}

// Start starts to capture on an interface of the calling thread's network namespace. What passes after it has returned is
// recorded; Stop must be called.
func Start(o Options) (*Capture, error) {
	c := &Capture{fd: -1, wake: -1, done: make(chan struct{})}
	if err := c.open(o); err != nil {
		c.close()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			err = fmt.Errorf("%w: %w", ErrPrivileges, err)
		}
		return nil, fmt.Errorf("capture on %s: %w", o.Interface, err)
	}
	go func() {
		defer close(c.done)
		c.err = c.read()
	}()
	return c, nil
}

func (c *Capture) open(o Options) error {
	if o.Pcap != nil {
		c.pcap = pcapgo.NewWriterNanos(o.Pcap)
		if err := c.pcap.WriteFileHeader(whole, layers.LinkTypeEthernet); err != nil {
			return fmt.Errorf("write pcap: %w", err)
		}
	}
	dev, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return err
	}
	// Without a protocol the socket gets nothing yet, so that nothing passes before the filter is there.
	if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	if c.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	if err := c.attach(o.Port); err != nil {
		return err
	}
	// Without this the kernel takes the time only when it writes a packet to the ring, which for arriving packets is
	// after they have waited for the receiving CPU.
	if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for time stamps: %w", err)
	}
	size := o.RingBytes
	if size == 0 {
		size = DefaultRingBytes
	}
	if err := c.ring.open(c.fd, size); err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL)
	addr := &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: dev.Index}
	if err := unix.Bind(c.fd, addr); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	return nil
}

func (c *Capture) attach(port uint16) error {
	program, err := filter(port)
	if err != nil {
		return err
	}
	raw := make([]unix.SockFilter, len(program))
	for i, in := range program {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return c.setFilter(raw)
}

func (c *Capture) setFilter(raw []unix.SockFilter) error {
	err := unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]})
	if err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// read reads the ring until Stop, and then what is left.
func (c *Capture) read() error {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.wake), Events: unix.POLLIN}}
	timeout := -1
	for {
		for c.ring.block(c.packet) {
		}
		n, err := unix.Poll(fds, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for packets: %w", err)
		case n == 0:
			return nil
		}
		if fds[0].Revents&^unix.POLLIN != 0 {
			// The interface went down or away. Reading the error clears it, and packets may come again.
			if _, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
				return fmt.Errorf("read packet socket: %w", err)
			}
		}
		if len(fds) > 1 && fds[1].Revents != 0 {
			// The kernel hands over a block that is not full only after a time; when nothing came in twice that, there
			// is nothing left.
			fds, timeout = fds[:1], 2*retireMillis
		}
	}
}

// packet keeps one packet of the ring.
func (c *Capture) packet(p *ringPacket) {
	if p.length > len(p.data) {
		c.rec.Cut++
	}
	if p.late {
		c.rec.Late++
	}
	const arenaSize = 1 << 20
	if len(p.data) > cap(c.arena)-len(c.arena) {
		c.arena = make([]byte, 0, max(arenaSize, len(p.data)))
	}
	start := len(c.arena)
	c.arena = append(c.arena, p.data...)
	kept := c.arena[start:len(c.arena):len(c.arena)]
	c.rec.Packets = append(c.rec.Packets, Packet{Time: p.time, Outgoing: p.outgoing, Data: kept, Length: p.length})
	if c.pcap == nil {
		return
	}
	info := gopacket.CaptureInfo{Timestamp: p.time, CaptureLength: len(kept), Length: p.length}
	if err := c.pcap.WritePacket(info, kept); err != nil {
		c.pcapErr = fmt.Errorf("write pcap: %w", err)
		c.pcap = nil
	}
}

// Stop ends the capture and returns what was recorded until it was called. Further calls return the same. An error does
// not keep it from returning what there is.
func (c *Capture) Stop() (*Recording, error) {
	c.stop.Do(func() {
		// From here on nothing is let through, so that there is an end.
		reject := c.setFilter([]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}})
		_, wake := unix.Write(c.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-c.done
		stats, statErr := unix.GetsockoptTpacketStatsV3(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if statErr == nil {
			c.rec.Dropped = uint64(stats.Drops)
		}
		// CPUs write to the ring at the same time, so its order is not quite that of the times.
		slices.SortStableFunc(c.rec.Packets, func(a, b Packet) int { return a.Time.Compare(b.Time) })
		c.stopErr = errors.Join(reject, wake, c.err, c.pcapErr, statErr, c.close())
	})
	return &c.rec, c.stopErr
}

func (c *Capture) close() error {
	err := c.ring.close()
	for _, fd := range []int{c.fd, c.wake} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}
