package sim

import (
	"net/netip"
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
)

// Dumper is told what the tables hold, an entry at a time and in no order.
type Dumper interface {
	CID(cid []byte, last uint8, id datapath.UpstreamID)
	Upstream(id datapath.UpstreamID, remote netip.AddrPort, streams uint8, priorityCID bool, next, watermark, entries uint64, slots []uint64)
	Track(upstream datapath.UpstreamID, alias uint64, id datapath.TrackID, draft, priority uint8)
	Members(id datapath.TrackID, places []uint32)
	Sub(t datapath.TrackID, c datapath.ClientID, s datapath.Subscription, generation uint8, cut uint64)
	Client(id datapath.ClientID, local, remote netip.AddrPort, dcid []byte, maxDatagram uint64, priorityCID bool)
	Link(id datapath.ClientID, ifindex int, src, dst [6]byte)
	Address(a netip.AddrPort, id datapath.ClientID)
	Space(id datapath.ClientID, word func(i int) uint64)
	Rests(streams, clientStreams uint64)
	Stream(u datapath.UpstreamID, stream uint64, t datapath.TrackID, group uint64, priority, aliasLen uint8)
	ClientStream(c datapath.ClientID, generation uint8, u datapath.UpstreamID, stream, own uint64, slot, oldPrefix, newPrefix uint8, alias uint64,
		t datapath.TrackID, dropped bool)
}

// Dump tells what the tables of docs/rules.md hold, so that they can be compared with another backend's. d must not call the Sim.
func (s *Sim) Dump(d Dumper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cid, owner := range s.cids {
		d.CID(cid[:], owner.last, owner.upstream)
	}
	for id, u := range s.upstreams {
		if u != nil {
			d.Upstream(datapath.UpstreamID(id), u.Remote, u.Streams, u.PriorityCID, u.next, u.watermark, u.streams, u.replay[:])
		}
	}
	for k, id := range s.aliases {
		d.Track(k.upstream, k.alias, id, s.tracks[id].Draft, s.tracks[id].DefaultPriority)
	}
	for id, t := range s.tracks {
		if t != nil {
			d.Members(datapath.TrackID(id), t.member[:t.places])
		}
	}
	for k, v := range s.subs {
		d.Sub(k.track, k.client, v.Subscription, v.generation, v.cut)
	}
	for i, c := range s.clients {
		id := datapath.ClientID(i)
		if c != nil {
			d.Client(id, c.Local, c.Remote, c.DCID, c.MaxDatagram, c.PriorityCID)
		}
		if l := &s.links[i]; l.Interface != 0 {
			d.Link(id, l.Interface, l.Src, l.Dst)
		}
		if space := s.spaces[i]; space != nil {
			d.Space(id, func(i int) uint64 { return atomic.LoadUint64(space.Word(i)) })
		}
	}
	for a, id := range s.addresses {
		d.Address(a, id)
	}
	d.Rests(s.rest.streams, s.rest.sent)
	for k, v := range s.streams {
		d.Stream(k.upstream, k.stream, v.track, v.group, v.priority, v.aliasLen)
	}
	for k, v := range s.sent {
		d.ClientStream(k.client, k.generation, k.upstream, k.stream, v.stream, v.slot, v.prefix.Old, v.prefix.New, v.prefix.Alias, v.track, v.dropped)
	}
}
