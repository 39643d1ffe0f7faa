//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/cilium/ebpf"

	"github.com/fastrelay/fastrelay/datapath"
)

// Places in a window of numbers, in 64-bit words, see bpf/types.h.
const (
	windowNext      = 0
	windowWatermark = 1
	windowStreams   = 2
	windowSlots     = 3
	windowWords     = windowSlots + datapath.ReplaySlots
)

// check returns why a call on an ID cannot be served. The lock is held.
func (d *Datapath) check(id, capacity uint32) error {
	switch {
	case d.closed:
		return datapath.ErrClosed
	case id >= capacity:
		return fmt.Errorf("%w of %d", datapath.ErrOutOfRange, capacity)
	}
	return nil
}

func checkCipher(p *datapath.Protection) error {
	if p.Cipher != datapath.CipherNull {
		return fmt.Errorf("%w: the kernel has no %v yet; use the simulator, or no datapath", datapath.ErrCipher, p.Cipher)
	}
	return nil
}

// put writes an entry; a full table is ErrFull.
func put(m *ebpf.Map, key, value any) error {
	err := m.Put(key, value)
	if errors.Is(err, syscall.E2BIG) || errors.Is(err, syscall.ENOMEM) {
		return datapath.ErrFull
	}
	return err
}

// remove deletes an entry; none is no error.
func remove(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// toAddress returns an address as the maps have it: mapped into IPv6, port in network order.
func toAddress(a netip.AddrPort) bpfAddress {
	return bpfAddress{Ip: a.Addr().As16(), Port: bits.ReverseBytes16(a.Port())}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func (d *Datapath) window(id datapath.UpstreamID) []uint64 {
	return d.numbers[int(id)*windowWords:][:windowWords]
}

// raise makes a stream and those below it slow if they have no entry.
func (d *Datapath) raise(id datapath.UpstreamID, stream uint64) {
	p := &d.window(id)[windowWatermark]
	for {
		old := atomic.LoadUint64(p)
		if old > stream || atomic.CompareAndSwapUint64(p, old, stream+1) {
			return
		}
	}
}

// SetUpstream implements datapath.Datapath. Removing waits for an RCU grace period, some milliseconds.
func (d *Datapath) SetUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.setUpstream(id, u); err != nil {
		return fmt.Errorf("set upstream %d: %w", id, err)
	}
	return nil
}

func (d *Datapath) setUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	if err := d.check(uint32(id), d.limits.Upstreams); err != nil {
		return err
	}
	old := d.upstream[id]
	if u == nil {
		if old == nil {
			return nil
		}
		return d.removeUpstream(id, old)
	}
	if err := d.checkUpstream(id, u); err != nil {
		return err
	}
	set := *u
	set.Remote, set.CIDs = unmapped(u.Remote), nil
	for _, cid := range u.CIDs {
		if !contains(set.CIDs, cid) { // twice in the list is once
			set.CIDs = append(set.CIDs, bytes.Clone(cid))
		}
	}
	var gone [][]byte
	if old != nil {
		gone = slices.DeleteFunc(slices.Clone(old.CIDs), func(cid []byte) bool { return contains(set.CIDs, cid) })
		if slices.ContainsFunc(set.CIDs, func(cid []byte) bool { return !contains(old.CIDs, cid) }) {
			// Only new ones need the room that old ones leave.
			if err := d.removeCIDs(gone); err != nil {
				return err
			}
			old.CIDs = slices.DeleteFunc(old.CIDs, func(cid []byte) bool { return contains(gone, cid) })
			gone = nil
		}
	} else {
		w := d.window(id)
		for i := range datapath.ReplaySlots {
			atomic.StoreUint64(&w[windowSlots+i], initialSlot(uint64(i), u.NextNumber))
		}
		atomic.StoreUint64(&w[windowWatermark], 0)
		atomic.StoreUint64(&w[windowStreams], 0) // removeUpstream has counted all out
		atomic.StoreUint64(&w[windowNext], u.NextNumber)
	}
	v := bpfUpstream{Remote: toAddress(set.Remote), Valid: 1, Streams: u.Streams, PriorityCid: flag(u.PriorityCID)}
	if err := put(d.objs.Upstreams, uint32(id), &v); err != nil {
		return err
	}
	for i, cid := range set.CIDs {
		key, last := splitCID(cid)
		if err := put(d.objs.Cids, &key, &bpfCidOwner{Upstream: uint32(id), Last: last}); err != nil {
			added := slices.DeleteFunc(slices.Clone(set.CIDs[:i]), func(cid []byte) bool { return old != nil && contains(old.CIDs, cid) })
			return errors.Join(fmt.Errorf("connection IDs: %w", err), d.removeCIDs(added))
		}
	}
	d.upstream[id] = &set
	return d.removeCIDs(gone)
}

func (d *Datapath) checkUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	if err := checkCipher(&u.Protection); err != nil {
		return err
	}
	switch {
	case !u.Remote.IsValid():
		return errors.New("the publisher's address is not valid")
	case u.Streams != 2 && u.Streams != 3:
		return fmt.Errorf("unidirectional streams have the low bits 2 or 3, not %d", u.Streams)
	}
	fresh := 0
	if err := u.CheckCIDs(); err != nil {
		return err
	}
	for i, cid := range u.CIDs {
		var owner bpfCidOwner
		key, _ := splitCID(cid)
		switch err := d.objs.Cids.Lookup(&key, &owner); {
		case err == nil && owner.Upstream != uint32(id):
			return fmt.Errorf("connection ID belongs to upstream %d", owner.Upstream)
		case errors.Is(err, ebpf.ErrKeyNotExist):
			if !contains(u.CIDs[:i], cid) {
				fresh++
			}
		case err != nil:
			return err
		}
	}
	used := 0
	for other, o := range d.upstream {
		for _, cid := range o.CIDs {
			if other != id || contains(u.CIDs, cid) {
				used++
			}
		}
	}
	if used+fresh > int(d.limits.CIDs) {
		return fmt.Errorf("connection IDs: %w", datapath.ErrFull)
	}
	return nil
}

// splitCID returns a connection ID as it is looked up, and the last byte, which is not.
func splitCID(cid []byte) (key bpfCid, last uint8) {
	copy(key.Bytes[:datapath.CIDLen-1], cid)
	return key, cid[datapath.CIDLen-1]
}

// contains says whether a connection ID is in a list, as it is looked up.
func contains(list [][]byte, cid []byte) bool {
	key, _ := splitCID(cid)
	return slices.ContainsFunc(list, func(v []byte) bool { k, _ := splitCID(v); return k == key })
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// initialSlot returns a replay slot as if all numbers below next had been seen.
func initialSlot(i, next uint64) uint64 {
	if next <= i {
		return 0
	}
	return next - (next-1-i)%datapath.ReplaySlots
}

func (d *Datapath) removeCIDs(list [][]byte) error {
	var errs []error
	for _, cid := range list {
		key, _ := splitCID(cid)
		errs = append(errs, remove(d.objs.Cids, &key))
	}
	return errors.Join(errs...)
}

func (d *Datapath) removeUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	errs := []error{d.removeCIDs(u.CIDs), put(d.objs.Upstreams, uint32(id), &bpfUpstream{})}
	var tracks []datapath.TrackID
	for t, tr := range d.track {
		if tr.Upstream == id {
			tracks = append(tracks, t)
			errs = append(errs, d.unlinkTrack(t, tr))
		}
	}
	quiesce()
	errs = append(errs,
		d.sweepStreams(func(k *bpfStreamKey, _ *bpfStream) bool { return k.Upstream == uint32(id) }),
		d.sweepClientStreams(func(k *bpfClientStreamKey, _ *bpfClientStream) bool { return k.Upstream == uint32(id) }))
	for _, t := range tracks {
		delete(d.track, t)
	}
	delete(d.upstream, id)
	return errors.Join(errs...)
}

// sweep deletes the entries of a hash that match, with remove.
func sweep[K, V any](m *ebpf.Map, match func(*K, *V) bool, remove func(*K) error) error {
	batch := min(1024, m.MaxEntries())
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]K, batch)
		values = make([]V, batch)
		gone   []K
	)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if match(&keys[i], &values[i]) {
				gone = append(gone, keys[i])
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("read %v: %w", m, err)
		}
	}
	var errs []error
	for i := range gone {
		errs = append(errs, remove(&gone[i]))
	}
	return errors.Join(errs...)
}

// Evict implements datapath.Datapath.
func (d *Datapath) Evict(keys []datapath.StreamKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("evict streams: %w", datapath.ErrClosed)
	}
	// A packet that has found neither an entry nor a watermark above its stream makes an entry all the same. So entries go when
	// no such packet is left: one that begins later sees the watermark.
	raised := false
	for _, k := range keys {
		if k.Client == datapath.NoClient && d.upstream[k.Upstream] != nil {
			d.raise(k.Upstream, k.Stream)
			raised = true
		}
	}
	if raised {
		d.ring.fanOuts.await()
	}
	var errs []error
	for _, k := range keys {
		if err := d.evict(k); err != nil {
			errs = append(errs, fmt.Errorf("evict stream %d of upstream %d: %w", k.Stream, k.Upstream, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) evict(k datapath.StreamKey) error {
	if uint32(k.Upstream) >= d.limits.Upstreams {
		return datapath.ErrOutOfRange
	}
	if k.Client == datapath.NoClient {
		return d.removeStream(&bpfStreamKey{Upstream: uint32(k.Upstream), Stream: k.Stream})
	}
	if uint32(k.Client) >= d.limits.Clients {
		return datapath.ErrOutOfRange
	}
	return d.removeClientStream(&bpfClientStreamKey{Upstream: uint32(k.Upstream), Stream: k.Stream,
		Client: uint32(k.Client), Generation: uint32(d.generation(k.Client))})
}
