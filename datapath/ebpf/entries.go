//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/fastrelay/fastrelay/datapath"
)

// Entries says what the tables hold: the entries of every hash by its name in bpf/maps.h, the clients, and the stream IDs that
// wait in their pools ("pools"); "streams_counted" and "client_streams_counted" are those of the two hashes by the counts of their
// owners' shares. It walks the hashes, which change meanwhile: it is for tests and diagnosis.
func (d *Datapath) Entries() (map[string]int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("count entries: %w", datapath.ErrClosed)
	}
	n := map[string]int{"clients": len(d.client), "pools": 0, "streams_counted": 0, "client_streams_counted": 0}
	for _, c := range d.client {
		n["pools"] += c.space.PoolLen()
		n["client_streams_counted"] += int(atomic.LoadUint64(c.space.Word(datapath.WordStreams)))
	}
	for id := range d.upstream {
		n["streams_counted"] += int(atomic.LoadUint64(&d.window(id)[windowStreams]))
	}
	for name, m := range map[string]*ebpf.Map{
		"cids": d.objs.Cids, "tracks": d.objs.Tracks, "subs": d.objs.Subs, "addresses": d.objs.Addresses,
		"streams": d.objs.Streams, "client_streams": d.objs.ClientStreams,
	} {
		count, err := countEntries(m)
		if err != nil {
			return nil, fmt.Errorf("count entries of %s: %w", name, err)
		}
		n[name] = count
	}
	return n, nil
}

func countEntries(m *ebpf.Map) (n int, err error) {
	var key, value []byte
	i := m.Iterate()
	for i.Next(&key, &value) {
		n++
	}
	return n, i.Err()
}
