//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"runtime"
	"sync/atomic"
	"time"
)

// fanOutBytes is the size of a CPU's entry in `fan_outs`, see bpf/types.h. Its first word is odd while the CPU is at a packet that
// may open a stream, or has a datagram.
const fanOutBytes = 128

// fanOuts are the entries of all CPUs, in mapped memory.
type fanOuts []uint64

// Waiting is reading a word at first: a fan-out takes microseconds. With many clients, or when a hypervisor has stopped the CPU, the
// processor is left to others.
const (
	spins  = 100
	yields = 1000
)

// await returns when those fan-outs have ended that are under way now. It waits for none that begins later.
func (f fanOuts) await() {
	for at := 0; at < len(f); at += fanOutBytes / 8 {
		was := atomic.LoadUint64(&f[at])
		for n := 0; was%2 == 1 && atomic.LoadUint64(&f[at]) == was; n++ {
			switch {
			case n < spins:
			case n < yields:
				runtime.Gosched()
			default:
				time.Sleep(20 * time.Microsecond)
			}
		}
	}
}
