package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// Loss makes a link lose packets.
type Loss struct {
	dropped *ebpf.Map
	program *ebpf.Program
	links   []link.Link
	once    sync.Once
	err     error
}

// Lose makes a link lose UDP packets at random, in each direction the share that is given; the kernel draws. They are lost at the
// far end, as on a cable: what is attached to the near end, and a capture there, sees them leave, and nothing sees them arrive,
// since XDP runs before captures and TC.
func (l *Link) Lose(share float64) (_ *Loss, err error) {
	if err := checkLoss(share); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lose packets: %w", privileges(err))
	}
	s := &Loss{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lose packets: %w", privileges(err)), s.Close())
		}
	}()
	s.dropped, err = ebpf.NewMap(&ebpf.MapSpec{Name: "lost", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	s.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lose", Type: ebpf.XDP, License: "Dual MIT/GPL", Instructions: lose(share, s.dropped.FD()),
	})
	if err != nil {
		return nil, err
	}
	for _, e := range []*End{&l.Peer, &l.Relay} {
		err := e.Namespace.Do(func() error {
			i, err := net.InterfaceByName(e.Interface)
			if err != nil {
				return err
			}
			// The generic mode would let packets pass that a TC program has redirected: those of the fast path.
			x, err := link.AttachXDP(link.XDPOptions{Program: s.program, Interface: i.Index, Flags: link.XDPDriverMode})
			if err == nil {
				s.links = append(s.links, x)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", e.Interface, err)
		}
	}
	return s, nil
}

// Dropped returns how many packets were lost so far, in both directions.
func (s *Loss) Dropped() (n uint64, err error) {
	if err := s.dropped.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("read the count of lost packets: %w", err)
	}
	return n, nil
}

// Close lets all packets pass again. It is idempotent.
func (s *Loss) Close() error {
	s.once.Do(func() {
		var errs []error
		for _, x := range s.links {
			errs = append(errs, x.Close())
		}
		// Both are nil after a failure, which is fine.
		s.err = errors.Join(append(errs, s.program.Close(), s.dropped.Close())...)
	})
	return s.err
}

// Return codes of XDP programs.
const (
	xdpDrop = 1
	xdpPass = 2
)

// lose is a program that drops a share of the UDP packets. ARP and neighbour discovery pass: without them nothing would move for a second.
func lose(share float64, dropped int) asm.Instructions {
	const ethertype, ip4Protocol, ip6Next, shortest, udp = 12, 23, 20, 42, 17
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, shortest),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, ethertype, asm.Half),
		asm.LoadMem(asm.R0, asm.R2, ip4Protocol, asm.Byte),
		asm.JEq.Imm(asm.R5, networkOrder(0x0800), "protocol"),
		asm.LoadMem(asm.R0, asm.R2, ip6Next, asm.Byte),
		asm.JEq.Imm(asm.R5, networkOrder(0x86dd), "protocol"),
		asm.Ja.Label("pass"),
		asm.JNE.Imm(asm.R0, udp, "pass").WithSymbol("protocol"),
		asm.FnGetPrandomU32.Call(),
		asm.RSh.Imm(asm.R0, 1), // so that the immediate below is not negative
		asm.JGE.Imm(asm.R0, int32(share*(1<<31)), "pass"),
		asm.StoreImm(asm.R10, -4, 0, asm.Word), // key
		asm.LoadMapPtr(asm.R1, dropped),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, xdpDrop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
		asm.Return(),
	}
}

// networkOrder returns what a load of two bytes in network order yields.
func networkOrder(v uint16) int32 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return int32(binary.NativeEndian.Uint16(b[:]))
}
