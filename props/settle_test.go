package props_test

import (
	"bytes"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// settle checks what holds when everything has come to rest.
func (w *world) settle() {
	for _, c := range w.all {
		w.settleNumbers(c)
		w.settlePackets(c)
		if !c.gone {
			w.settleCredit(c)
		}
	}
	if w.prof.still {
		w.settleCounters()
	}
}

// settleNumbers is P1: what was taken was sent, or told to have failed. There are no gaps.
func (w *world) settleNumbers(c *connection) {
	for n := range c.wire {
		if _, ok := c.records[n]; !ok {
			w.violate("P6", "number %d of connection %v was sent and has no record", n, c)
		}
	}
	for n, r := range c.records {
		_, sent := c.wire[n]
		switch {
		case !sent && !c.failed[n]:
			w.violate("P1", "record says that number %d of connection %v was sent, and it was not", n, c)
		case c.failed[n] != (r.Reason == datapath.ReasonSendFailed) && !w.prof.tight: // a full ring has no room to say it
			w.violate("P7", "number %d of connection %v ended as %v", n, c, r.Reason)
		}
	}
	if c.gone {
		return // its space belongs to another
	}
	for n := c.first; n < c.space.Next(); n++ {
		if _, ok := c.numbers[n]; !ok {
			w.violate("P1", "number %d of connection %v was taken and not used", n, c)
		}
	}
	for n := range c.numbers {
		if n >= c.space.Next() {
			w.violate("P1", "number %d of connection %v was used, and will be again", n, c)
		}
	}
}

// settlePackets compares every packet with its record, and the streams' bytes with the publisher's (P2, P3).
func (w *world) settlePackets(c *connection) {
	for n, p := range c.wire {
		r, ok := c.records[n]
		if !ok {
			continue
		}
		if int(r.Size) != p.size {
			w.violate("P7", "record of number %d has %d bytes, %d were sent", n, r.Size, p.size)
		}
		frames, priority := p.payload, uint8(255)
		for _, rf := range r.Frames {
			if rf.Reason != datapath.Forwarded {
				continue
			}
			var f wire.Frame
			k, err := f.Parse(frames)
			if err != nil {
				w.violate("P2", "number %d: %v", n, err)
				break
			}
			frames, priority = frames[k:], min(priority, rf.Priority)
			if f.IsDatagram() != rf.Datagram || len(f.Data) != int(rf.Length) {
				w.violate("P7", "number %d: record has frame %+v, sent was %+v", n, rf, f)
				continue
			}
			if !rf.Datagram {
				w.settleFrame(c, &f, &rf)
			}
		}
		if c.marked && p.mark != priority {
			w.violate("P7", "number %d tells priority %d, its most important frame has %d", n, p.mark, priority)
		}
		if len(frames) > 0 {
			w.violate("P10", "number %d has frames that nobody asked for: %x", n, frames)
		}
	}
}

func (w *world) settleFrame(c *connection, f *wire.Frame, rf *datapath.RecordFrame) {
	s := c.streams[f.V[0]]
	if f.V[0] != rf.ClientStream || f.Offset != rf.Offset || f.Fin != rf.Fin || s == nil || s.source == nil {
		w.violate("P3", "record has stream %d, offset %d, sent was %d, %d", rf.ClientStream, rf.Offset, f.V[0], f.Offset)
		return
	}
	if s.source.id != rf.UpstreamStream {
		w.violate("P3", "stream %d carries %d and %d", s.id, s.source.id, rf.UpstreamStream)
	}
	if s.sub == nil {
		return
	}
	want := s.source.rewritten(s.sub.Alias)
	end := f.Offset + uint64(len(f.Data))
	if end > uint64(len(want)) || !bytes.Equal(f.Data, want[f.Offset:end]) || f.Fin && end != uint64(len(want)) {
		w.violate("P2", "bytes %d to %d of stream %d differ from the publisher's stream %d", f.Offset, end, s.id, s.source.id)
	}
}

// settleCredit is P4: what is charged is what the streams hold, so that credit of whatever failed has come back.
func (w *world) settleCredit(c *connection) {
	sum := c.ownData
	for _, s := range c.streams {
		sum += s.highest
		if s.closed && s.highest > s.final {
			w.violate("P4", "stream %d has %d bytes, its final size is %d", s.id, s.highest, s.final)
		}
	}
	if used := c.space.DataUsed(); used != sum {
		w.violate("P4", "connection %v has used %d bytes of credit, its streams hold %d", c, used, sum)
	}
	if sum > c.maxData {
		w.violate("P4", "connection %v has used %d bytes, MAX_DATA is %d", c, sum, c.maxData)
	}
}

// settleCounters is P7, where everybody is subscribed to everything all the time: each packet, each frame, and each frame
// for each client ended once.
func (w *world) settleCounters() {
	counters, err := w.sim.Counters()
	w.must(err)
	if w.bug.counters != nil {
		w.bug.counters(&counters)
	}
	sum := func(from, to datapath.Reason) (n uint64) {
		for r := from; r <= to; r++ {
			n += counters[r]
		}
		return n
	}
	var packets, fresh, media, wires, failed uint64
	for _, p := range w.pubs {
		for _, pk := range p.packets {
			packets++
			if !w.seen[p][pk.number] {
				w.seen[p][pk.number] = true
				fresh++
				media += uint64(min(len(pk.pieces), datapath.MaxForward))
			}
		}
	}
	if n := sum(datapath.ReasonLongHeader, datapath.ReasonNoMedia); n != packets-fresh || counters[datapath.ReasonReplay] != n {
		w.violate("P7", "of %d packets %d are fresh, and %d ended as packets", packets, fresh, n)
	}
	wanted := media - sum(datapath.ReasonUnknownTrack, datapath.ReasonTooManyMedia)
	clients := counters[datapath.Forwarded] + sum(datapath.ReasonStaleClient, datapath.ReasonDropStream)
	if w.prof.single && clients != wanted*uint64(len(w.live)) || clients > wanted*uint64(len(w.live)) {
		w.violate("P7", "%d frames for %d clients ended %d times: %v", wanted, len(w.live), clients, counters.Map())
	}
	if !w.prof.single && !w.prof.tight && clients != wanted*uint64(len(w.live)) {
		w.violate("P7", "%d frames for %d clients ended %d times: %v", wanted, len(w.live), clients, counters.Map())
	}
	dropped := uint64(0)
	for _, r := range w.records {
		for _, f := range r.Frames {
			if f.Reason.Dropped() {
				dropped++
			}
		}
	}
	if n := sum(datapath.ReasonDropShare, datapath.ReasonDropGroup); dropped != n {
		w.violate("P7", "records have %d frames that were dropped, counted are %d", dropped, n)
	}
	for _, c := range w.all {
		for n, r := range c.records {
			for _, f := range r.Frames {
				switch {
				case f.Reason != datapath.Forwarded:
				case c.failed[n]:
					failed++
				default:
					wires++
				}
			}
		}
	}
	if wires != counters[datapath.Forwarded] || failed != counters[datapath.ReasonSendFailed] {
		w.violate("P7", "records have %d frames sent and %d failed, counted are %d and %d", wires, failed,
			counters[datapath.Forwarded], counters[datapath.ReasonSendFailed])
	}
	got := uint64(0)
	for _, c := range w.all {
		for _, p := range c.wire {
			got += mediaFrames(p.payload)
		}
	}
	if got != counters[datapath.Forwarded] {
		w.violate("P7", "clients got %d frames, counted are %d", got, counters[datapath.Forwarded])
	}
}

func mediaFrames(b []byte) (n uint64) {
	var f wire.Frame
	for len(b) > 0 {
		k, err := f.Parse(b)
		if err != nil {
			return n
		}
		b = b[k:]
		if f.IsStream() || f.IsDatagram() {
			n++
		}
	}
	return n
}
