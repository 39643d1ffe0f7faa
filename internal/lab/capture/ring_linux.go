package capture

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	blockBytes   = 1 << 20 // the kernel fills a block before it hands it over
	frameBytes   = 2048    // unused by version 3 but for the check that it divides the block
	retireMillis = 50      // or after this time, when there is a packet in it
)

// ring is the memory shared with the kernel (TPACKET_V3): blocks that each of both owns in turn, by the block's status.
//
//	block: TpacketBlockDesc | packet | packet | …      packet: Tpacket3Hdr | SockaddrLinklayer | Ethernet frame
type ring struct {
	mem  []byte
	next int // the block that is handed over next
}

// open gives the socket a ring of about size bytes.
func (r *ring) open(fd, size int) error {
	blocks := max((size+blockBytes-1)/blockBytes, 2)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("ask for a ring of packets: %w", err)
	}
	req := &unix.TpacketReq3{
		Block_size: blockBytes, Block_nr: uint32(blocks),
		Frame_size: frameBytes, Frame_nr: uint32(blocks * (blockBytes / frameBytes)),
		Retire_blk_tov: retireMillis,
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, req); err != nil {
		return fmt.Errorf("make a ring of %d bytes for packets: %w", blocks*blockBytes, err)
	}
	var err error
	r.mem, err = unix.Mmap(fd, 0, blocks*blockBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return errors.Join(errors.New("map the ring of packets"), err)
	}
	return nil
}

func (r *ring) close() error {
	if r.mem == nil {
		return nil
	}
	mem := r.mem
	r.mem = nil
	return unix.Munmap(mem)
}

// ringPacket is a packet in the ring.
type ringPacket struct {
	time     time.Time
	late     bool // the time is not that of the device
	outgoing bool
	data     []byte // valid until the block is given back
	length   int    // of the whole packet
}

// block calls f for the packets of the next block, if the kernel has handed it over, and gives it back.
func (r *ring) block(f func(*ringPacket)) bool {
	start := r.next * blockBytes
	b := r.mem[start : start+blockBytes : start+blockBytes]
	desc := (*unix.TpacketBlockDesc)(unsafe.Pointer(&b[0]))
	header := (*unix.TpacketHdrV1)(unsafe.Pointer(&desc.Hdr[0]))
	if atomic.LoadUint32(&header.Block_status)&unix.TP_STATUS_USER == 0 {
		return false
	}
	at := int(header.Offset_to_first_pkt)
	for range header.Num_pkts {
		p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&b[at]))
		link := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&b[at+align(unix.SizeofTpacket3Hdr)]))
		f(&ringPacket{
			time:     time.Unix(int64(p.Sec), int64(p.Nsec)),
			late:     p.Status&unix.TP_STATUS_TS_SOFTWARE == 0,
			outgoing: link.Pkttype == unix.PACKET_OUTGOING,
			data:     b[at+int(p.Mac):][:p.Snaplen],
			length:   int(p.Len),
		})
		at += int(p.Next_offset)
	}
	atomic.StoreUint32(&header.Block_status, unix.TP_STATUS_KERNEL)
	r.next = (r.next + 1) % (len(r.mem) / blockBytes)
	return true
}

// align rounds up as the kernel does for the parts of a packet.
func align(n int) int { return (n + unix.TPACKET_ALIGNMENT - 1) &^ (unix.TPACKET_ALIGNMENT - 1) }
