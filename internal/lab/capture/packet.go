// Package capture records the packets of a network interface with the kernel's time of each.
//
//	interface ──► packet socket: filter, time stamp ──► ring shared with the kernel ──► packets in memory
//	                                                                               └──► pcap
//
// The time is taken in the kernel when a packet leaves for the device or arrives from it, so it does not depend on when
// this program runs. No cgo and no libpcap are used. It needs Linux and CAP_NET_RAW.
package capture

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrPrivileges says that the process may not capture packets.
var ErrPrivileges = errors.New("capturing packets needs root (CAP_NET_RAW): run it with sudo")

// ErrNotSupported is returned on systems other than Linux.
var ErrNotSupported = errors.New("capturing packets needs Linux")

// Packet is one captured packet.
type Packet struct {
	Time     time.Time // when it left for or arrived from the device, to the nanosecond
	Outgoing bool      // it left through the interface
	Data     []byte    // from the Ethernet header on
	Length   int       // bytes of the whole packet, more than Data has if it was cut off
}

// DefaultRingBytes is enough for two and a half seconds of 20 subscribers at 5 Mbit/s without being read.
const DefaultRingBytes = 32 << 20

// Options say what Start captures.
type Options struct {
	Interface string    // in the network namespace of the calling thread
	Port      uint16    // only UDP packets, IPv4 or IPv6, from or to this port; 0: all UDP packets
	RingBytes int       // bytes shared with the kernel; default DefaultRingBytes
	Pcap      io.Writer // if not nil, the packets are written to it as they come, as pcap with nanoseconds
}

// Recording is what was captured.
type Recording struct {
	Packets []Packet // in order of their times
	Dropped uint64   // packets that the filter let through and the ring had no room for
	Cut     uint64   // packets of which Data is not all
	Late    uint64   // packets whose time was taken on their way to the ring: the first ones, before the kernel has switched over
}

// Err returns an error if the recording is not complete.
func (r *Recording) Err() error {
	if r.Dropped > 0 {
		return fmt.Errorf("capture lost %d of %d packets: give it a larger ring", r.Dropped, r.Dropped+uint64(len(r.Packets)))
	}
	if r.Cut > 0 {
		return fmt.Errorf("capture cut %d of %d packets off", r.Cut, len(r.Packets))
	}
	return nil
}
