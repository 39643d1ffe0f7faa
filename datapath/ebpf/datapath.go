//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of membarrier(2).
const membarrierGlobal = 1

// maxClients is what the mark of a clone has room for.
const maxClients = 1 << 16

// Datapath is the datapath in the kernel. Its methods may be called from any goroutine.
type Datapath struct {
	limits datapath.Limits
	objs   bpfObjects

	mu       sync.Mutex // of everything below
	closed   bool
	detach   []func() error
	spaces   spaces
	numbers  []uint64 // mapped: per upstream next, watermark, streams, replay slots
	members  []uint32 // mapped: per track n, 0, places
	rests    []uint64 // mapped: what is used of each shared table beyond the parts of its owners
	unmap    []func() error
	upstream map[datapath.UpstreamID]*datapath.Upstream
	track    map[datapath.TrackID]*track
	client   map[datapath.ClientID]*client

	ring ring
}

var _ datapath.Datapath = (*Datapath)(nil)

// New loads the programs and attaches them. An error says what is missing; printed with %+v, one of the verifier
// carries its whole log.
func New(cfg Config) (*Datapath, error) {
	d := &Datapath{
		limits:   cfg.Limits.WithDefaults(),
		upstream: make(map[datapath.UpstreamID]*datapath.Upstream),
		track:    make(map[datapath.TrackID]*track),
		client:   make(map[datapath.ClientID]*client),
	}
	if err := checkConfig(&cfg, &d.limits); err != nil {
		return nil, fmt.Errorf("kernel datapath: %w", err)
	}
	for _, step := range []func(*Config) error{d.load, d.mapMemory, d.attach} {
		if err := step(&cfg); err != nil {
			return nil, errors.Join(fmt.Errorf("kernel datapath: %w", err), d.Close())
		}
	}
	return d, nil
}

func checkConfig(cfg *Config, l *datapath.Limits) error {
	switch {
	case len(cfg.Interfaces) == 0:
		return errors.New("name at least one network interface")
	case cfg.Port == 0:
		return errors.New("the relay's UDP port is not set")
	case l.Clients > maxClients:
		return fmt.Errorf("%d clients are too many, at most %d", l.Clients, maxClients)
	case l.RingBytes < uint32(os.Getpagesize()) || bits.OnesCount32(l.RingBytes) != 1:
		return fmt.Errorf("a ring of %d bytes: it must be a power of two and at least a page, %d bytes", l.RingBytes, os.Getpagesize())
	}
	return nil
}

func (d *Datapath) load(cfg *Config) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the built object: %w", err)
	}
	for name, n := range map[string]uint32{
		"cids": d.limits.CIDs, "upstreams": d.limits.Upstreams, "numbers": d.limits.Upstreams, "tracks": d.limits.Tracks,
		"members": d.limits.Tracks, "subs": d.limits.Subscriptions, "clients": 2 * d.limits.Clients, "links": d.limits.Clients,
		"addresses": d.limits.Clients, "spaces": d.limits.Clients, "streams": d.limits.Streams,
		"client_streams": d.limits.ClientStreams, "records": d.limits.RingBytes,
	} {
		spec.Maps[name].MaxEntries = n
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	spec.Maps["fan_outs"].MaxEntries = uint32(cpus)
	spec.Maps["rests"].MaxEntries = restsWords / restWords
	streams, clientStreams := d.limits.StreamShare(), d.limits.ClientStreamShare()
	for name, v := range map[string]any{
		"PORT": bits.ReverseBytes16(cfg.Port), "STREAM_PART": streams.Part, "STREAM_REST": streams.Rest,
		"CLIENT_STREAM_PART": clientStreams.Part, "CLIENT_STREAM_REST": clientStreams.Rest,
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return err
		}
	}
	if err := spec.LoadAndAssign(&d.objs, nil); err != nil {
		return explainLoad(err)
	}
	return nil
}

// mapMemory maps what is shared with the kernel.
func (d *Datapath) mapMemory(*Config) error {
	var base unsafe.Pointer
	for _, m := range []struct {
		m      *ebpf.Map
		stride uintptr
		set    func(n int)
	}{
		{d.objs.Numbers, unsafe.Sizeof(bpfNumberWindow{}), func(n int) { d.numbers = unsafe.Slice((*uint64)(base), n/8) }},
		{d.objs.Rests, 8 * restWords, func(n int) { d.rests = unsafe.Slice((*uint64)(base), n/8) }},
		{d.objs.Members, unsafe.Sizeof(bpfMemberList{}), func(n int) { d.members = unsafe.Slice((*uint32)(base), n/4) }},
	} {
		n := int(m.stride) * int(m.m.MaxEntries())
		b, err := mapPages(m.m, n)
		if err != nil {
			return err
		}
		d.unmap = append(d.unmap, func() error { return unix.Munmap(b) })
		base = unsafe.Pointer(&b[0])
		m.set(n)
	}
	b, err := mapPages(d.objs.Spaces, 8*datapath.SpaceWords*int(d.limits.Clients))
	if err != nil {
		return err
	}
	c, err := newClock()
	if err != nil {
		return err
	}
	d.spaces.init(b, c)
	return d.ring.open(d.objs.Records, d.objs.FanOuts, int(d.limits.RingBytes), c)
}

func mapPages(m *ebpf.Map, n int) ([]byte, error) {
	page := os.Getpagesize()
	b, err := unix.Mmap(m.FD(), 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %v into memory: %w", m, err)
	}
	return b, nil
}

// Counters implements datapath.Datapath.
func (d *Datapath) Counters() (datapath.Counters, error) {
	var c datapath.Counters
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return c, fmt.Errorf("read counters: %w", datapath.ErrClosed)
	}
	var perCPU []uint64
	for i := range c {
		if err := d.objs.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return c, fmt.Errorf("read counter %v: %w", datapath.Reason(i), err)
		}
		for _, n := range perCPU {
			c[i] += n
		}
	}
	return c, nil
}

// Close implements datapath.Datapath. Spaces may be used afterwards; nothing is forwarded for them.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	for _, f := range d.detach {
		errs = append(errs, f())
	}
	for _, f := range d.unmap {
		errs = append(errs, f())
	}
	d.numbers, d.members, d.rests = nil, nil, nil
	d.spaces.close()
	errs = append(errs, d.ring.close(), d.objs.Close())
	return errors.Join(errs...)
}

// quiesce returns when every program run that began before has ended: what was unlinked is not in use any more. The system call
// waits for an RCU grace period, milliseconds, not for packets. A test that knows that no program runs may replace it.
var quiesce = func() {
	// It fails where the kernel has no membarrier; then the few microseconds that a program runs are what remains of risk.
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
}
