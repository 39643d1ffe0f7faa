package sim

import (
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
)

// forward takes the i-th media frame through the steps of egress and, if it passes, appends it to frames.
func (s *cpu) forward(i int, id datapath.ClientID, generation uint8, sub *subscription, room *rules.Room,
	frames *[]byte, rec *datapath.RecordFrame) datapath.Reason {
	f, in := &s.in.media.Frames[i], &s.in.frames[i]
	piece, space := &s.out.piece, s.spaces[id]
	rec.UpstreamStream, rec.Priority, rec.Fin, rec.Datagram = f.Stream, in.priority, f.Fin, f.Datagram
	rec.Subscriber, rec.Track, rec.Group, rec.Cut = sub.Priority, in.track, in.group, sub.cut
	if f.Datagram {
		return s.forwardDatagram(i, id, sub, room, frames, rec)
	}

	key := sentKey{id, generation, s.in.upstream, f.Stream}
	to, started := s.sent[key]
	switch {
	case started && to.dropped:
		return datapath.ReasonDropStream
	case started:
	case !in.opening:
		return datapath.ReasonSlowStream
	case !rules.Selected(in.group, &sub.Subscription):
		return datapath.ReasonFiltered
	default:
		to = sentStream{track: in.track, prefix: rules.NewPrefix(int(in.aliasLen), sub.Alias)}
	}
	split := to.prefix.Rewrite(f.Offset, f.Data, piece)
	if split == datapath.Forwarded {
		rec.Offset, rec.Length = piece.Offset, uint32(piece.Len())
	}
	if r := s.admit(id, rec, f.Stream>>2, started); r != datapath.Forwarded {
		return s.drop(key, to, started, rec, r)
	}
	if !started {
		if r := s.openFor(space, key, &to); r != datapath.Forwarded {
			return r
		}
		rec.Opened = true
	}
	rec.ClientStream, rec.Slot = to.stream, to.slot
	space.ChargePlanBy(s.out.policy, s.out.now, uint64(rec.Length))
	if r := s.held(space, rec); r != datapath.Forwarded {
		return r
	}
	if split != datapath.Forwarded {
		return split
	}
	overhead := rules.StreamOverhead(to.stream, piece.Offset)
	withLength, r := room.Fit(overhead, piece.Len())
	if r != datapath.Forwarded {
		return r
	}
	if r := advance(space, to.slot, to.stream, piece.Offset+uint64(piece.Len()), f.Fin); r != datapath.Forwarded {
		return r
	}
	room.Take(overhead, piece.Len(), withLength)
	*frames = rules.AppendStream(*frames, to.stream, piece, f.Fin, withLength)
	return datapath.Forwarded
}

func (s *cpu) forwardDatagram(i int, id datapath.ClientID, sub *subscription, room *rules.Room,
	frames *[]byte, rec *datapath.RecordFrame) datapath.Reason {
	f, in := &s.in.media.Frames[i], &s.in.frames[i]
	piece, space := &s.out.piece, s.spaces[id]
	if !rules.Selected(in.group, &sub.Subscription) {
		return datapath.ReasonFiltered
	}
	split := rules.NewPrefix(int(in.aliasLen), sub.Alias).Rewrite(0, f.Data, piece)
	if split == datapath.Forwarded {
		rec.Length = uint32(piece.Len())
	}
	if r := s.admit(id, rec, s.in.number, false); r != datapath.Forwarded {
		return r
	}
	if r := s.held(space, rec); r != datapath.Forwarded {
		return r
	}
	space.ChargePlanBy(s.out.policy, s.out.now, uint64(rec.Length))
	if split != datapath.Forwarded {
		return split
	}
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

// admit is the policy's decision on a frame. It cuts the frame's group where the policy says so.
func (s *cpu) admit(id datapath.ClientID, rec *datapath.RecordFrame, sample uint64, started bool) datapath.Reason {
	if !s.out.policy.On() {
		return datapath.Forwarded
	}
	plan := s.spaces[id].PlanTime()
	rec.Plan = time.Duration(plan - min(plan, s.out.now))
	r, cut := s.spaces[id].AdmitBy(s.out.policy, plan, s.out.now, &datapath.Offer{
		Importance: datapath.Importance(rec.Subscriber, rec.Priority), Group: rec.Group, Sample: sample, Size: uint64(rec.Length),
		Started: started, Cut: rec.Cut,
	})
	if cut {
		s.step()
		k := subKey{rec.Track, id}
		if sub, ok := s.subs[k]; ok {
			sub.cut = max(sub.cut, rec.Group+1)
			s.subs[k] = sub
		}
	}
	return r
}

// drop has the rest of a stream be dropped too, and returns the reason.
func (s *cpu) drop(key sentKey, to sentStream, started bool, rec *datapath.RecordFrame, r datapath.Reason) datapath.Reason {
	to.dropped = true
	s.step()
	if !started {
		if !s.newSent(key, to) {
			return datapath.ReasonClientStreams
		}
		rec.Opened = true
		return r
	}
	if _, still := s.sent[key]; still { // userspace may have evicted it
		s.sent[key] = to
	}
	rec.ClientStream, rec.Slot = to.stream, to.slot
	closeStream(s.spaces[key.client], to.slot, to.stream)
	return r
}

// closeStream closes a stream, if its slot was not given to another. The entry says that it is dropped, so a lost race does no harm.
func closeStream(space *datapath.Space, slot uint8, stream uint64) {
	word := space.Word(datapath.WordSlots + 2*int(slot))
	for range rules.Retries {
		space.Step()
		old := atomic.LoadUint64(word)
		space.Step()
		if old&^datapath.StreamOffset != datapath.StreamTag(stream) || atomic.CompareAndSwapUint64(word, old, old|datapath.StreamClosed) {
			return
		}
	}
}

// held says why a frame that was admitted is not sent now: the client's budget, or what is not less important waits in userspace.
func (s *cpu) held(space *datapath.Space, rec *datapath.RecordFrame) datapath.Reason {
	switch {
	case s.out.refused != datapath.Forwarded:
		return s.out.refused
	case space.Waits(datapath.Importance(rec.Subscriber, rec.Priority)):
		return datapath.ReasonWaiting
	}
	return datapath.Forwarded
}

// openFor opens a stream for a client: it takes a stream ID for its entry.
func (s *cpu) openFor(space *datapath.Space, key sentKey, to *sentStream) datapath.Reason {
	word, r := takePool(space)
	if r != datapath.Forwarded {
		return r
	}
	s.step()
	to.slot, to.stream = rules.PoolEntry(word)
	if !s.newSent(key, *to) {
		return datapath.ReasonClientStreams
	}
	return datapath.Forwarded
}
