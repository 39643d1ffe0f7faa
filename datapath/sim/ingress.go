package sim

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// ingress is what server ingress knows of the packet that it looks at.
type ingress struct {
	datagram rules.Datagram
	upstream datapath.UpstreamID
	up       *upstream
	number   uint64
	media    rules.Media
	// cidPriority is the last byte of the connection ID.
	cidPriority uint8
	frames      [datapath.MaxForward]inFrame // of media.Frames, at the same index
	opened      wire.Opened
	payload     [datapath.MaxPacketSize]byte
}

// inFrame is what rule 7 found out about a media frame.
type inFrame struct {
	stream       // track and so on; of a datagram too
	wanted  bool // it has a track with members
	opening bool
}

// Ingress is what happens to a frame that comes in at one interface: client ingress, then server ingress. at is the
// time of all that is sent. The frame is not changed and not kept.
func (s *Sim) Ingress(frame []byte, ifindex int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tapIn(frame, at) {
		c := s.takeCPU()
		c.clientIngress(frame, ifindex)
		c.serverIngress(frame, at)
		s.giveCPU(c)
	}
}

// ServerIngress is server ingress alone, as on an interface that faces publishers only.
func (s *Sim) ServerIngress(frame []byte, ifindex int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tapIn(frame, at) {
		c := s.takeCPU()
		c.serverIngress(frame, at)
		s.giveCPU(c)
	}
}

// ClientIngress is client ingress alone, as on an interface that faces subscribers only.
func (s *Sim) ClientIngress(frame []byte, ifindex int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tapIn(frame, at) {
		c := s.takeCPU()
		c.clientIngress(frame, ifindex)
		s.giveCPU(c)
	}
}

func (s *Sim) tapIn(frame []byte, at time.Time) bool {
	if s.closed {
		return false
	}
	if s.cfg.Tap != nil {
		s.cfg.Tap(In, frame, at)
	}
	return true
}

func (s *cpu) clientIngress(frame []byte, ifindex int) {
	d := &s.in.datagram
	ours, r := rules.ParseUDP(frame, s.cfg.Port, d)
	if !ours || r != datapath.Forwarded {
		return
	}
	if c, ok := s.addresses[d.Src]; ok {
		s.links[c] = rules.Link{Interface: ifindex, Src: d.DstMAC, Dst: d.SrcMAC}
	}
}

func (s *cpu) serverIngress(frame []byte, at time.Time) {
	if ours, r := rules.ParseUDP(frame, s.cfg.Port, &s.in.datagram); !ours {
		return
	} else if r != datapath.Forwarded {
		s.count(r, 1)
		return
	}
	if r := s.open(); r == datapath.Forwarded {
		s.forwardMedia(at)
	} else {
		s.count(r, 1)
	}
	if s.turns%2 == 1 {
		s.step()
		s.turns++
	}
}

// forwardMedia is rules 7 and 8.
func (s *cpu) forwardMedia(at time.Time) {
	u := s.in.up
	for i := range s.in.media.Len {
		s.step()
		r := s.decide(&s.in.media.Frames[i], &s.in.frames[i])
		if s.in.frames[i].wanted = r == datapath.Forwarded; !s.in.frames[i].wanted {
			s.count(r, 1)
		}
		if u.PriorityCID {
			s.in.frames[i].priority = s.in.cidPriority
		}
	}
	s.count(datapath.ReasonTooManyMedia, s.in.media.Further)
	s.step()
	u.watermark = max(u.watermark, s.in.media.Above)
	s.fanOut(at)
}

// open is rules 2 to 6: it ends with the media frames of an authentic packet that was not seen before.
func (s *cpu) open() datapath.Reason {
	in := &s.in
	if r := in.datagram.CheckLengths(); r != datapath.Forwarded {
		return r
	}
	p := in.datagram.Payload
	if r := rules.CheckShort(p); r != datapath.Forwarded {
		return r
	}
	cid, last := rules.PacketCID(p)
	owner, ok := s.cids[cid]
	if !ok {
		return datapath.ReasonUnknownCID
	}
	u := s.upstreams[owner.upstream]
	if !u.PriorityCID && last != owner.last {
		return datapath.ReasonUnknownCID
	}
	if in.datagram.Src != u.Remote {
		return datapath.ReasonAddress
	}
	in.upstream, in.up, in.cidPriority = owner.upstream, u, last
	var frames []byte
	if u.keys == nil {
		var r datapath.Reason
		if in.number, frames, r = rules.OpenNull(p, u.next); r != datapath.Forwarded {
			return r
		}
	} else {
		if u.keys.Open(in.payload[:0], p, datapath.CIDLen, u.next, &in.opened) != nil {
			return datapath.ReasonAuth
		}
		in.number, frames = in.opened.PacketNumber, in.opened.Payload
	}
	if r := rules.Walk(frames, u.Streams, &in.media); r != datapath.Forwarded {
		return r
	}
	decides := in.media.Above > 0
	for i := range in.media.Len {
		decides = decides || in.media.Frames[i].Offset == 0
	}
	if decides {
		s.turns++ // before the window lets a duplicate pass to userspace, and before the watermark is read
	}
	s.step()
	slot := &u.replay[rules.ReplaySlot(in.number)]
	next, fresh := rules.Replay(*slot, in.number)
	if !fresh {
		return datapath.ReasonReplay
	}
	*slot = next
	s.step()
	u.next = max(u.next, next)
	if in.media.Len == 0 {
		return datapath.ReasonNoMedia
	}
	return datapath.Forwarded
}

// decide is rule 7 for one frame.
func (s *cpu) decide(f *rules.Frame, in *inFrame) datapath.Reason {
	u := s.in.up
	in.opening = false
	if f.Datagram {
		var h rules.Header
		if r := rules.ParseDatagram(f.Data, &h); r != datapath.Forwarded {
			return r
		}
		return s.header(&h, rules.DatagramType, in)
	}
	key := streamKey{s.in.upstream, f.Stream}
	if v, ok := s.streams[key]; ok {
		in.stream = v
		return s.wanted(v.track)
	}
	if !rules.CanOpen(u.watermark, f.Stream, f.Offset) {
		return datapath.ReasonNotOpened
	}
	var h rules.Header
	r := rules.ParseSubgroup(f.Data, &h)
	if r == datapath.Forwarded {
		r = s.header(&h, rules.SubgroupType, in)
	}
	s.step()
	if r != datapath.Forwarded && r != datapath.ReasonNoSubscriber {
		u.watermark = rules.Watermark(u.watermark, f.Stream)
		return r
	}
	if v, ok := s.streams[key]; ok { // another CPU was faster
		in.stream = v
		return s.wanted(v.track)
	}
	if !s.newStream(key, in.stream) {
		u.watermark = rules.Watermark(u.watermark, f.Stream)
		return datapath.ReasonStreamsFull
	}
	in.opening = true
	return r
}

// header finds the track of a parsed header and fills what an entry holds.
func (s *cpu) header(h *rules.Header, has func(t, draft uint8) bool, in *inFrame) datapath.Reason {
	id, ok := s.aliases[aliasKey{s.in.upstream, h.Alias}]
	if !ok {
		return datapath.ReasonUnknownTrack
	}
	t := s.tracks[id]
	if !has(h.Type, t.Draft) {
		return datapath.ReasonBadHeader
	}
	in.stream = stream{track: id, group: h.Group, priority: h.Priority, aliasLen: uint8(h.AliasLen)}
	if h.DefaultPriority {
		in.priority = t.DefaultPriority
	}
	return s.wanted(id)
}

func (s *cpu) wanted(t datapath.TrackID) datapath.Reason {
	if tr := s.tracks[t]; tr == nil || tr.places == 0 {
		return datapath.ReasonNoSubscriber
	}
	return datapath.Forwarded
}

// fanOut is rule 8: one clone for each client of the packet's tracks.
func (s *cpu) fanOut(at time.Time) {
	var had [datapath.MaxForward]datapath.TrackID
	n := 0
	for i := range s.in.media.Len {
		f := &s.in.frames[i]
		if !f.wanted || containsTrack(had[:n], f.track) {
			continue
		}
		t := s.tracks[f.track]
		if t == nil {
			continue // removed meanwhile
		}
		for p := 0; p < t.places; p++ {
			s.step()
			place := t.member[p]
			if place == 0 {
				continue
			}
			id := datapath.ClientID(place - 1)
			if s.hadTurn(id, had[:n]) {
				continue
			}
			sub, ok := s.subs[subKey{f.track, id}]
			switch {
			case !ok:
			case s.links[id].Interface == 0:
				s.count(datapath.ReasonNoRoute, 1)
			case s.cfg.HasInterface != nil && !s.cfg.HasInterface(s.links[id].Interface):
				s.count(datapath.ReasonSendFailed, 1)
			default:
				s.egress(id, sub.generation, at)
			}
		}
		had[n] = f.track
		n++
	}
}

func containsTrack(list []datapath.TrackID, t datapath.TrackID) bool {
	for _, v := range list {
		if v == t {
			return true
		}
	}
	return false
}

// hadTurn says whether a client is subscribed to one of the tracks.
func (s *cpu) hadTurn(id datapath.ClientID, tracks []datapath.TrackID) bool {
	for _, t := range tracks {
		if _, ok := s.subs[subKey{t, id}]; ok {
			return true
		}
	}
	return false
}
