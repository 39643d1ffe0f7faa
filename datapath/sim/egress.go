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
	now     uint64
	policy  datapath.PolicyWord
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
	s.out.now = s.nanos(at)
	s.out.refused = space.Budget(s.out.now, maxSize)
	s.out.policy = space.PolicyWord()
	e.record.Policy = s.out.policy.Version()
	frames := s.out.frames[:0]
	room := rules.NewRoom(maxSize, len(c.DCID))
	appended, first, priority := 0, datapath.Forwarded, uint8(255)
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
			if !f.Opened && (!f.Reason.Dropped() || f.Reason == datapath.ReasonDropStream) {
				continue
			}
			if first == datapath.Forwarded {
				first = f.Reason
			}
		}
		e.record.Frames = append(e.record.Frames, f)
	}
	if appended == 0 {
		e.record.Reason = first
		s.step()
		e.done, e.submitted = true, first != datapath.Forwarded
		return
	}
	e.record.Number = space.TakeNumber()
	packet := s.compose(c, &s.links[id], e.record.Number, priority, frames)
	e.record.Size = uint16(len(packet) - rules.HeaderLen(c.Local.Addr()))
	space.ChargeBudget(s.out.now, uint64(e.record.Size))
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
