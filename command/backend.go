package command

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/ebpf"
	"github.com/fastrelay/fastrelay/datapath/sim"
)

// The datapaths that can be asked for.
const (
	datapathAuto = "auto"
	datapathEBPF = "ebpf"
	datapathSim  = "sim"
	datapathNone = "none"
)

// backend is a datapath, or none, with the socket that it works on.
type backend struct {
	name       string // one of the above, never auto
	why        string // it was chosen; empty if it was asked for
	interfaces []string
	dp         datapath.Datapath // nil with none
	conn       net.PacketConn
}

// Close closes the datapath; the socket is its user's.
func (b *backend) Close() error {
	if b.dp == nil {
		return nil
	}
	return b.dp.Close()
}

// errNeedsNull is what the kernel backend lacks so far.
var errNeedsNull = errors.New("the datapath ebpf cannot protect packets yet: use it with --cipher=null, in a lab, or use --datapath=sim or none")

// openBackend opens the datapath for a socket. With auto it takes the kernel where that is possible, and otherwise none.
// A nil interfaces means those that have the socket's address.
func openBackend(name, cipher string, pc *net.UDPConn, interfaces []string) (*backend, error) {
	local := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	b := &backend{name: name, conn: pc, interfaces: interfaces}
	if name == datapathAuto {
		b.name = datapathEBPF
		if err := ableEBPF(cipher); err != nil {
			b.name, b.why = datapathNone, err.Error()
		}
	}
	switch b.name {
	case datapathNone:
		b.interfaces = nil
		return b, nil
	case datapathSim:
		s := sim.New(sim.Config{})
		b.dp, b.conn = s, s.Wrap(pc)
		return b, nil
	}
	if cipher != cipherNull {
		return nil, errNeedsNull
	}
	if err := ableEBPF(cipher); err != nil {
		return nil, fmt.Errorf("--datapath=ebpf: %w", err)
	}
	if len(b.interfaces) == 0 {
		var err error
		if b.interfaces, err = interfacesOf(local.Addr()); err != nil {
			return nil, err
		}
	}
	e, err := ebpf.New(ebpf.Config{Interfaces: b.interfaces, Port: local.Port()})
	if err != nil {
		return nil, fmt.Errorf("datapath ebpf: %w", err)
	}
	b.dp = e
	return b, nil
}

// ableEBPF returns why the kernel backend cannot be used, or nil.
func ableEBPF(cipher string) error {
	for _, i := range ebpf.Probe() {
		if !i.OK {
			return fmt.Errorf("%s is missing (%s): %s", i.Name, i.Detail, i.Advice)
		}
	}
	if cipher != cipherNull {
		return errNeedsNull
	}
	return nil
}

// interfacesOf returns the names of the interfaces that have the address, or of all but loopback if it is unspecified.
func interfacesOf(addr netip.Addr) ([]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	addr = addr.Unmap().WithZone("")
	var names []string
	for _, i := range all {
		switch {
		case i.Flags&net.FlagUp == 0:
		case addr.IsUnspecified():
			if i.Flags&net.FlagLoopback == 0 {
				names = append(names, i.Name)
			}
		default:
			addrs, err := i.Addrs()
			if err != nil {
				return nil, fmt.Errorf("addresses of %s: %w", i.Name, err)
			}
			if slices.ContainsFunc(addrs, func(a net.Addr) bool {
				p, err := netip.ParsePrefix(a.String())
				return err == nil && p.Addr().Unmap().WithZone("") == addr
			}) {
				names = append(names, i.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no interface that is up has the address %v: name one with --interface", addr)
	}
	return names, nil
}
