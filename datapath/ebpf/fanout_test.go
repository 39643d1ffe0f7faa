//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
)

// waits checks that call returns when the fan-out of a word has ended, and not before, also if the next one has begun by then.
func waits(t *testing.T, name string, word *uint64, call func()) {
	t.Helper()
	for _, turns := range []uint64{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			atomic.AddUint64(word, 1)
			var over atomic.Bool
			go func() {
				call()
				over.Store(true)
			}()
			synctest.Wait() // call sleeps, if it waits
			if over.Load() {
				t.Errorf("%s does not wait", name)
			}
			atomic.AddUint64(word, turns)
			time.Sleep(time.Second)
			if !over.Load() {
				t.Errorf("%s waits for a fan-out that began later", name)
			}
			atomic.AddUint64(word, turns-1)
		})
	}
}

// TestAwait: every CPU's word is waited for, and none that is even.
func TestAwait(t *testing.T) {
	f := make(fanOuts, 3*fanOutBytes/8)
	f.await()
	for at := 0; at < len(f); at += fanOutBytes / 8 {
		waits(t, "await", &f[at], f.await)
	}
}

// TestTurns: what may decide who has a stream or a datagram turns its CPU's word twice, whatever becomes of it; nothing else does.
// Drain and Evict wait for a word that is odd.
func TestTurns(t *testing.T) {
	f := newForwarding(t, 2)
	f.settle()
	sum := func() (n uint64) {
		for at := 0; at < len(f.dp.ring.fanOuts); at += fanOutBytes / 8 {
			n += atomic.LoadUint64(&f.dp.ring.fanOuts[at])
		}
		return n
	}
	stream := func(id, offset uint64, data []byte) []byte { return datapathtest.Stream(id, offset, data, false) }
	for _, c := range []struct {
		name   string
		frames []byte
		repeat bool // with the number of the one before
		want   uint64
	}{
		{"more of a stream", stream(2, 20, []byte("more")), false, 0},
		{"start of a stream", stream(6, 0, datapathtest.Subgroup(5, 1, 9, "first")), false, 2},
		{"a duplicate of it", stream(6, 0, datapathtest.Subgroup(5, 1, 9, "first")), true, 2},
		{"start of an unknown track's", stream(10, 0, datapathtest.Subgroup(77, 1, 9, "first")), false, 2},
		{"an unknown stream's middle", stream(14, 5, []byte("more")), false, 0},
		{"datagram", datapathtest.Datagram(datapathtest.ObjectDatagram(5, 1, 9, "datagram")), false, 2},
		{"no media", []byte{1}, false, 0},
	} {
		before := sum()
		if c.repeat {
			f.number--
		}
		f.lab.publisher.send(f.publisher.Frame(f.number, c.frames))
		f.number++
		f.Collect()
		if n := sum() - before; n != c.want {
			t.Errorf("%s: %d turns, want %d", c.name, n, c.want)
		}
	}

	word := &f.dp.ring.fanOuts[0]
	waits(t, "Drain", word, func() { must(t, f.dp.Drain(func(*datapath.Record) {})) })
	waits(t, "Evict", word, func() {
		must(t, f.dp.Evict([]datapath.StreamKey{{Upstream: 1, Client: datapath.NoClient, Stream: 2}}))
	})
}

// BenchmarkDrainIdle is a Drain that finds nothing, by the number of CPUs that there may be.
func BenchmarkDrainIdle(b *testing.B) {
	for _, cpus := range []int{2, 128} {
		b.Run(fmt.Sprintf("cpus=%d", cpus), func(b *testing.B) {
			var producer, consumer uint64
			r := ring{data: make([]byte, 1), producer: &producer, consumer: &consumer, fanOuts: make(fanOuts, cpus*fanOutBytes/8)}
			b.ReportAllocs()
			for b.Loop() {
				r.drain(func(*datapath.Record) {})
			}
		})
	}
}
