//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
)

// TestNeighbours runs a case of the suite on a relay that shares its interfaces with a relay that was there before, one that
// came after, and a foreign program in each direction. Nobody notices anybody.
func TestNeighbours(t *testing.T) {
	eachAttach(t, func(t *testing.T, attach Attach) {
		l := newLab(t)
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		must(t, err)
		defer stats.Close()
		foreign := foreignPrograms(t)
		relay := func(port uint16) *Datapath {
			dp, err := New(Config{Interfaces: []string{"relay0", "relay1"}, Port: port, Attach: attach})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			t.Cleanup(func() { must(t, dp.Close()) })
			return dp
		}
		before := relay(testPort + 1)
		dp := relay(testPort)
		after := relay(testPort + 2)
		for _, c := range datapathtest.Cases() {
			if c.Name == "clients have numbers, IDs and aliases of their own" {
				c.On(t, &harness{lab: l, dp: dp, attach: attach}, false)
			}
		}
		for _, other := range []*Datapath{before, after} {
			c, err := other.Counters()
			must(t, err)
			if c != (datapath.Counters{}) {
				t.Errorf("another relay counted %v", c.Map())
			}
		}
		for where, p := range foreign {
			s, err := p.Stats()
			must(t, err)
			if s.RunCount == 0 {
				t.Errorf("the foreign program at %s never ran", where)
			}
		}
	})
}

// foreignPrograms attaches programs that do nothing to ingress and egress of the relay's interfaces: as filters, and by TCX
// where the kernel has it.
func foreignPrograms(t *testing.T) map[string]*ebpf.Program {
	t.Helper()
	_, version := kernelVersion()
	programs := make(map[string]*ebpf.Program)
	program := func(where string) *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "foreign", Type: ebpf.SchedCLS, License: "MIT",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		})
		must(t, err)
		t.Cleanup(func() { _ = p.Close() })
		programs[where] = p
		return p
	}
	for _, d := range []struct {
		name   string
		parent uint32
		at     ebpf.AttachType
	}{
		{"ingress", netlink.HANDLE_MIN_INGRESS, ebpf.AttachTCXIngress},
		{"egress", netlink.HANDLE_MIN_EGRESS, ebpf.AttachTCXEgress},
	} {
		filter := program(d.name + " filter")
		var tcx *ebpf.Program
		if version >= kernelTCX {
			tcx = program(d.name + " by TCX")
		}
		for _, name := range []string{"relay0", "relay1"} {
			i, err := netlink.LinkByName(name)
			must(t, err)
			err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: i.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
			if !errors.Is(err, syscall.EEXIST) {
				must(t, err)
			}
			must(t, netlink.FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: i.Attrs().Index, Parent: d.parent, Protocol: unix.ETH_P_ALL},
				Fd:          filter.FD(), Name: "foreign", DirectAction: true,
			}))
			if tcx != nil {
				l, err := link.AttachTCX(link.TCXOptions{Interface: i.Attrs().Index, Program: tcx, Attach: d.at})
				must(t, err)
				t.Cleanup(func() { _ = l.Close() })
			}
		}
	}
	return programs
}

// TestNothingIsLeft: after Close, and after an error in New, no program is left on the interfaces.
func TestNothingIsLeft(t *testing.T) {
	eachAttach(t, func(t *testing.T, attach Attach) {
		newLab(t)
		dp, err := New(Config{Interfaces: []string{"relay0", "relay1"}, Port: testPort, Attach: attach})
		must(t, err)
		if n := programsLeft(t); n == 0 {
			t.Fatal("nothing is attached")
		}
		must(t, dp.Close())
		must(t, dp.Close())
		if _, err := New(Config{Interfaces: []string{"relay0", "no-such-interface"}, Port: testPort, Attach: attach}); err == nil {
			t.Error("an interface that does not exist is no error")
		}
		if n := programsLeft(t); n > 0 {
			t.Errorf("%d programs are left", n)
		}
	})
}

// TestNoTCX: a kernel that has no TCX says so, and gets filters unless TCX was asked for. Newer kernels attach by TCX.
func TestNoTCX(t *testing.T) {
	needKernel(t)
	newLab(t)
	cfg := Config{Interfaces: []string{"relay0", "relay1"}, Port: testPort, Attach: AttachTCX}
	_, version := kernelVersion()
	dp, err := New(cfg)
	switch {
	case version >= kernelTCX:
		must(t, err)
		must(t, dp.Close())
	case !errors.Is(err, ErrUnsupported) || !errors.Is(err, ebpf.ErrNotSupported):
		t.Errorf("TCX on a kernel without it: %v", err)
	}
	cfg.Attach = AttachAuto
	dp, err = New(cfg)
	must(t, err)
	n := 0
	for _, name := range cfg.Interfaces {
		n += len(filters(t, name))
	}
	if want := map[bool]int{true: 0, false: 6}[version >= kernelTCX]; n != want {
		t.Errorf("%d filters, want %d", n, want)
	}
	must(t, dp.Close())
}

// TestOrder: a packet of a publisher passes server_ingress first, so that its media leave before anything else is done with it.
func TestOrder(t *testing.T) {
	eachAttach(t, func(t *testing.T, attach Attach) {
		newLab(t)
		dp := attached(t, datapath.Limits{}, attach)
		var ids []ebpf.ProgramID
		for _, p := range []*ebpf.Program{dp.objs.ServerIngress, dp.objs.ClientIngress} {
			info, err := p.Info()
			must(t, err)
			id, _ := info.ID()
			ids = append(ids, id)
		}
		for _, name := range []string{"relay0", "relay1"} {
			if got := ingressPrograms(t, name, attach); !slices.Equal(got, ids) {
				t.Errorf("%s: packets pass the programs %d, want %d", name, got, ids)
			}
		}
	})
}

// ingressPrograms returns the IDs of the programs that packets from an interface pass, in that order.
func ingressPrograms(t *testing.T, name string, attach Attach) (ids []ebpf.ProgramID) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	if attach == AttachTCX {
		r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: ebpf.AttachTCXIngress})
		must(t, err)
		for _, p := range r.Programs {
			ids = append(ids, p.ID)
		}
		return ids
	}
	list, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	must(t, err)
	slices.SortFunc(list, func(a, b netlink.Filter) int { return int(a.Attrs().Priority) - int(b.Attrs().Priority) })
	for _, f := range list {
		ids = append(ids, ebpf.ProgramID(f.(*netlink.BpfFilter).Id))
	}
	return ids
}

// programsLeft counts the programs on the relay's interfaces, attached either way.
func programsLeft(t *testing.T) (n int) {
	t.Helper()
	for _, name := range []string{"relay0", "relay1"} {
		l, err := netlink.LinkByName(name)
		must(t, err)
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
			if err == nil { // older kernels have no TCX to ask
				n += len(r.Programs)
			}
		}
		n += len(filters(t, name))
	}
	return n
}

// filters lists the filters of an interface in both directions.
func filters(t *testing.T, name string) (all []netlink.Filter) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if list, err := netlink.FilterList(l, parent); err == nil { // there may be no qdisc
			all = append(all, list...)
		}
	}
	return all
}
