package props_test

import (
	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
)

// drain reads the records.
func (w *world) drain() {
	drain := w.sim.Drain
	if w.bug.drain != nil {
		drain = func(f func(*datapath.Record)) error { return w.bug.drain(w, f) }
	}
	if t := w.sched.current; t != nil && w.bug.noWait {
		t.draining = true
		defer func() {
			t.draining = false
			if r := recover(); r != nil && r != errUnwritten {
				panic(r)
			}
		}()
	}
	w.must(drain(func(r *datapath.Record) {
		rec := *r
		rec.Frames = append([]datapath.RecordFrame(nil), r.Frames...)
		if w.bug.record == nil || w.bug.record(w, &rec) {
			w.record(&rec)
		}
	}))
}

// record takes a record, as quicadapt does.
func (w *world) record(r *datapath.Record) {
	w.records = append(w.records, *r)
	var c *connection
	for _, x := range w.all {
		if x.id == r.Client && x.generation == r.Generation {
			c = x
		}
	}
	if c == nil {
		w.violate("P7", "record of client %d, generation %d, which never was", r.Client, r.Generation)
		return
	}
	if r.Reason == datapath.Forwarded || r.Reason == datapath.ReasonSendFailed {
		was, ok := c.records[r.Number]
		if ok != (r.Reason == datapath.ReasonSendFailed) || ok && was.Reason == datapath.ReasonSendFailed {
			w.violate("P1", "record of number %d of connection %v says %v, the one before %v", r.Number, c, r.Reason, was.Reason)
		}
		if ok {
			was.Reason = r.Reason // the frames are in the first one
			c.records[r.Number] = was
			return
		}
		c.records[r.Number] = *r
	}
	p := w.pubs[r.Upstream]
	for i := range r.Frames {
		f := &r.Frames[i]
		if f.Datagram {
			continue
		}
		w.dropStream(r, f)
		var source *pubStream
		for _, s := range p.streams {
			if s.id == f.UpstreamStream {
				source = s
			}
		}
		s := c.streams[f.ClientStream]
		if source == nil || s == nil {
			if f.Reason == datapath.Forwarded {
				w.violate("P3", "record of stream %d → %d, one of which is nobody's", f.UpstreamStream, f.ClientStream)
			}
			continue
		}
		if f.Opened {
			w.opened(c, source, s)
		}
		if f.Reason == datapath.Forwarded {
			// Another CPU may have reserved its record before this one opened the stream. That record's bytes are sent again.
			if s.source != source && !(w.prof.anyCPU && s.source == nil) {
				w.violate("P3", "stream %d of connection %v was opened for another than %d", s.id, c, source.id)
			}
			s.highest = max(s.highest, f.Offset+uint64(f.Length))
		}
	}
}

// droppedStream is an upstream's stream that the policy dropped.
type droppedStream struct {
	upstream datapath.UpstreamID
	stream   uint64
}

// dropStream keeps which streams were dropped for whom: once, and for good. Where packets of a stream are on several CPUs, one that
// was begun may be dropped on one of them before another's record says that it was opened, or while it sends of it.
func (w *world) dropStream(r *datapath.Record, f *datapath.RecordFrame) {
	k := droppedStream{r.Upstream, f.UpstreamStream}
	atStart, was := w.dropped[r.Client][k]
	if was && (atStart || !w.prof.anyCPU) {
		w.violate("P7", "stream %d of client %d was dropped, and ends as %v", f.UpstreamStream, r.Client, f.Reason)
	}
	if f.Reason.Dropped() {
		if w.dropped[r.Client] == nil {
			w.dropped[r.Client] = make(map[droppedStream]bool)
		}
		w.dropped[r.Client][k] = f.Opened
	}
}

// opened is P3: a stream is opened for one stream, once, and before it was found slow.
func (w *world) opened(c *connection, source *pubStream, s *clientStream) {
	sub := c.subs[source.track]
	switch {
	case s.source != nil:
		w.violate("P3", "stream %d of connection %v is opened for %d, and was for %d", s.id, c, source.id, s.source.id)
	case sub == nil:
		if !c.gone {
			w.violate("P3", "stream %d is opened for connection %v, which is not subscribed", source.id, c)
		}
	case sub.opened[source] != nil:
		w.violate("P3", "stream %d is opened twice for connection %v", source.id, c)
	case sub.slow[source]:
		w.violate("P3", "stream %d is fast for connection %v, and was slow", source.id, c)
	case source.group < sub.FirstGroup:
		w.violate("P10", "stream of group %d is forwarded, the subscription starts at %d", source.group, sub.FirstGroup)
	}
	s.source, s.sub = source, sub
	if sub != nil {
		sub.opened[source] = s
	}
}

// read is userspace reading the packets at its socket: the records come first, and what has none is slow for good.
func (w *world) read() {
	packets := w.socket
	w.socket = nil
	if !w.bug.noDrain {
		w.drain()
	}
	for _, pk := range packets {
		for _, pc := range pk.pieces {
			if pc.stream == nil || pc.from > 0 {
				continue
			}
			first := !pc.stream.begun
			pc.stream.begun = true
			if first && !w.bug.askFirst {
				w.begin(pc.stream)
			}
			if !first && !pc.stream.asked {
				continue // the other reader is at it: a stream has one
			}
			pc.stream.asked = true
			for _, c := range w.all {
				if s := c.subs[pc.track]; s != nil && s.opened[pc.stream] == nil {
					s.slow[pc.stream] = true
				}
			}
			if first && w.bug.askFirst {
				w.begin(pc.stream)
			}
		}
	}
}

// begin is what userspace does before it asks who has a stream. If nobody does, the datapath may not have seen its start, and must
// not take it from a retransmission. If some do, that is under way or over.
func (w *world) begin(s *pubStream) {
	opened := false
	for _, c := range w.all {
		sub := c.subs[s.track]
		opened = opened || sub != nil && sub.opened[s] != nil
	}
	if !opened {
		w.must(w.sim.Evict([]datapath.StreamKey{{Upstream: s.pub.id, Client: datapath.NoClient, Stream: s.id}}))
	}
	if !w.bug.noDrain && !(opened && w.bug.askAmid) {
		w.drain()
	}
}

// op is something that userspace does; n and m say to whom and how much.
type op struct{ kind, n, m int }

const (
	opOwn = iota
	opOwnData
	opRepair
	opRead
	opAck
	opClose
	opStreamLimit
	opDataLimit
	opReserve
	opEvict
	opStill // those from here on change who is there
	opLeave
	opJoin
	opReplace
	opKinds
)

func drawOps(t *rapid.T, prof profile) []op {
	kinds := prof.kinds
	for k := 0; prof.kinds == nil && k < opKinds && !(prof.still && k >= opStill); k++ {
		kinds = append(kinds, k)
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
		return op{rapid.SampledFrom(kinds).Draw(t, "op"), rapid.IntRange(0, 11).Draw(t, "n"), rapid.IntRange(1, 60).Draw(t, "m")}
	}), 0, prof.ops).Draw(t, "ops")
}

// stream returns one of the connection's streams that the datapath has opened and that goes on.
func (c *connection) stream(n int) *clientStream {
	var list []*clientStream
	for id := uint64(3); id < c.nextID; id += 4 {
		if s := c.streams[id]; s.source != nil && !s.freed {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[n%len(list)]
}

func (w *world) do(o op) {
	c := w.live[datapath.ClientID(o.n%w.clients)]
	if c == nil {
		return // one goes, the next has not come
	}
	if o.kind < opRead || o.kind > opAck && o.kind < opStill {
		// What touches the connection is done under its lock.
		for c.busy {
			w.sched.step(true)
		}
		c.busy = true
		defer func() { c.busy = false }()
	}
	if c.gone {
		return
	}
	tracks := w.pubs[o.m%len(w.pubs)].tracks
	tr := tracks[o.n%len(tracks)]
	switch o.kind {
	case opOwn:
		if size := min(uint64(o.m)*4, windowSize); w.prof.window == 0 {
			w.own(c, "quic-go")
		} else if c.space.Budget(0, size) == datapath.Forwarded {
			if !w.bug.budget.noCharge {
				c.space.ChargeBudget(0, size)
			}
			w.checkBudget(c, int(size))
			w.own(c, "quic-go")
		}
	case opOwnData:
		if w.charge(c, uint64(o.m)) {
			w.own(c, "quic-go")
		}
	case opRepair:
		w.repair(c, c.stream(o.n/2), uint64(o.m))
	case opRead:
		w.read()
	case opAck:
		w.ack(c)
	case opClose:
		if s := c.stream(o.n / 2); s != nil && !s.closed {
			final := c.space.CloseStream(s.slot)
			if w.bug.finalSize != nil {
				final = w.bug.finalSize(w, c, s, final)
			}
			s.closed, s.final = true, final
			s.highest = max(s.highest, final)
			if s.onWire > final {
				w.violate("P4", "final size of stream %d is %d, %d were sent", s.id, final, s.onWire)
			}
		}
	case opStreamLimit:
		if s := c.stream(o.n / 2); s != nil {
			s.limit += uint64(o.m)
			c.space.SetStreamLimit(s.slot, s.limit)
		}
	case opDataLimit:
		c.maxData += uint64(o.m)
		c.space.SetDataLimit(c.maxData)
	case opReserve:
		w.reserve(c)
	case opEvict:
		w.evict(c, o)
	case opLeave:
		w.leave(c, tr)
	case opJoin:
		w.join(c, tr, uint64(o.m%2))
	case opReplace:
		w.disconnect(c, uint64(o.m))
	}
}

// own sends a packet of userspace.
func (w *world) own(c *connection, by string) {
	take := c.space.TakeNumber
	if w.bug.take != nil {
		take = func() uint64 { return w.bug.take(w, c) }
	}
	n := take()
	c.use(w, n, by)
	c.largest = max(c.largest, n+1)
}

func (w *world) charge(c *connection, n uint64) bool {
	if w.bug.charge != nil {
		if !w.bug.charge(w, c, n) {
			return false
		}
	} else if !c.space.Charge(n, c.maxData) {
		return false
	}
	c.ownData += n
	return true
}

// repair sends more of a stream that the datapath opened.
func (w *world) repair(c *connection, s *clientStream, n uint64) {
	if s == nil || s.closed {
		return
	}
	end := min(s.highest+n, s.limit)
	ok := false
	if w.bug.advance != nil {
		ok = w.bug.advance(w, c, s, end)
	} else {
		ok = c.space.Advance(s.slot, end, c.maxData)
	}
	if !ok {
		return
	}
	s.highest, s.onWire = max(s.highest, end), max(s.onWire, end)
	w.own(c, "a repair")
}

// ack is a client that acknowledges all that it got: before that is processed, the records of it have been read (P6).
func (w *world) ack(c *connection) {
	var names []uint64
	for n := range c.wire {
		names = append(names, n)
	}
	if !w.bug.noDrain {
		w.drain()
	}
	for _, n := range names {
		if _, ok := c.records[n]; !ok {
			w.violate("P6", "packet %d of connection %v is acknowledged before its record was read", n, c)
		}
	}
}

// evict is userspace forgetting a stream: one that is closed, for the client, or a publisher's for good.
func (w *world) evict(c *connection, o op) {
	if o.m%4 == 0 {
		p := w.pubs[o.m%len(w.pubs)]
		s := p.streams[o.n%len(p.streams)]
		w.must(w.sim.Evict([]datapath.StreamKey{{Upstream: p.id, Client: datapath.NoClient, Stream: s.id}}))
		return
	}
	s := c.stream(o.n / 2)
	if s == nil || !s.closed {
		return
	}
	s.freed = true
	w.must(w.sim.Evict([]datapath.StreamKey{{Upstream: s.source.pub.id, Client: c.id, Stream: s.source.id}}))
	c.free = append(c.free, s.slot)
}
