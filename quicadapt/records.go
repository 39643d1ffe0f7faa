package quicadapt

import (
	"errors"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/recovery"
)

// drain reads the datapath's records, and enters each into its connection's registry.
func (b *Boundary) drain() {
	if b.cfg.Datapath == nil {
		return
	}
	if err := b.cfg.Datapath.Drain(b.onRecord); err != nil && !errors.Is(err, datapath.ErrClosed) {
		b.cfg.Logger.Warn("datapath's records cannot be read", "err", err)
	}
}

func (b *Boundary) onRecord(r *datapath.Record) {
	if b.cfg.OnRecord != nil {
		b.cfg.OnRecord(r)
	}
	b.mu.RLock()
	var c *conn
	if int(r.Client) < len(b.clients) {
		c = b.clients[r.Client]
	}
	b.mu.RUnlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	c.record(r)
	c.mu.Unlock()
}

// record enters what the datapath did with one packet. The caller holds mu.
func (c *conn) record(r *datapath.Record) {
	if !c.joined || r.Generation != c.space.Generation() {
		return // of a predecessor
	}
	at := int64(r.Time.Sub(c.b.start))
	if r.Reason == datapath.ReasonSendFailed && len(r.Frames) == 0 && c.loss.Seen(r.Number) {
		c.sendFailed(r.Number)
		return
	}
	var e *carried
	if r.Reason == datapath.Forwarded || r.Reason == datapath.ReasonSendFailed {
		e = c.sent(r.Number, at, int(r.Size), recovery.Ours)
	}
	for i := range r.Frames {
		f := &r.Frames[i]
		s := c.streams[f.ClientStream]
		switch {
		case f.Opened:
			s = c.openFast(r.Upstream, f, at)
		case f.Datagram && f.Reason.Dropped():
			c.datagrams.put(datagramKey{r.Upstream, r.UpstreamNumber, f.UpstreamStream}, f.Reason)
		case f.Reason.Dropped() && s != nil:
			s.cut(f.Reason)
		case f.Reason.Dropped() && c.slotOf[f.ClientStream] == f.Slot && c.reserved[f.ClientStream] != nil:
			c.cutEarly[f.ClientStream] = f.Reason // of another CPU; the record of its opening follows
		}
		if r.Reason != datapath.Forwarded || f.Reason != datapath.Forwarded || e == nil {
			continue
		}
		switch {
		case f.Datagram:
			c.datagrams.put(datagramKey{r.Upstream, r.UpstreamNumber, f.UpstreamStream}, datapath.Forwarded)
			c.stats.ForwardedBytes += uint64(f.Length)
		case s != nil && !s.done && int(e.n) < len(e.frames): // what has no place here is not covered, and is sent again
			hi := f.Offset + uint64(f.Length)
			c.stats.ForwardedBytes += s.covered(f.Offset, hi, f.Fin)
			e.frames[e.n] = sentFrame{stream: s, lo: f.Offset, hi: hi, fin: f.Fin}
			e.n++
		}
	}
	if e == nil {
		return
	}
	if r.Reason == datapath.ReasonSendFailed {
		c.sendFailed(r.Number) // it carries nothing: what it should have is not covered, and sent like that
		return
	}
	c.stats.ForwardedPackets++
	c.skipSome()
}

// sendFailed handles a packet that is known and could not be sent after all: what it carried is lost at once.
func (c *conn) sendFailed(number uint64) {
	if c.loss.Lose(number, c.b.now()) {
		c.tellBudget()
		c.b.wake()
	}
}

// openFast enters a stream that the datapath opened. It returns nil if that cannot be: the stream is not reserved in that slot, or is open
// already.
func (c *conn) openFast(up datapath.UpstreamID, f *datapath.RecordFrame, at int64) *FastStream {
	if slot, ok := c.slotOf[f.ClientStream]; !f.Reason.Dropped() && (!ok || slot != f.Slot || c.streams[f.ClientStream] != nil) {
		c.b.cfg.Logger.Warn("datapath opened a stream that is not its to open", "client", c.clientID, "stream", f.ClientStream, "slot", f.Slot)
		return nil
	}
	if old := c.bySource[sourceKey{up, f.UpstreamStream}]; old != nil {
		old.resetLocked(codeCancelled) // of the upstream that had the ID before: nobody comes for it
	}
	s := &FastStream{c: c, id: f.ClientStream, upstream: up, track: f.Track, source: f.UpstreamStream, slot: f.Slot, opened: at, priority: f.Priority,
		rank: datapath.Importance(f.Subscriber, f.Priority), order: c.stats.FastStreams}
	c.bySource[sourceKey{up, s.source}] = s
	if f.Reason.Dropped() {
		s.dropped, s.unborn = f.Reason, true
		return s
	}
	c.streams[s.id] = s
	c.taken.put(s.id)
	c.stats.FastStreams++
	if r, ok := c.cutEarly[s.id]; ok {
		delete(c.cutEarly, s.id)
		s.cut(r)
	}
	c.b.wake() // the pool
	return s
}

// Opened says whether FastStream would return a sender. It may be asked again.
func (c *Conn) Opened(up datapath.UpstreamID, stream uint64) bool {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.bySource[sourceKey{up, stream}] != nil
}

// Settle makes FastStream's answers for a stream of this upstream final: it reads what the datapath has done until now. With evict, as
// is right where nobody is known to have the stream, it first keeps the datapath from opening it: a packet that the datapath could not
// read may have brought the stream's start here, and a retransmission would open it.
func (c *Conn) Settle(stream uint64, evict bool) error {
	x := c.c
	x.mu.Lock()
	key := datapath.StreamKey{Upstream: x.upstreamID, Client: datapath.NoClient, Stream: stream}
	is := x.isUpstream
	x.mu.Unlock()
	var err error
	if is && evict {
		err = x.b.cfg.Datapath.Evict([]datapath.StreamKey{key})
	}
	x.b.drain()
	return err
}

// FastStream returns the sender of the stream that the datapath opened on this connection for a stream of an upstream; nil if
// it did not, and the stream is the slow path's, for good. To be asked once for each stream, when its first bytes have
// been read from the upstream and Settle has made the answer final.
func (c *Conn) FastStream(up datapath.UpstreamID, stream uint64) *FastStream {
	x := c.c
	x.mu.Lock()
	defer x.mu.Unlock()
	k := sourceKey{up, stream}
	s := x.bySource[k]
	if s == nil {
		return nil
	}
	delete(x.bySource, k)
	return s
}
