package quicadapt

import (
	"fmt"
	"slices"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath"
)

var errBlind = fmt.Errorf("%w to this boundary: its records could not be read", datapath.ErrClosed)

// endFastPath gives the datapath up for good, as when its records cannot be read or it was closed under its users. Nobody knows what it has
// sent since they last were, and packets go on through it: each would make worse what has to be put right. So it is kept from sending, the streams that
// it may have opened unseen are reset, and everything is userspace's from here on. Nothing is missing or hangs; what such a stream
// had brought, and datagrams of that moment, come once more.
func (b *Boundary) endFastPath(err error) {
	if b.blind.Swap(true) {
		return
	}
	b.cfg.Logger.Error("datapath's records cannot be read: everything goes through userspace from now on", "err", err)
	b.mu.RLock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.RUnlock()
	for _, c := range conns {
		c.leaveFastPath()
	}
	b.wake()
}

// leaveFastPath takes a connection out of a datapath that has been given up. Its packet numbers, credit and streams go on in the same words.
func (c *conn) leaveFastPath() {
	dp := c.b.cfg.Datapath
	c.mu.Lock()
	client, up, joined, isUp := c.clientID, c.upstreamID, c.joined, c.isUpstream
	c.tellBudget() // no more
	c.mu.Unlock()
	// They may fail too; then the budget and the closed streams hold the datapath.
	if isUp {
		_ = dp.SetUpstream(up, nil)
	}
	if !joined {
		return
	}
	_, _ = dp.SetClient(client, nil)
	c.mu.Lock()
	unused := c.endUnseen()
	c.loss.Recount(c.space.Sent()) // packets without a record never leave flight
	c.unlockAndSend()
	for _, s := range unused {
		if s != nil {
			s.CancelWrite(0)
		}
	}
}

// endUnseen resets the streams that the datapath has sent on and no record tells of, with the size that the client knows. It returns those
// that it has not sent on, which quic-go may end. The caller holds mu.
func (c *conn) endUnseen() (unused []*quic.SendStream) {
	ids := make([]uint64, 0, len(c.reserved))
	for id := range c.reserved {
		if c.streams[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		slot := c.slotOf[id]
		if c.space.CloseStream(slot) > 0 {
			s := &FastStream{c: c, id: id, slot: slot, order: c.stats.FastStreams}
			c.streams[id] = s
			c.taken.put(id)
			c.stats.FastStreams++
			s.resetLocked(codeInternal)
			continue
		}
		unused = append(unused, c.reserved[id])
		delete(c.reserved, id)
		delete(c.slotOf, id)
	}
	return unused
}
