package netlab_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
)

// TestSegments sends super-packets and looks at what arrives at the other end's interface: whole packets with right
// checksums, as over a cable.
func TestSegments(t *testing.T) {
	for name, ipv6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			lab := netlabtest.New(t, netlab.Options{IPv6: ipv6})
			for _, ends := range [][2]netlab.End{
				{lab.Upstream.Peer, lab.Upstream.Relay}, {lab.Upstream.Relay, lab.Upstream.Peer},
				{lab.Downstream.Peer, lab.Downstream.Relay}, {lab.Downstream.Relay, lab.Downstream.Peer},
			} {
				testSegments(t, ends[0], ends[1])
			}
		})
	}
}

func testSegments(t *testing.T, src, dst netlab.End) {
	from, to := listen(t, src), listen(t, dst)
	var leaving, arriving *capture.Capture
	for _, c := range []struct {
		end netlab.End
		c   **capture.Capture
	}{{src, &leaving}, {dst, &arriving}} {
		err := c.end.Namespace.Do(func() (err error) {
			*c.c, err = capture.Start(capture.Options{Interface: c.end.Interface, Port: addr(from).Port()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const size, segments = 1200, 10
	want := segments + 1
	if err := sendSegments(from, addr(to), size, make([]byte, segments*size)); errors.Is(err, unix.EIO) {
		t.Log("this kernel, older than 6.11, has no segmentation without checksum offload")
		want = 1
	} else if err != nil {
		t.Fatal(err)
	}
	if _, err := from.WriteToUDPAddrPort(make([]byte, size), addr(to)); err != nil {
		t.Fatal(err)
	}
	for side, c := range map[string]*capture.Capture{"leave": leaving, "arrive": arriving} {
		rec, err := c.Stop()
		if err = errors.Join(err, rec.Err()); err != nil {
			t.Fatal(err)
		}
		if len(rec.Packets) != want {
			t.Errorf("%s → %s: %d packets %s, want %d", src.Addr(), dst.Addr(), len(rec.Packets), side, want)
		}
		for _, p := range rec.Packets {
			if got := udpLen(p.Data); got != 8+size {
				t.Errorf("%s → %s: UDP length %d, want %d", src.Addr(), dst.Addr(), got, 8+size)
			}
			if !checksumFits(p.Data) {
				t.Errorf("%s → %s: wrong checksum", src.Addr(), dst.Addr())
			}
		}
	}
}

// TestBatches checks which ends receive in batches: veth counts there as its own what it hands on in them.
func TestBatches(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	const packets = 10
	for _, c := range []struct {
		src, dst netlab.End
		want     uint64
	}{
		{lab.Upstream.Peer, lab.Upstream.Relay, packets}, {lab.Downstream.Peer, lab.Downstream.Relay, packets},
		{lab.Upstream.Relay, lab.Upstream.Peer, 0}, {lab.Downstream.Relay, lab.Downstream.Peer, 0},
	} {
		from, to := listen(t, c.src), listen(t, c.dst)
		stat := func() (n uint64) {
			err := c.dst.Namespace.Do(func() (err error) {
				n, err = netlab.Stat(c.dst.Interface, "rx_queue_0_xdp_packets")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		buf := make([]byte, 10)
		exchange := func() {
			if _, err := from.WriteToUDPAddrPort([]byte("hello"), addr(to)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := to.ReadFromUDPAddrPort(buf); err != nil {
				t.Fatal(err)
			}
		}
		exchange() // with the neighbour discovery
		before := stat()
		for range packets {
			exchange()
		}
		if got := stat() - before; got < c.want || c.want == 0 && got != 0 {
			t.Errorf("%s → %s: %d of %d packets in batches, want %d", c.src.Addr(), c.dst.Addr(), got, packets, c.want)
		}
	}
}

// sendSegments sends b in packets of size bytes with one system call.
func sendSegments(c *net.UDPConn, to netip.AddrPort, size uint16, b []byte) error {
	oob := make([]byte, unix.CmsgSpace(2))
	h := unix.CmsgLen(2)
	binary.NativeEndian.PutUint64(oob, uint64(h))
	binary.NativeEndian.PutUint32(oob[8:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(oob[12:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(oob[16:], size)
	_, _, err := c.WriteMsgUDPAddrPort(b, oob, to)
	return err
}

const etherLen = 14

// transport returns where the UDP header of an Ethernet frame starts, and the addresses of its pseudo-header.
func transport(f []byte) (at int, addresses []byte) {
	if binary.BigEndian.Uint16(f[12:]) == 0x86dd {
		return etherLen + 40, f[etherLen+8 : etherLen+40]
	}
	return etherLen + int(f[etherLen]&15)*4, f[etherLen+12 : etherLen+20]
}

func udpLen(f []byte) int {
	at, _ := transport(f)
	return int(binary.BigEndian.Uint16(f[at+4:]))
}

// checksumFits tells whether the UDP checksum is there and right (RFC 768).
func checksumFits(f []byte) bool {
	at, addresses := transport(f)
	segment := f[at : at+udpLen(f)]
	if segment[6] == 0 && segment[7] == 0 {
		return false
	}
	sum := uint32(unix.IPPROTO_UDP) + uint32(len(segment))
	for _, b := range [][]byte{addresses, segment} {
		for i, c := range b {
			sum += uint32(c) << (8 * uint(1-i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}
