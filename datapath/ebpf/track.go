//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
)

// track is what userspace keeps of a track: the members that the kernel sees are in Datapath.members.
type track struct {
	datapath.Track
	places map[datapath.ClientID]int
}

// Places in a list of members, in 32-bit words, see bpf/types.h.
const (
	listCount  = 0
	listPlaces = 2
	listWords  = listPlaces + datapath.MembersPerTrack
)

func (d *Datapath) list(id datapath.TrackID) []uint32 {
	return d.members[int(id)*listWords:][:listWords]
}

// SetTrack implements datapath.Datapath. Removing waits for an RCU grace period, some milliseconds.
func (d *Datapath) SetTrack(id datapath.TrackID, t *datapath.Track) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.setTrack(id, t); err != nil {
		return fmt.Errorf("set track %d: %w", id, err)
	}
	return nil
}

func (d *Datapath) setTrack(id datapath.TrackID, t *datapath.Track) error {
	if err := d.check(uint32(id), d.limits.Tracks); err != nil {
		return err
	}
	old := d.track[id]
	if t == nil {
		return d.removeTrack(id, old)
	}
	if t.Draft != 14 && t.Draft != 16 {
		return fmt.Errorf("draft %d is neither 14 nor 16", t.Draft)
	}
	if d.upstream[t.Upstream] == nil {
		return fmt.Errorf("upstream %d: %w", t.Upstream, datapath.ErrUnknown)
	}
	for other, o := range d.track {
		if other != id && o.Upstream == t.Upstream && o.Alias == t.Alias {
			return fmt.Errorf("alias %d of upstream %d belongs to track %d", t.Alias, t.Upstream, other)
		}
	}
	if old != nil && old.Upstream != t.Upstream {
		if err := d.removeTrack(id, old); err != nil {
			return err
		}
		old = nil
	}
	if old != nil && old.Alias != t.Alias {
		if err := remove(d.objs.Tracks, trackKey(&old.Track)); err != nil {
			return err
		}
	}
	v := bpfTrack{Track: uint32(id), Draft: t.Draft, Priority: t.DefaultPriority}
	if err := put(d.objs.Tracks, trackKey(t), &v); err != nil {
		return err
	}
	if old == nil {
		old = &track{places: make(map[datapath.ClientID]int)}
		d.track[id] = old
	}
	old.Track = *t
	return nil
}

func trackKey(t *datapath.Track) *bpfTrackKey {
	return &bpfTrackKey{Alias: t.Alias, Upstream: uint32(t.Upstream)}
}

// unlinkTrack takes a track from where the kernel finds it.
func (d *Datapath) unlinkTrack(id datapath.TrackID, t *track) error {
	errs := []error{remove(d.objs.Tracks, trackKey(&t.Track))}
	for c := range t.places {
		errs = append(errs, d.unlinkSubscription(id, t, c))
	}
	return errors.Join(errs...)
}

func (d *Datapath) removeTrack(id datapath.TrackID, t *track) error {
	if t == nil {
		return nil
	}
	err := d.unlinkTrack(id, t)
	quiesce()
	delete(d.track, id)
	return errors.Join(err,
		d.sweepStreams(func(k *bpfStreamKey, v *bpfStream) bool {
			if v.Track != uint32(id) {
				return false
			}
			d.raise(datapath.UpstreamID(k.Upstream), k.Stream)
			return true
		}),
		d.sweepClientStreams(func(_ *bpfClientStreamKey, v *bpfClientStream) bool { return v.Track == uint32(id) }))
}

// SetSubscription implements datapath.Datapath. Removing waits for an RCU grace period, some milliseconds.
func (d *Datapath) SetSubscription(t datapath.TrackID, c datapath.ClientID, s *datapath.Subscription) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.setSubscription(t, c, s); err != nil {
		return fmt.Errorf("set subscription of client %d to track %d: %w", c, t, err)
	}
	return nil
}

func (d *Datapath) setSubscription(t datapath.TrackID, c datapath.ClientID, s *datapath.Subscription) error {
	if err := d.check(uint32(t), d.limits.Tracks); err != nil {
		return err
	}
	if err := d.check(uint32(c), d.limits.Clients); err != nil {
		return err
	}
	tr := d.track[t]
	if s == nil {
		return d.removeSubscription(t, tr, c)
	}
	switch {
	case s.Alias > maxVarint:
		return fmt.Errorf("alias %d is beyond 2^62-1", s.Alias)
	case tr == nil:
		return fmt.Errorf("track: %w", datapath.ErrUnknown)
	case d.client[c] == nil:
		return fmt.Errorf("client: %w", datapath.ErrUnknown)
	}
	list := d.list(t)
	place, member := tr.places[c]
	for !member && place < datapath.MembersPerTrack && list[listPlaces+place] != 0 {
		place++
	}
	if place == datapath.MembersPerTrack {
		return fmt.Errorf("members of the track: %w", datapath.ErrFull)
	}
	key := &bpfSubKey{Track: uint32(t), Client: uint32(c)}
	v := bpfSub{Alias: s.Alias, FirstGroup: s.FirstGroup, LastGroup: s.LastGroup, Generation: d.generation(c), Priority: s.Priority}
	if member {
		var old bpfSub
		if err := d.objs.Subs.Lookup(key, &old); err != nil {
			return fmt.Errorf("subscriptions: %w", err)
		}
		v.Cut = old.Cut // what is cut between here and there is not
	}
	if err := put(d.objs.Subs, key, &v); err != nil {
		return fmt.Errorf("subscriptions: %w", err)
	}
	if !member {
		tr.places[c] = place
		d.client[c].tracks[t] = struct{}{}
		atomic.StoreUint32(&list[listPlaces+place], uint32(c)+1)
		atomic.StoreUint32(&list[listCount], max(list[listCount], uint32(place)+1))
	}
	return nil
}

const maxVarint = 1<<62 - 1

// unlinkSubscription takes a client from a track's members.
func (d *Datapath) unlinkSubscription(id datapath.TrackID, t *track, c datapath.ClientID) error {
	list := d.list(id)
	atomic.StoreUint32(&list[listPlaces+t.places[c]], 0)
	n := list[listCount]
	for n > 0 && list[listPlaces+n-1] == 0 {
		n--
	}
	atomic.StoreUint32(&list[listCount], n)
	delete(t.places, c)
	if cl := d.client[c]; cl != nil {
		delete(cl.tracks, id)
	}
	return remove(d.objs.Subs, &bpfSubKey{Track: uint32(id), Client: uint32(c)})
}

func (d *Datapath) removeSubscription(id datapath.TrackID, t *track, c datapath.ClientID) error {
	if t == nil {
		return nil
	}
	if _, member := t.places[c]; !member {
		return nil
	}
	err := d.unlinkSubscription(id, t, c)
	quiesce()
	return errors.Join(err, d.sweepClientStreams(func(k *bpfClientStreamKey, v *bpfClientStream) bool {
		return k.Client == uint32(c) && v.Track == uint32(id)
	}))
}
