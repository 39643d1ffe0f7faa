package sim

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
)

// egress is the scratch in which a packet to a client is composed.
type egress struct {
	client  *client
	piece   rules.Piece
	refused datapath.Reason // why the client's budget takes no packet now, or Forwarded
	dcid    [datapath.CIDLen]byte
	frames  [datapath.MaxPacketSize]byte
	packet  [rules.MaxFrame]byte
}

var errNoInterface = errors.New("no such interface")

// egress is client egress for one clone, which carries client and generation.
func (s *cpu) egress(id datapath.ClientID, generation uint8, at time.Time) {
	space, c := s.spaces[id], s.clients[id]
	if space.Generation() != generation {
		s.count(datapath.ReasonStaleClient, 1)
		return
	}
	s.step()
	e := s.ring.reserve()
	if e == nil {
		s.count(datapath.ReasonRingFull, 1)
		return
	}
	e.record = datapath.Record{
		Time: at, UpstreamNumber: s.in.number, Upstream: s.in.upstream, Client: id, Generation: generation,
		Frames: e.frames[:0],
	}
	s.out.client = c
	maxSize := min(atomic.LoadUint64(space.Word(datapath.WordMaxSize)), datapath.MaxPacketSize)
	now := s.nanos(at)
	s.out.refused = space.Budget(now, maxSize)
	frames := s.out.frames[:0]
	room := rules.NewRoom(maxSize, len(c.DCID))
	appended, opened, priority := 0, datapath.Forwarded, uint8(255)
	for i := range s.in.media.Len {
		s.step()
		sub, ok := s.subs[subKey{s.in.frames[i].track, id}]
		if !s.in.frames[i].wanted || !ok {
			continue
		}
		f := datapath.RecordFrame{}
		f.Reason = s.forward(i, id, generation, &sub, &room, &frames, &f)
		if f.Reason == datapath.Forwarded {
			appended++
			priority = min(priority, f.Priority)
		} else {
			s.count(f.Reason, 1)
			if !f.Opened {
				continue
			}
			if opened == datapath.Forwarded {
				opened = f.Reason
			}
		}
		e.record.Frames = append(e.record.Frames, f)
	}
	if appended == 0 {
		e.record.Reason = opened
		s.step()
		e.done, e.submitted = true, opened != datapath.Forwarded
		return
	}
	e.record.Number = space.TakeNumber()
	packet := s.compose(c, &s.links[id], e.record.Number, priority, frames)
	e.record.Size = uint16(len(packet) - rules.HeaderLen(c.Local.Addr()))
	space.ChargeBudget(now, uint64(e.record.Size))
	rec := e.record // from here on e may be drained and used again
	s.step()
	e.done, e.submitted = true, true
	s.step()
	if err := s.send(c, packet, s.links[id].Interface, at); err == nil {
		s.count(datapath.Forwarded, appended)
		return
	}
	s.count(datapath.ReasonSendFailed, appended)
	s.step()
	if e = s.ring.reserve(); e != nil {
		rec.Reason, rec.Frames = datapath.ReasonSendFailed, e.frames[:0]
		e.record = rec
		s.step()
		e.done, e.submitted = true, true
	}
}

// forward takes the i-th media frame through the steps of egress and, if it passes, appends it to frames.
func (s *cpu) forward(i int, id datapath.ClientID, generation uint8, sub *subscription, room *rules.Room,
	frames *[]byte, rec *datapath.RecordFrame) datapath.Reason {
	f, in := &s.in.media.Frames[i], &s.in.frames[i]
	piece := &s.out.piece
	rec.UpstreamStream, rec.Priority, rec.Fin, rec.Datagram = f.Stream, in.priority, f.Fin, f.Datagram
	if f.Datagram {
		if !rules.Selected(in.group, &sub.Subscription) {
			return datapath.ReasonFiltered
		}
		if s.out.refused != datapath.Forwarded {
			return s.out.refused
		}
		if r := rules.NewPrefix(int(in.aliasLen), sub.Alias).Rewrite(0, f.Data, piece); r != datapath.Forwarded {
			return r
		}
		rec.Length = uint32(piece.Len())
		withLength, r := room.Fit(rules.DatagramOverhead, piece.Len())
		if r != datapath.Forwarded {
			return r
		}
		if uint64(rules.DatagramSize(piece.Len(), withLength)) > s.out.client.MaxDatagram {
			return datapath.ReasonTooBig
		}
		room.Take(rules.DatagramOverhead, piece.Len(), withLength)
		*frames = rules.AppendDatagram(*frames, piece, withLength)
		return datapath.Forwarded
	}

	key := sentKey{id, generation, s.in.upstream, f.Stream}
	to, ok := s.sent[key]
	if !ok {
		var r datapath.Reason
		if to, r = s.openFor(id, key, in, sub); r != datapath.Forwarded {
			return r
		}
		rec.Opened = true
	} else if s.out.refused != datapath.Forwarded {
		return s.out.refused
	}
	rec.ClientStream, rec.Slot = to.stream, to.slot
	if r := to.prefix.Rewrite(f.Offset, f.Data, piece); r != datapath.Forwarded {
		return r
	}
	rec.Offset, rec.Length = piece.Offset, uint32(piece.Len())
	overhead := rules.StreamOverhead(to.stream, piece.Offset)
	withLength, r := room.Fit(overhead, piece.Len())
	if r != datapath.Forwarded {
		return r
	}
	if r := advance(s.spaces[id], to.slot, to.stream, piece.Offset+uint64(piece.Len()), f.Fin); r != datapath.Forwarded {
		return r
	}
	room.Take(overhead, piece.Len(), withLength)
	*frames = rules.AppendStream(*frames, to.stream, piece, f.Fin, withLength)
	return datapath.Forwarded
}

// openFor opens a stream for a client, if this is the moment to (step 2).
func (s *cpu) openFor(id datapath.ClientID, key sentKey, in *inFrame, sub *subscription) (sentStream, datapath.Reason) {
	if !in.opening {
		return sentStream{}, datapath.ReasonSlowStream
	}
	if !rules.Selected(in.group, &sub.Subscription) {
		return sentStream{}, datapath.ReasonFiltered
	}
	if s.out.refused != datapath.Forwarded {
		return sentStream{}, s.out.refused
	}
	word, r := takePool(s.spaces[id])
	if r != datapath.Forwarded {
		return sentStream{}, r
	}
	s.step()
	if len(s.sent) >= int(s.limits.ClientStreams) {
		return sentStream{}, datapath.ReasonClientStreams
	}
	slot, stream := rules.PoolEntry(word)
	to := sentStream{stream: stream, slot: slot, track: in.track, prefix: rules.NewPrefix(int(in.aliasLen), sub.Alias)}
	s.sent[key] = to
	return to, datapath.Forwarded
}

// takePool takes a word from a client's pool of reserved stream IDs.
func takePool(space *datapath.Space) (uint64, datapath.Reason) {
	head := space.Word(datapath.WordPoolHead)
	for range rules.Retries {
		space.Step()
		at := atomic.LoadUint64(head)
		space.Step()
		if at == atomic.LoadUint64(space.Word(datapath.WordPoolTail)) {
			return 0, datapath.ReasonPoolEmpty
		}
		space.Step()
		// Read before the head moves: afterwards userspace may reuse the place.
		word := atomic.LoadUint64(space.Word(datapath.WordPool + int(at%datapath.PoolSize)))
		space.Step()
		if atomic.CompareAndSwapUint64(head, at, at+1) {
			return word, datapath.Forwarded
		}
	}
	return 0, datapath.ReasonContended
}

// advance is step 5: it moves the stream word to end, closes it with a FIN, and charges the growth.
func advance(space *datapath.Space, slot uint8, stream, end uint64, fin bool) datapath.Reason {
	word := space.Word(datapath.WordSlots + 2*int(slot))
	space.Step()
	if r := rules.CheckStream(end, atomic.LoadUint64(space.Word(datapath.WordSlots+2*int(slot)+1))); r != datapath.Forwarded {
		return r
	}
	for range rules.Retries {
		space.Step()
		old := atomic.LoadUint64(word)
		next, growth, r := rules.Advance(old, stream, end, fin)
		if r != datapath.Forwarded || next == old {
			return r
		}
		if !space.Charge(growth, atomic.LoadUint64(space.Word(datapath.WordDataLimit))) {
			return datapath.ReasonConnectionCredit
		}
		space.Step()
		if atomic.CompareAndSwapUint64(word, old, next) {
			return datapath.Forwarded
		}
		space.Step()
		atomic.AddUint64(space.Word(datapath.WordDataUsed), -growth)
	}
	return datapath.ReasonContended
}

// compose seals frames for a client, by the connection ID as it is on the wire, and puts the headers before them.
func (s *cpu) compose(c *client, link *rules.Link, number uint64, priority uint8, frames []byte) []byte {
	dcid := append(s.out.dcid[:0], c.DCID...)
	if c.PriorityCID {
		dcid[len(dcid)-1] = priority
	}
	at := rules.HeaderLen(c.Local.Addr())
	packet := s.out.packet[:at]
	if c.keys == nil {
		packet = rules.AppendNull(packet, dcid, number, frames)
	} else {
		packet = c.keys.Seal(packet, c.Protection.Generation, dcid, number, datapath.NumberLen, frames)
	}
	rules.PutHeaders(packet, link, c.Local, c.Remote)
	return packet
}

// send puts a client's frame out at an interface.
func (s *cpu) send(c *client, frame []byte, ifindex int, at time.Time) error {
	err := errNoInterface
	if ifindex >= firstEdge && ifindex < firstEdge+len(s.edges) {
		err = s.edges[ifindex-firstEdge].sendTo(frame[rules.HeaderLen(c.Local.Addr()):], c.Remote)
	} else if s.cfg.Send != nil {
		err = s.cfg.Send(frame, ifindex, at)
	}
	if err == nil && s.cfg.Tap != nil {
		s.cfg.Tap(Out, frame, at)
	}
	return err
}
