//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
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
	for name, attach := range map[string]Attach{"tcx": AttachTCX, "clsact": AttachClsact} {
		t.Run(name, func(t *testing.T) {
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
					c.On(t, &harness{lab: l, dp: dp}, false)
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
}

// foreignPrograms attaches a program that does nothing to ingress and egress of the relay's interfaces.
func foreignPrograms(t *testing.T) map[string]*ebpf.Program {
	t.Helper()
	programs := make(map[string]*ebpf.Program)
	for where, at := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "foreign", Type: ebpf.SchedCLS, License: "MIT",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		})
		must(t, err)
		t.Cleanup(func() { _ = p.Close() })
		for _, name := range []string{"relay0", "relay1"} {
			i, err := netlink.LinkByName(name)
			must(t, err)
			l, err := link.AttachTCX(link.TCXOptions{Interface: i.Attrs().Index, Program: p, Attach: at})
			must(t, err)
			t.Cleanup(func() { _ = l.Close() })
		}
		programs[where] = p
	}
	return programs
}

// TestNothingIsLeft: after Close, and after an error in New, no program is left on the interfaces.
func TestNothingIsLeft(t *testing.T) {
	for name, attach := range map[string]Attach{"tcx": AttachTCX, "clsact": AttachClsact} {
		t.Run(name, func(t *testing.T) {
			newLab(t)
			dp, err := New(Config{Interfaces: []string{"relay0", "relay1"}, Port: testPort, Attach: attach})
			must(t, err)
			if n := attached(t); n == 0 {
				t.Fatal("nothing is attached")
			}
			must(t, dp.Close())
			must(t, dp.Close())
			if _, err := New(Config{Interfaces: []string{"relay0", "no-such-interface"}, Port: testPort, Attach: attach}); err == nil {
				t.Error("an interface that does not exist is no error")
			}
			if n := attached(t); n > 0 {
				t.Errorf("%d programs are left", n)
			}
		})
	}
}

// attached counts the programs on the relay's interfaces, attached either way.
func attached(t *testing.T) (n int) {
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
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			if filters, err := netlink.FilterList(l, parent); err == nil {
				n += len(filters)
			}
		}
	}
	return n
}
