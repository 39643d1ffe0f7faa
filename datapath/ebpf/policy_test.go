//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
)

// BenchmarkPolicy measures what a client's policy of eight bands adds to a forwarded packet: its decision, and what is drawn from the
// plan. Rounds without a policy and with one take turns; told are the medians of the kernel's own statistics, per client and packet.
func BenchmarkPolicy(b *testing.B) {
	const clients, packets = 10, 16
	f := newForwarding(b, clients)
	f.settle()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	must(b, err)
	defer stats.Close()
	policy := datapath.Policy{Rate: 1e11, Burst: 1 << 30}
	for i := range datapath.Bands {
		policy.Bands = append(policy.Bands, datapath.Band{UpTo: uint16(0x1fff | i<<13), Reserve: uint64(i) << 10})
	}
	data := make([]byte, 1200)
	round := func(p *datapath.Policy) float64 {
		for _, s := range f.spaces {
			must(b, s.SetPolicy(p))
		}
		before, err := f.dp.objs.ServerIngress.Stats()
		must(b, err)
		for range packets {
			f.send(data)
		}
		f.Collect()
		records := 0
		must(b, f.dp.Drain(func(r *datapath.Record) {
			if r.Reason == datapath.Forwarded && r.Policy > 0 {
				records++
			}
		}))
		after, err := f.dp.objs.ServerIngress.Stats()
		must(b, err)
		if records != clients*packets {
			b.Fatalf("%d records of %d packets to %d clients", records, packets, clients)
		}
		return float64((after.Runtime - before.Runtime).Nanoseconds()) / (clients * packets)
	}
	var without, with, more []float64
	for b.Loop() {
		x, y := round(&datapath.Policy{}), round(&policy)
		without, with, more = append(without, x), append(with, y), append(more, y-x)
	}
	if f.spaces[0].PlanTime() == 0 {
		b.Error("nothing was drawn from the plan")
	}
	b.ReportMetric(0, "ns/op") // the test's own sending and receiving
	for unit, list := range map[string][]float64{"ns/without": without, "ns/with": with, "ns/decision": more} {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], unit)
	}
}
