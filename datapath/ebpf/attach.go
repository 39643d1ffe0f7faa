//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hook is a program and where it goes.
type hook struct {
	name    string
	program *ebpf.Program
	egress  bool
}

func (d *Datapath) hooks() []hook {
	return []hook{
		// Egress before the others: a clone must be there when it goes anywhere. Packets pass server_ingress before client_ingress.
		{"client_egress", d.objs.ClientEgress, true},
		{"client_ingress", d.objs.ClientIngress, false},
		{"server_ingress", d.objs.ServerIngress, false},
	}
}

func (d *Datapath) attach(cfg *Config) error {
	for _, name := range cfg.Interfaces {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("interface %q: %w", name, err)
		}
		for _, h := range d.hooks() {
			if err := d.attachOne(cfg, i.Index, h); err != nil {
				return fmt.Errorf("attach %s to interface %s: %w", h.name, name, explain(err))
			}
		}
	}
	return nil
}

func (d *Datapath) attachOne(cfg *Config, ifindex int, h hook) error {
	if cfg.Attach == AttachClsact {
		return d.attachFilter(cfg.Port, ifindex, h)
	}
	opts := link.TCXOptions{Interface: ifindex, Program: h.program, Attach: ebpf.AttachTCXIngress}
	switch h.program {
	case d.objs.ServerIngress:
		// Media leave before anything is learned from their packet, as with filters, of which the last one added runs first.
		opts.Anchor = link.BeforeProgram(d.objs.ClientIngress)
	case d.objs.ClientEgress:
		// At the head: a program that ends the chain before ours would let a clone leave as it is.
		opts.Attach, opts.Anchor = ebpf.AttachTCXEgress, link.Head()
	}
	l, err := link.AttachTCX(opts)
	if cfg.Attach == AttachAuto && errors.Is(err, ebpf.ErrNotSupported) {
		return d.attachFilter(cfg.Port, ifindex, h)
	}
	if err != nil {
		return err
	}
	d.detach = append(d.detach, l.Close)
	return nil
}

// filterPrefix starts the name of a filter, which goes on with program, port and process ID: what tells a stale one.
const filterPrefix = "fastrelay:"

func filterName(program string, port uint16) string {
	return filterPrefix + program + ":" + strconv.Itoa(int(port)) + ":" + strconv.Itoa(os.Getpid())
}

// attachFilter attaches to a clsact qdisc, which it adds if there is none. The qdisc stays: others may have come to use it.
func (d *Datapath) attachFilter(port uint16, ifindex int, h hook) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	err := netlink.QdiscAdd(qdisc)
	added := err == nil
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("add clsact qdisc: %w", err)
	}
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if h.egress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	if err := removeStale(ifindex, parent, h.name, port); err != nil {
		return err
	}
	handle, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: ifindex, Parent: parent, Protocol: unix.ETH_P_ALL},
		Fd:          h.program.FD(), Name: filterName(h.name, port), DirectAction: true,
	}
	if err := netlink.FilterAdd(f); err != nil {
		return fmt.Errorf("add filter: %w", err)
	}
	d.detach = append(d.detach, func() error {
		err := removeFilters(handle, parent, func(name string) bool { return name == f.Name })
		if added && err == nil {
			err = removeEmpty(handle, qdisc)
		}
		return err
	})
	return nil
}

// removeStale removes filters of the same program and port whose process is gone.
func removeStale(ifindex int, parent uint32, program string, port uint16) error {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	prefix := filterPrefix + program + ":" + strconv.Itoa(int(port)) + ":"
	return removeFilters(l, parent, func(name string) bool {
		pid, ok := strings.CutPrefix(name, prefix)
		n, err := strconv.Atoi(pid)
		return ok && err == nil && n > 0 && errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
	})
}

func removeFilters(l netlink.Link, parent uint32, match func(name string) bool) error {
	filters, err := netlink.FilterList(l, parent)
	if err != nil {
		if errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EINVAL) {
			return nil // the interface or the qdisc is gone, and the filter with it
		}
		return fmt.Errorf("list filters: %w", err)
	}
	var errs []error
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && match(b.Name) {
			if err := netlink.FilterDel(f); err != nil && !errors.Is(err, syscall.ENOENT) {
				errs = append(errs, fmt.Errorf("remove filter %s: %w", b.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeEmpty removes a clsact qdisc that has no filters.
func removeEmpty(l netlink.Link, qdisc netlink.Qdisc) error {
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(l, parent)
		if err != nil || len(filters) > 0 {
			return nil // somebody's, or gone with the interface
		}
	}
	if err := netlink.QdiscDel(qdisc); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EINVAL) &&
		!errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove clsact qdisc: %w", err)
	}
	return nil
}
