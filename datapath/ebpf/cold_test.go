//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
)

// BenchmarkForwardCold measures the first packet of a stream, of 1200 bytes to one client, after other work has used the caches:
// between the frames of a video whole milliseconds pass. Medians of the kernel's own statistics; transmission to the client is in it.
func BenchmarkForwardCold(b *testing.B) {
	for _, mib := range []int{0, 96} {
		b.Run(fmt.Sprintf("touched=%dMiB", mib), func(b *testing.B) {
			f := newForwarding(b, 1)
			f.settle()
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			must(b, err)
			defer stats.Close()
			run := func(p *ebpf.Program) time.Duration {
				s, err := p.Stats()
				must(b, err)
				return s.Runtime
			}
			must(b, f.dp.Drain(func(*datapath.Record) {}))
			data := append(datapathtest.Subgroup(5, 1, 9, ""), make([]byte, 1200)...)
			other := make([]byte, mib<<20)
			var server, client []time.Duration
			for n := uint64(1); b.Loop(); n++ {
				f.spaces[0].Reserve(3+4*n, uint8(n%127+1), 1<<20)
				for i := 0; i < len(other); i += 64 {
					other[i]++
				}
				s, c := run(f.dp.objs.ServerIngress), run(f.dp.objs.ClientIngress)
				f.lab.publisher.send(f.publisher.Frame(f.number, datapathtest.Stream(2+4*n, 0, data, false)))
				server = append(server, run(f.dp.objs.ServerIngress)-s)
				client = append(client, run(f.dp.objs.ClientIngress)-c)
				f.number++
				f.Collect()
				forwarded := 0
				must(b, f.dp.Drain(func(r *datapath.Record) {
					if r.Reason == datapath.Forwarded {
						forwarded++
					}
				}))
				if forwarded != 1 {
					b.Fatalf("packet %d was forwarded %d times", n, forwarded)
				}
			}
			median := func(d []time.Duration) float64 {
				slices.Sort(d)
				return float64(d[len(d)/2].Nanoseconds())
			}
			b.ReportMetric(0, "ns/op") // the test's own work
			b.ReportMetric(median(server), "ns/packet")
			b.ReportMetric(median(client), "ns/client_ingress")
		})
	}
}
