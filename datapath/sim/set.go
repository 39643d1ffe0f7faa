package sim

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// maxGeneration bounds the work of deriving keys.
const maxGeneration = 1 << 16

// check returns why a call on an ID cannot be served. The lock is held.
func (s *Sim) check(id, capacity uint32) error {
	switch {
	case s.closed:
		return datapath.ErrClosed
	case id >= capacity:
		return fmt.Errorf("%w of %d", datapath.ErrOutOfRange, capacity)
	}
	return nil
}

// newKeys derives the keys of one direction. They are nil with CipherNull.
func newKeys(p *datapath.Protection) (*wire.Keys, error) {
	switch p.Cipher {
	case datapath.CipherNull:
		return nil, nil
	case datapath.CipherAES128GCM, datapath.CipherAES256GCM, datapath.CipherChaCha20Poly1305:
	default:
		return nil, fmt.Errorf("%w: %#04x", datapath.ErrCipher, uint16(p.Cipher))
	}
	if p.Generation > maxGeneration {
		return nil, fmt.Errorf("key generation %d is beyond %d", p.Generation, maxGeneration)
	}
	k, err := wire.NewKeys(wire.Suite(p.Cipher), p.Version, p.Secret)
	if err != nil {
		return nil, err
	}
	for range p.Generation {
		k.Update()
	}
	return k, nil
}

func sameProtection(a, b *datapath.Protection) bool {
	return a.Cipher == b.Cipher && a.Version == b.Version && a.Generation == b.Generation && bytes.Equal(a.Secret, b.Secret)
}

func cloneProtection(p datapath.Protection) datapath.Protection {
	p.Secret = bytes.Clone(p.Secret)
	return p
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// SetUpstream implements datapath.Datapath.
func (s *Sim) SetUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.setUpstream(id, u); err != nil {
		return fmt.Errorf("set upstream %d: %w", id, err)
	}
	return nil
}

func (s *Sim) setUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	if err := s.check(uint32(id), s.limits.Upstreams); err != nil {
		return err
	}
	old := s.upstreams[id]
	if u == nil {
		s.removeUpstream(id)
		return nil
	}
	set := &upstream{Upstream: *u}
	set.Remote = unmap(u.Remote)
	set.Protection = cloneProtection(u.Protection)
	set.CIDs = nil
	if old != nil && sameProtection(&old.Protection, &set.Protection) {
		set.keys = old.keys // it has followed the key updates
	} else {
		k, err := newKeys(&set.Protection)
		if err != nil {
			return err
		}
		set.keys = k
	}
	if !set.Remote.IsValid() {
		return errors.New("the publisher's address is not valid")
	}
	if u.Streams != 2 && u.Streams != 3 {
		return fmt.Errorf("unidirectional streams have the low bits 2 or 3, not %d", u.Streams)
	}
	fresh := 0
	if err := u.CheckCIDs(); err != nil {
		return err
	}
	for _, cid := range u.CIDs {
		key, _ := rules.SplitCID(cid)
		owner, known := s.cids[key]
		if known && owner.upstream != id {
			return fmt.Errorf("connection ID belongs to upstream %d", owner.upstream)
		}
		if contains(set.CIDs, cid) {
			continue // twice in the list is once
		}
		if !known {
			fresh++
		}
		set.CIDs = append(set.CIDs, bytes.Clone(cid))
	}
	freed := 0
	if old != nil {
		for _, cid := range old.CIDs {
			if !contains(set.CIDs, cid) {
				freed++
			}
		}
	}
	if len(s.cids)+fresh-freed > int(s.limits.CIDs) {
		return fmt.Errorf("connection IDs: %w", datapath.ErrFull)
	}
	if old != nil {
		set.next, set.watermark, set.replay, set.streams = old.next, old.watermark, old.replay, old.streams
		for _, cid := range old.CIDs {
			key, _ := rules.SplitCID(cid)
			delete(s.cids, key)
		}
	} else {
		set.next = u.NextNumber
		for i := range set.replay {
			set.replay[i] = rules.InitialSlot(i, u.NextNumber)
		}
	}
	for _, cid := range set.CIDs {
		key, last := rules.SplitCID(cid)
		s.cids[key] = cidOwner{id, last}
	}
	s.upstreams[id] = set
	return nil
}

// contains says whether a connection ID is in a list, as it is looked up.
func contains(list [][]byte, cid []byte) bool {
	key, _ := rules.SplitCID(cid)
	for _, v := range list {
		if k, _ := rules.SplitCID(v); k == key {
			return true
		}
	}
	return false
}

// SetTrack implements datapath.Datapath.
func (s *Sim) SetTrack(id datapath.TrackID, t *datapath.Track) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.setTrack(id, t); err != nil {
		return fmt.Errorf("set track %d: %w", id, err)
	}
	return nil
}

func (s *Sim) setTrack(id datapath.TrackID, t *datapath.Track) error {
	if err := s.check(uint32(id), s.limits.Tracks); err != nil {
		return err
	}
	if t == nil {
		s.removeTrack(id)
		return nil
	}
	if t.Draft != uint8(wire.Draft14) && t.Draft != uint8(wire.Draft16) {
		return fmt.Errorf("draft %d is neither 14 nor 16", t.Draft)
	}
	if uint32(t.Upstream) >= s.limits.Upstreams || s.upstreams[t.Upstream] == nil {
		return fmt.Errorf("upstream %d: %w", t.Upstream, datapath.ErrUnknown)
	}
	if owner, ok := s.aliases[aliasKey{t.Upstream, t.Alias}]; ok && owner != id {
		return fmt.Errorf("alias %d of upstream %d belongs to track %d", t.Alias, t.Upstream, owner)
	}
	old := s.tracks[id]
	if old != nil && old.Upstream != t.Upstream {
		s.removeTrack(id)
		old = nil
	}
	if old == nil {
		old = &track{}
		s.tracks[id] = old
	} else {
		delete(s.aliases, aliasKey{old.Upstream, old.Alias})
	}
	old.Track = *t
	s.aliases[aliasKey{t.Upstream, t.Alias}] = id
	return nil
}

// SetClient implements datapath.Datapath. The space of a client is always the same memory.
func (s *Sim) SetClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	space, err := s.setClient(id, c)
	if err != nil {
		return nil, fmt.Errorf("set client %d: %w", id, err)
	}
	return space, nil
}

func (s *Sim) setClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	if err := s.check(uint32(id), s.limits.Clients); err != nil {
		return nil, err
	}
	if c == nil {
		s.removeClient(id)
		return nil, nil
	}
	set := &client{Client: *c}
	set.Local, set.Remote = unmap(c.Local), unmap(c.Remote)
	set.DCID, set.Protection = bytes.Clone(c.DCID), cloneProtection(c.Protection)
	old := s.clients[id]
	if old != nil && sameProtection(&old.Protection, &set.Protection) {
		set.keys = old.keys
	} else {
		k, err := newKeys(&set.Protection)
		if err != nil {
			return nil, err
		}
		set.keys = k
	}
	switch {
	case !set.Local.IsValid() || !set.Remote.IsValid() || set.Local.Addr().Is4() != set.Remote.Addr().Is4():
		return nil, errors.New("the client's two addresses must be valid and of one family")
	case len(set.DCID) > wire.MaxCIDLen:
		return nil, fmt.Errorf("connection ID has %d bytes, at most %d are allowed", len(set.DCID), wire.MaxCIDLen)
	case set.PriorityCID && len(set.DCID) != datapath.CIDLen:
		return nil, fmt.Errorf("connection ID has %d bytes, one with a priority has %d", len(set.DCID), datapath.CIDLen)
	case set.MaxSize < 0 || set.MaxSize > datapath.MaxPacketSize:
		return nil, fmt.Errorf("packet size %d is not between 0 and %d", set.MaxSize, datapath.MaxPacketSize)
	}
	space := s.spaces[id]
	if space == nil {
		space = datapath.NewSpace(nil, s.now)
		if s.cfg.Step != nil {
			space.Interleave(s.step)
		}
		s.spaces[id] = space
	}
	if old == nil {
		space.Reset()
	}
	space.SetMaxSize(set.MaxSize)
	s.clients[id] = set
	if old == nil || old.Remote != set.Remote || old.Local != set.Local {
		if old != nil {
			s.forgetAddress(id, old.Remote)
		}
		if other, ok := s.addresses[set.Remote]; ok {
			s.links[id] = s.links[other]
		}
		s.addresses[set.Remote] = id
		s.resolve(id, set)
	}
	return space, nil
}

func setGeneration(space *datapath.Space, g uint8) {
	atomic.StoreUint64(space.Word(datapath.WordGeneration), uint64(g))
}

// SetSubscription implements datapath.Datapath.
func (s *Sim) SetSubscription(t datapath.TrackID, c datapath.ClientID, sub *datapath.Subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.setSubscription(t, c, sub); err != nil {
		return fmt.Errorf("set subscription of client %d to track %d: %w", c, t, err)
	}
	return nil
}

func (s *Sim) setSubscription(t datapath.TrackID, c datapath.ClientID, sub *datapath.Subscription) error {
	if err := s.check(uint32(t), s.limits.Tracks); err != nil {
		return err
	}
	if err := s.check(uint32(c), s.limits.Clients); err != nil {
		return err
	}
	k := subKey{t, c}
	if sub == nil {
		s.removeSubscription(k)
		return nil
	}
	tr := s.tracks[t]
	switch {
	case sub.Alias > wire.MaxVarint:
		return fmt.Errorf("alias %d is beyond 2^62-1", sub.Alias)
	case tr == nil:
		return fmt.Errorf("track: %w", datapath.ErrUnknown)
	case s.clients[c] == nil:
		return fmt.Errorf("client: %w", datapath.ErrUnknown)
	}
	set, known := s.subs[k]
	if !known {
		if len(s.subs) >= int(s.limits.Subscriptions) {
			return fmt.Errorf("subscriptions: %w", datapath.ErrFull)
		}
		set.place = 0
		for set.place < len(tr.member) && tr.member[set.place] != 0 {
			set.place++
		}
		if set.place == len(tr.member) {
			return fmt.Errorf("members of the track: %w", datapath.ErrFull)
		}
		set.generation = s.spaces[c].Generation()
		tr.member[set.place] = uint32(c) + 1
		tr.places = max(tr.places, set.place+1)
	}
	set.Subscription = *sub
	s.subs[k] = set
	return nil
}

// Evict implements datapath.Datapath.
func (s *Sim) Evict(keys []datapath.StreamKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("evict streams: %w", datapath.ErrClosed)
	}
	// As in the kernel: no entry goes while a packet is under way that has seen the watermark as it was before.
	for _, k := range keys {
		if k.Client == datapath.NoClient && uint32(k.Upstream) < s.limits.Upstreams {
			s.raise(streamKey{k.Upstream, k.Stream})
		}
	}
	s.awaitFanOuts("Evict")
	var errs []error
	for _, k := range keys {
		switch {
		case uint32(k.Upstream) >= s.limits.Upstreams:
			errs = append(errs, fmt.Errorf("evict a stream of upstream %d: %w", k.Upstream, datapath.ErrOutOfRange))
		case k.Client == datapath.NoClient:
			s.deleteStream(streamKey{k.Upstream, k.Stream})
		case uint32(k.Client) >= s.limits.Clients:
			errs = append(errs, fmt.Errorf("evict a stream of client %d: %w", k.Client, datapath.ErrOutOfRange))
		case s.spaces[k.Client] != nil:
			s.deleteSent(sentKey{k.Client, s.spaces[k.Client].Generation(), k.Upstream, k.Stream})
		}
	}
	return errors.Join(errs...)
}
