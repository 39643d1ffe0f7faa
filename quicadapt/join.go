package quicadapt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath"
)

// ErrNotReady says that a connection has not sent or received any 1-RTT packet yet.
var ErrNotReady = errors.New("connection has no 1-RTT keys yet")

// Client joins the connection to the datapath as a client, and returns its ID. It may be called again.
func (c *Conn) Client() (datapath.ClientID, error) { return c.c.join() }

// Upstream makes the connection known to the datapath as an upstream, and returns its ID. It may be called again.
func (c *Conn) Upstream() (datapath.UpstreamID, error) { return c.c.makeUpstream() }

func (c *conn) join() (datapath.ClientID, error) {
	b := c.b
	if b.cfg.Datapath == nil {
		return 0, errNoDatapath
	}
	if b.blind.Load() {
		return 0, errBlind
	}
	c.mu.Lock()
	switch {
	case c.joined:
		c.mu.Unlock()
		return c.clientID, nil
	case c.closed:
		c.mu.Unlock()
		return 0, ErrStreamClosed
	case c.quicOut == nil || len(c.dcid) == 0 && c.peerCIDLen.Load() != 0:
		c.mu.Unlock()
		return 0, ErrNotReady
	}
	c.startTranslating() // keys may have been updated before
	desc := c.describe()
	c.mu.Unlock()

	id, err := reserveID(b, b.clients, c)
	if err != nil {
		return 0, fmt.Errorf("client: %w", err)
	}
	space, err := b.cfg.Datapath.SetClient(datapath.ClientID(id), desc)
	if err != nil {
		releaseID(b, b.clients, id)
		return 0, fmt.Errorf("client: %w", err)
	}
	c.mu.Lock()
	if c.closed || c.joined {
		joined, other := c.joined, c.clientID
		c.mu.Unlock()
		_, err := b.cfg.Datapath.SetClient(datapath.ClientID(id), nil)
		releaseID(b, b.clients, id)
		if joined {
			return other, err
		}
		return 0, errors.Join(ErrStreamClosed, err)
	}
	c.loss.RTT.Confirmed = true
	old := c.space
	space.SetNext(old.Next())
	space.Charge(c.ownData, 1<<62)
	c.space, c.clientID, c.joined = space, datapath.ClientID(id), true
	c.loss.Recount(space.Sent())
	if desc.Protection.Generation != c.wireOutGen {
		c.stale, c.dirty = true, true // updated meanwhile
	}
	c.setMaxSize(c.maxSize)
	c.updateCredit()
	_ = c.space.SetPolicy(&c.policy) // has been checked
	c.tellBudget()
	for i := range datapath.Slots {
		c.freeSlots = append(c.freeSlots, uint8(i))
	}
	c.mu.Unlock()
	if b.blind.Load() { // since then
		c.leaveFastPath()
		return 0, errBlind
	}
	c.refill()
	b.wake()
	return c.clientID, nil
}

// describe describes the connection as a client. The caller holds mu.
func (c *conn) describe() *datapath.Client {
	secret := c.secretServer
	if c.dialed {
		secret = c.secretClient
	}
	return &datapath.Client{
		Local: c.localAddr(), Remote: c.remote, DCID: append([]byte(nil), c.dcid...), MaxSize: c.datapathSize(), MaxDatagram: c.maxDatagram,
		Protection: c.protection(c.wireOut, secret, c.wireOutGen), PriorityCID: c.marks.Load() && isWildcard(c.dcid),
	}
}

func (c *conn) localAddr() netip.AddrPort {
	if qc := c.qc.Load(); qc != nil {
		return addrPort(qc.LocalAddr())
	}
	return addrPort(c.b.LocalAddr())
}

func (c *conn) makeUpstream() (datapath.UpstreamID, error) {
	b := c.b
	if b.cfg.Datapath == nil {
		return 0, errNoDatapath
	}
	if b.blind.Load() {
		return 0, errBlind
	}
	c.mu.Lock()
	switch {
	case c.isUpstream:
		c.mu.Unlock()
		return c.upstreamID, nil
	case c.closed:
		c.mu.Unlock()
		return 0, ErrStreamClosed
	case c.quicOut == nil:
		c.mu.Unlock()
		return 0, ErrNotReady
	}
	c.publishes = true
	desc := c.describeUpstream()
	c.mu.Unlock()
	id, err := reserveID(b, b.ups, c)
	if err != nil {
		return 0, fmt.Errorf("upstream: %w", err)
	}
	if err := b.cfg.Datapath.SetUpstream(datapath.UpstreamID(id), desc); err != nil {
		releaseID(b, b.ups, id)
		return 0, fmt.Errorf("upstream: %w", err)
	}
	c.mu.Lock()
	if c.closed || c.isUpstream {
		was, other := c.isUpstream, c.upstreamID
		c.mu.Unlock()
		err := b.cfg.Datapath.SetUpstream(datapath.UpstreamID(id), nil)
		releaseID(b, b.ups, id)
		if was {
			return other, err
		}
		return 0, errors.Join(ErrStreamClosed, err)
	}
	c.isUpstream, c.upstreamID, c.memory = true, datapath.UpstreamID(id), new(streamMemory)
	c.dirty = true // connection IDs may have been issued meanwhile
	c.mu.Unlock()
	if b.blind.Load() { // since then
		c.leaveFastPath()
		return 0, errBlind
	}
	b.wake()
	return c.upstreamID, nil
}

// describeUpstream describes the connection as an upstream. The caller holds mu.
func (c *conn) describeUpstream() *datapath.Upstream {
	u := &datapath.Upstream{Remote: c.remote, Streams: 2, NextNumber: c.nextIn, PriorityCID: c.marks.Load()}
	secret := c.secretClient
	if c.dialed {
		u.Streams, secret = 3, c.secretServer
	}
	c.b.mu.RLock()
	for _, cid := range c.localCIDs {
		if len(cid) == datapath.CIDLen {
			u.CIDs = append(u.CIDs, []byte(cid))
		}
	}
	c.b.mu.RUnlock()
	u.Protection = c.protection(c.wireIn, secret, c.wireIn.Generation())
	return u
}

// update tells the datapath what has changed of a connection. What it does not take it is told again; update returns when, 0 for never.
func (c *conn) update() (again int64) {
	c.mu.Lock()
	if !c.dirty || c.closed || c.b.blind.Load() {
		c.mu.Unlock()
		return 0
	}
	if c.refused && c.b.now() < c.updateAt {
		defer c.mu.Unlock()
		return c.updateAt
	}
	c.dirty = false
	generation := c.wireOutGen
	var client *datapath.Client
	var up *datapath.Upstream
	if c.joined {
		client = c.describe()
	}
	if c.isUpstream {
		up = c.describeUpstream()
	}
	clientID, upID := c.clientID, c.upstreamID
	c.mu.Unlock()
	dp := c.b.cfg.Datapath
	var errClient, errUp error
	if client != nil {
		_, errClient = dp.SetClient(clientID, client)
	}
	if up != nil {
		errUp = dp.SetUpstream(upID, up)
	}
	return c.updated(client != nil, generation, errClient, errUp)
}

// updated notes whether the datapath has taken a connection's description, and with it, if it was told of a client, a generation of keys.
// What it knows of a client that it has not taken is out of date: until it has, the datapath does not send, and userspace does.
func (c *conn) updated(told bool, generation uint64, client, up error) (again int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(client, up)
	first := !c.refused
	c.refused = err != nil && !errors.Is(err, datapath.ErrClosed)
	if stale := client != nil || generation != c.wireOutGen; told && c.stale != stale {
		c.stale = stale
		c.tellBudget()
	}
	if !c.refused {
		return 0
	}
	if first {
		c.b.cfg.Logger.Warn("datapath did not take a change of a connection; it is told again", "remote", c.remote, "err", err)
	}
	c.dirty, c.updateAt = true, c.b.now()+int64(c.b.cfg.DrainInterval)
	return c.updateAt
}

func reserveID(b *Boundary, table []*conn, c *conn) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, x := range table {
		if x == nil {
			table[i] = c
			return i, nil
		}
	}
	return 0, datapath.ErrFull
}

func releaseID(b *Boundary, table []*conn, id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	table[id] = nil
}

// OpenUniStream is quic-go's. What it opens counts when streams are reserved for the datapath: what they leave of the peer's
// limit would otherwise be taken for more than it is, and reserved to the last one.
func (c *Conn) OpenUniStream() (*quic.SendStream, error) {
	s, err := c.Conn.OpenUniStream()
	c.c.noteOpened(s, err)
	return s, err
}

// OpenUniStreamSync is quic-go's, see OpenUniStream.
func (c *Conn) OpenUniStreamSync(ctx context.Context) (*quic.SendStream, error) {
	s, err := c.Conn.OpenUniStreamSync(ctx)
	c.c.noteOpened(s, err)
	return s, err
}

func (c *conn) noteOpened(s *quic.SendStream, err error) {
	if err != nil {
		return
	}
	c.mu.Lock()
	c.lastOpened = max(c.lastOpened, uint64(s.StreamID())>>2+1)
	c.mu.Unlock()
}

// refill reserves stream IDs for the datapath: quic-go opens streams that it never writes to, so the peer's limit on
// streams is exact. The pool takes at most half of what the peer still allows, and the other half is quic-go's.
func (c *conn) refill() {
	qc := c.qc.Load()
	if qc == nil {
		return
	}
	for {
		c.mu.Lock()
		want := c.joined && !c.closed && !c.b.blind.Load() && len(c.freeSlots) > 0 && c.space.PoolLen() < c.poolTarget()
		c.mu.Unlock()
		if !want {
			return
		}
		s, err := qc.OpenUniStream()
		if err != nil {
			return // no credit: MAX_STREAMS wakes us
		}
		id := uint64(s.StreamID())
		c.mu.Lock()
		c.lastOpened = max(c.lastOpened, id>>2+1)
		slot := c.freeSlots[0]
		if !c.space.Reserve(id, slot, c.streamLimit) {
			c.mu.Unlock()
			s.CancelWrite(0)
			return
		}
		c.freeSlots = c.freeSlots[1:]
		c.reserved[id] = s
		c.slotOf[id] = slot
		c.mu.Unlock()
	}
}

// poolTarget returns how many stream IDs the pool should hold. The caller holds mu.
func (c *conn) poolTarget() int {
	left := 0
	if c.maxStreams > c.lastOpened {
		left = int(min(c.maxStreams-c.lastOpened, 1<<20))
	}
	return min(datapath.PoolSize, (c.space.PoolLen()+left)/2)
}

// cleanUp gives back what finished streams held: the datapath's entry, the slot, and quic-go's stream. It is batched,
// since the last costs a packet.
func (c *conn) cleanUp(now int64) {
	const batch, delay = 16, int64(250e6)
	c.mu.Lock()
	if n := len(c.finished); n == 0 || c.closed ||
		n < batch && now-c.lastCleanUp < delay && c.space.PoolLen() > datapath.PoolSize/4 {
		c.mu.Unlock()
		return
	}
	c.lastCleanUp = now
	done := c.finished
	c.finished = nil
	keys := make([]datapath.StreamKey, 0, len(done))
	for _, s := range done {
		keys = append(keys, datapath.StreamKey{Upstream: s.upstream, Client: c.clientID, Stream: s.source})
	}
	c.mu.Unlock()
	if !c.b.blind.Load() { // otherwise it has nothing of the client
		if err := c.b.cfg.Datapath.Evict(keys); err != nil && !errors.Is(err, datapath.ErrClosed) {
			c.b.cfg.Logger.Warn("datapath did not evict streams", "err", err)
		}
	}
	for _, s := range done {
		if s.unborn {
			continue
		}
		c.mu.Lock()
		q := c.reserved[s.id]
		delete(c.reserved, s.id)
		delete(c.slotOf, s.id)
		delete(c.streams, s.id)
		c.freeSlots = append(c.freeSlots, s.slot)
		c.mu.Unlock()
		if q != nil {
			q.CancelWrite(0) // its RESET_STREAM does not reach the wire
		}
	}
}
