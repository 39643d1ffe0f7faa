//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
)

// Header bits of a record in a BPF ring buffer (Linux, kernel/bpf/ringbuf.c).
const (
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringHeader  = 8
)

// ring reads a BPF ring buffer from its pages, without a system call and without being woken.
//
//	consumer page (ours to write) │ producer page │ data │ data once more, so that no record is split
type ring struct {
	mu       sync.Mutex // one drainer at a time
	pages    [][]byte
	consumer *uint64
	producer *uint64
	data     []byte
	fanOuts  fanOuts
	mask     uint64
	clock    *clock
	rec      datapath.Record
	frames   [datapath.MaxForward]datapath.RecordFrame
}

func (r *ring) open(m, fanOuts *ebpf.Map, size int, c *clock) error {
	page := os.Getpagesize()
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the ring's consumer page: %w", err)
	}
	r.pages = append(r.pages, consumer)
	p, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the ring: %w", err)
	}
	r.pages = append(r.pages, p)
	words, err := mapPages(fanOuts, fanOutBytes*int(fanOuts.MaxEntries()))
	if err != nil {
		return err
	}
	r.pages = append(r.pages, words)
	r.fanOuts = unsafe.Slice((*uint64)(unsafe.Pointer(&words[0])), fanOutBytes/8*int(fanOuts.MaxEntries()))
	r.consumer = (*uint64)(unsafe.Pointer(&consumer[0]))
	r.producer = (*uint64)(unsafe.Pointer(&p[0]))
	r.data = p[page:]
	r.mask = uint64(size) - 1
	r.clock = c
	return nil
}

func (r *ring) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, b := range r.pages {
		errs = append(errs, unix.Munmap(b))
	}
	r.pages, r.data, r.fanOuts = nil, nil, nil
	return errors.Join(errs...)
}

// Drain implements datapath.Datapath. f must not call Drain or Close.
func (d *Datapath) Drain(f func(*datapath.Record)) error {
	if !d.ring.drain(f) {
		return fmt.Errorf("drain records: %w", datapath.ErrClosed)
	}
	return nil
}

func (r *ring) drain(f func(*datapath.Record)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return false
	}
	r.fanOuts.await()
	pos, end := atomic.LoadUint64(r.consumer), atomic.LoadUint64(r.producer)
	for pos < end {
		at := pos & r.mask
		header := (*uint32)(unsafe.Pointer(&r.data[at]))
		n := atomic.LoadUint32(header)
		for n&ringBusy != 0 {
			runtime.Gosched() // a program on another CPU is writing it: about a microsecond
			n = atomic.LoadUint32(header)
		}
		size := uint64(n &^ (ringBusy | ringDiscard))
		if n&ringDiscard == 0 && size >= uint64(unsafe.Sizeof(bpfRecord{})) {
			r.decode((*bpfRecord)(unsafe.Pointer(&r.data[at+ringHeader])))
			f(&r.rec)
		}
		pos += (size + ringHeader + 7) &^ 7
		atomic.StoreUint64(r.consumer, pos)
	}
	return true
}

func (r *ring) decode(b *bpfRecord) {
	n := min(int(b.Frames), datapath.MaxForward)
	r.rec = datapath.Record{
		Time:           r.clock.at(b.Time),
		Number:         b.Number,
		UpstreamNumber: b.UpstreamNumber,
		Upstream:       datapath.UpstreamID(b.Upstream),
		Client:         datapath.ClientID(b.Client),
		Generation:     b.Generation,
		Reason:         datapath.Reason(b.Reason),
		Size:           b.Size,
		Policy:         b.Policy,
		Frames:         r.frames[:n],
	}
	for i := range r.rec.Frames {
		f := &b.Frame[i]
		r.frames[i] = datapath.RecordFrame{
			UpstreamStream: f.UpstreamStream,
			ClientStream:   f.ClientStream,
			Offset:         f.Offset,
			Length:         f.Length,
			Group:          f.Group,
			Cut:            f.Cut,
			Plan:           time.Duration(f.Plan - min(f.Plan, b.Time)),
			Track:          datapath.TrackID(f.Track),
			Slot:           f.Slot,
			Priority:       f.Priority,
			Subscriber:     f.Subscriber,
			Fin:            f.Flags&frameFin != 0,
			Opened:         f.Flags&frameOpened != 0,
			Datagram:       f.Flags&frameDatagram != 0,
			Reason:         datapath.Reason(f.Reason),
		}
	}
}

// Flags of a record's frame, as in bpf/types.h.
const (
	frameFin      = 1
	frameOpened   = 2
	frameDatagram = 4
)
