//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"

	"github.com/fastrelay/fastrelay/datapath"
)

// loaded keeps, by their limits, datapaths that no test uses now. To load one is most of the time of a case: half a second
// of the verifier's work, and ten times that on an emulated machine.
var loaded = make(map[datapath.Limits]*Datapath)

// attached returns a datapath with empty tables that is attached to the lab's interfaces until the test ends.
func attached(t testing.TB, limits datapath.Limits, attach Attach) *Datapath {
	t.Helper()
	cfg := Config{Interfaces: []string{"relay0", "relay1"}, Port: testPort, Limits: limits, Attach: attach}
	d := loaded[limits]
	delete(loaded, limits)
	if d == nil {
		var err error
		if d, err = New(cfg); err != nil {
			t.Fatalf("%+v", err)
		}
	} else if err := d.attach(&cfg); err != nil {
		t.Fatal(errors.Join(err, d.Close()))
	}
	t.Cleanup(func() {
		if t.Failed() || d.closed { // what a test that failed leaves behind is not another's to suffer from
			must(t, d.Close())
			return
		}
		for _, f := range d.detach {
			must(t, f())
		}
		d.detach = nil
		quiesce()
		empty(t, d)
		loaded[limits] = d
	})
	return d
}

// empty makes the tables what they are after loading. The programs' scratch memory keeps what the last packet left in it.
func empty(t testing.TB, d *Datapath) {
	t.Helper()
	maps := reflect.ValueOf(d.objs.bpfMaps)
	for i := range maps.NumField() {
		m, ok := maps.Field(i).Interface().(*ebpf.Map)
		if !ok {
			continue
		}
		switch m.Type() {
		case ebpf.Hash:
			for {
				key, err := m.NextKeyBytes(nil)
				must(t, err)
				if key == nil {
					break
				}
				must(t, m.Delete(key))
			}
		case ebpf.Array:
			if m.Flags()&uint32(features.BPF_F_MMAPABLE) == 0 {
				keys := make([]uint32, m.MaxEntries())
				for k := range keys {
					keys[k] = uint32(k)
				}
				zero := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
				_, err := m.BatchUpdate(keys, reflect.MakeSlice(reflect.SliceOf(zero), len(keys), len(keys)).Interface(), nil)
				must(t, err)
			}
		}
	}
	for i := range uint32(datapath.ReasonCount) {
		must(t, d.objs.Counters.Put(i, make([]uint64, ebpf.MustPossibleCPU())))
	}
	must(t, d.objs.TestClock.Set(uint64(0)))
	d.spaces.clock.test.Store(0)
	clear(d.numbers)
	clear(d.members)
	clear(d.rests)
	clear(d.spaces.words)
	must(t, d.Drain(func(*datapath.Record) {}))
	clear(d.upstream)
	clear(d.track)
	clear(d.client)
}
