package sim

import (
	"net/netip"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/wire"
)

type (
	aliasKey struct {
		upstream datapath.UpstreamID
		alias    uint64
	}
	subKey struct {
		track  datapath.TrackID
		client datapath.ClientID
	}
	streamKey struct {
		upstream datapath.UpstreamID
		stream   uint64
	}
	sentKey struct {
		client     datapath.ClientID
		generation uint8
		upstream   datapath.UpstreamID
		stream     uint64
	}
)

// upstream is an upstream with what the datapath itself keeps of it.
type upstream struct {
	datapath.Upstream
	keys      *wire.Keys // nil with CipherNull
	next      uint64
	watermark uint64
	streams   uint64 // entries
	replay    [datapath.ReplaySlots]uint64
}

// cidOwner is whose a connection ID is, and its last byte.
type cidOwner struct {
	upstream datapath.UpstreamID
	last     uint8
}

type track struct {
	datapath.Track
	places int // last occupied member + 1
	member [datapath.MembersPerTrack]uint32
}

type client struct {
	datapath.Client
	keys *wire.Keys // nil with CipherNull
}

type subscription struct {
	datapath.Subscription
	generation uint8
	place      int
	cut        uint64 // 1 + the group that was cut, 0: none
}

type stream struct {
	track    datapath.TrackID
	group    uint64
	priority uint8
	aliasLen uint8
}

type sentStream struct {
	stream  uint64
	track   datapath.TrackID
	slot    uint8
	dropped bool // by the client's policy; without a stream if that was at its start
	prefix  rules.Prefix
}

// raise sees to it that a stream does not open any more.
func (s *Sim) raise(k streamKey) {
	if u := s.upstreams[k.upstream]; u != nil {
		u.watermark = rules.Watermark(u.watermark, k.stream)
	}
}

// newStream makes the entry of a stream, if its upstream is still there and may have another one.
func (s *Sim) newStream(k streamKey, v stream) bool {
	u := s.upstreams[k.upstream]
	if u == nil || !s.limits.StreamShare().Take(&u.streams, &s.rest.streams) {
		return false
	}
	s.streams[k] = v
	return true
}

func (s *Sim) deleteStream(k streamKey) {
	if _, ok := s.streams[k]; ok {
		delete(s.streams, k)
		s.limits.StreamShare().Give(&s.upstreams[k.upstream].streams, &s.rest.streams)
	}
}

// newSent makes the entry of a client's stream, if the client is still there and may have another one.
func (s *Sim) newSent(k sentKey, v sentStream) bool {
	if k.generation != s.spaces[k.client].Generation() || !s.limits.ClientStreamShare().Take(s.spaces[k.client].Word(datapath.WordStreams), &s.rest.sent) {
		return false
	}
	s.sent[k] = v
	return true
}

func (s *Sim) deleteSent(k sentKey) {
	if _, ok := s.sent[k]; ok {
		delete(s.sent, k)
		s.limits.ClientStreamShare().Give(s.spaces[k.client].Word(datapath.WordStreams), &s.rest.sent)
	}
}

func (s *Sim) removeUpstream(id datapath.UpstreamID) {
	u := s.upstreams[id]
	if u == nil {
		return
	}
	for _, cid := range u.CIDs {
		key, _ := rules.SplitCID(cid)
		delete(s.cids, key)
	}
	for t, have := range s.tracks {
		if have != nil && have.Upstream == id {
			s.removeTrack(datapath.TrackID(t))
		}
	}
	for k := range s.streams {
		if k.upstream == id {
			s.deleteStream(k)
		}
	}
	for k := range s.sent {
		if k.upstream == id {
			s.deleteSent(k)
		}
	}
	s.upstreams[id] = nil
}

func (s *Sim) removeTrack(id datapath.TrackID) {
	t := s.tracks[id]
	if t == nil {
		return
	}
	for k := range s.subs {
		if k.track == id {
			delete(s.subs, k)
		}
	}
	for k, v := range s.streams {
		if v.track == id {
			s.deleteStream(k)
			s.raise(k)
		}
	}
	for k, v := range s.sent {
		if v.track == id {
			s.deleteSent(k)
		}
	}
	delete(s.aliases, aliasKey{t.Upstream, t.Alias})
	s.tracks[id] = nil
}

func (s *Sim) removeClient(id datapath.ClientID) {
	c := s.clients[id]
	if c == nil {
		return
	}
	for k := range s.subs {
		if k.client == id {
			s.removeSubscription(k)
		}
	}
	for k := range s.sent {
		if k.client == id {
			s.deleteSent(k)
		}
	}
	s.forgetAddress(id, c.Remote)
	s.clients[id] = nil
	// The generation counts up now, so that nothing that is under way for the old client reaches a new one.
	setGeneration(s.spaces[id], s.spaces[id].Generation()+1)
}

// removeSubscription removes it together with its streams: whoever comes back is a new subscriber.
func (s *Sim) removeSubscription(k subKey) {
	sub, ok := s.subs[k]
	if !ok {
		return
	}
	delete(s.subs, k)
	if t := s.tracks[k.track]; t != nil {
		t.member[sub.place] = 0
		for t.places > 0 && t.member[t.places-1] == 0 {
			t.places--
		}
	}
	for sk, v := range s.sent {
		if sk.client == k.client && v.track == k.track {
			s.deleteSent(sk)
		}
	}
}

// forgetAddress takes an address from a client; the first other one that has it too learns from it from now on.
func (s *Sim) forgetAddress(id datapath.ClientID, a netip.AddrPort) {
	if owner, ok := s.addresses[a]; ok && owner == id {
		delete(s.addresses, a)
		for other, c := range s.clients {
			if c != nil && datapath.ClientID(other) != id && c.Remote == a {
				s.addresses[a] = datapath.ClientID(other)
				break
			}
		}
	}
	s.links[id] = rules.Link{}
}
