package relay

import (
	"sync"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// fate is why a fast stream does not arrive whole, as far as it is known before it has ended.
type fate struct {
	mu  sync.Mutex
	why string
	cut datapath.Reason
}

// expect notes why the stream is going to be reset. The first to say so is believed.
func (f *fate) expect(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.why == "" {
		f.why = why
	}
}

// dropped returns the policy's reason, if it has dropped the stream.
func (f *fate) dropped() datapath.Reason {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut
}

// noteDropped notes that the policy has dropped the stream.
func (f *fate) noteDropped(r datapath.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = r
}

// of names how a stream ended that has not been delivered.
func (f *fate) of(o quicadapt.Outcome) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case o.Dropped != datapath.Forwarded:
		return o.Dropped.String()
	case o.Stopped:
		return "subscriber_stopped"
	case f.why != "":
		return f.why
	case o.Code == codeDeliveryTimeout:
		return "delivery_timeout"
	}
	return "cancelled"
}

// follow enters the stream into its subscription's ledger, which learns what becomes of it.
func (f *fastSender) follow(st *stream) {
	s, priority, fate, group := f.s, st.header.Priority, f.fate, st.header.Group
	if r, dropped := f.fs.Dropped(); dropped {
		fate.noteDropped(r)
		s.noteCut(group, s.rank(priority))
	}
	s.ledger.published(priority)
	f.fs.OnEnd(func(o quicadapt.Outcome) {
		switch {
		case o.Delivered:
			s.ledger.delivered(priority)
			return
		case !o.Begun:
			s.ledger.dropped(priority, fate.of(o))
		default:
			s.ledger.reset(priority, fate.of(o))
		}
		if o.Dropped != datapath.Forwarded {
			s.lost.Add(1)
			s.noteCut(group, s.rank(priority))
		}
	})
}

// rank returns the importance to the subscriber of what the publisher gives a priority, as it is now: an update of the subscription changes it,
// also that of streams in progress.
func (s *subscriber) rank(publisher uint8) uint16 {
	return datapath.Importance(uint8(s.priority.Load()), publisher)
}

// noteCut has the slow path send no more of a group of which something was dropped that the rest of it depends on.
func (s *subscriber) noteCut(group uint64, rank uint16) {
	if s.peer.regulator.cuts(rank) {
		for {
			old := s.cut.Load()
			if old > group || s.cut.CompareAndSwap(old, group+1) {
				return
			}
		}
	}
}
