package quicadapt

import (
	"net/netip"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// only returns the connection at an address, if there is just one.
func (b *Boundary) only(ap netip.AddrPort) *conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if l := b.byAddr[ap]; len(l) == 1 {
		return l[0]
	}
	return nil
}

// bySource returns the connection whose own ID is the source ID of a long header packet that quic-go sends. A guess by address
// may be wrong: where the peer's late packets look like a new connection, there are two.
func (b *Boundary) bySource(scid []byte) *conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byCID[string(scid)]
}

// find returns the connection at an address whose peer issued a connection ID.
func (b *Boundary) find(ap netip.AddrPort, cid []byte) *conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, c := range b.byAddr[ap] {
		if _, ok := c.peerCIDs[string(cid)]; ok {
			return c
		}
	}
	return nil
}

// findShort returns the connection that a short header packet of quic-go's belongs to: by address and connection ID, or,
// when it goes to a new address to probe the path, by connection ID alone.
func (b *Boundary) findShort(ap netip.AddrPort, p []byte) *conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	match := func(c *conn) bool {
		n := int(c.peerCIDLen.Load())
		if n <= 0 || len(p) < 1+n {
			return false
		}
		_, ok := c.peerCIDs[string(p[1:1+n])]
		return ok
	}
	for _, c := range b.byAddr[ap] {
		if match(c) {
			return c
		}
	}
	if len(b.byAddr[ap]) == 0 {
		for c := range b.conns {
			if match(c) {
				return c
			}
		}
	}
	return nil
}

// byLocalCID returns the connection that a received short header packet names.
func (b *Boundary) byLocalCID(p []byte) *conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(p) < 1+b.cidLen {
		return nil
	}
	if b.marked(p) {
		var id [datapath.CIDLen]byte
		copy(id[:datapath.CIDLen-1], p[1:])
		return b.byCID[string(id[:])]
	}
	return b.byCID[string(p[1:1+b.cidLen])]
}

func (b *Boundary) localCIDLen() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.cidLen
}

// learnOut learns from a long header packet that quic-go sends: our connection ID, and the length of the peer's.
func (b *Boundary) learnOut(c *conn, h *wire.LongHeader) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !c.dialed && c.peerCIDLen.Load() < 0 {
		c.settlePeer(len(h.DCID), isWildcard(h.DCID))
		c.peerCIDs[string(h.DCID)] = 0
	}
	if b.byCID[string(h.SCID)] == c {
		// quic-go may use an ID that came in a packet which could not be opened here yet.
		if len(c.peerCIDs) < maxPeerCIDs {
			if _, known := c.peerCIDs[string(h.DCID)]; !known {
				c.peerCIDs[string(h.DCID)] = 0
			}
		}
		return
	}
	if _, ours := c.peerCIDs[string(h.DCID)]; c.dialed && !ours {
		return // of a connection before it to the same address, which is not known any more
	}
	if _, known := c.localCIDs[0]; !known && len(h.SCID) == b.cidLen && b.byCID[string(h.SCID)] == nil {
		b.byCID[string(h.SCID)] = c
		c.localCIDs[0] = string(h.SCID)
	}
}

// learnIn learns from a received long header packet which is not authenticated: a client keeps the server's connection
// ID, a server notes whose Initial it is until quic-go accepts it.
func (b *Boundary) learnIn(h *wire.LongHeader, from netip.AddrPort) *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.byCID[string(h.DCID)]
	switch {
	case c != nil && c.dialed && (h.Type == wire.LongInitial || h.Type == wire.LongHandshake):
		// The server's first answer settles its connection ID; quic-go ignores packets with another one.
		if c.peerCIDLen.Load() < 0 {
			c.settlePeer(len(h.SCID), isWildcard(h.SCID))
		}
		if len(c.peerCIDs) < maxPeerCIDs { // these headers are easily forged
			c.peerCIDs[string(h.SCID)] = 0
		}
	case c == nil && h.Type == wire.LongInitial:
		b.initials.put(h.DCID, h.SCID)
	}
	return c
}

// maxPeerCIDs bounds what is remembered: quic-go keeps four, and closes the connection of a peer that sends too many.
const maxPeerCIDs = 64

// learnPeerCID enters a connection ID that the peer issued. The caller holds c.mu.
func (b *Boundary) learnPeerCID(c *conn, sequence uint64, cid []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(c.peerCIDs) < maxPeerCIDs {
		c.peerCIDs[string(cid)] = sequence
	}
}

// retirePeerCID forgets a connection ID of the peer's that quic-go retires, and does not use any more.
func (b *Boundary) retirePeerCID(c *conn, sequence uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for cid, s := range c.peerCIDs {
		if s == sequence {
			delete(c.peerCIDs, cid)
		}
	}
}

// issued enters a connection ID that quic-go issues. The caller holds c.mu.
func (c *conn) issued(sequence uint64, cid []byte) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.localCIDs[sequence] == string(cid) {
		return // repeated
	}
	c.localCIDs[sequence] = string(cid)
	c.b.byCID[string(cid)] = c
	c.dirty = c.dirty || c.isUpstream
}

// retired forgets a connection ID that the peer retires. quic-go may still get packets with it for a while: they pass
// untranslated and it drops them. The caller holds c.mu.
func (c *conn) retired(sequence uint64) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	cid, ok := c.localCIDs[sequence]
	if !ok || len(c.localCIDs) < 2 {
		return
	}
	delete(c.localCIDs, sequence)
	if c.b.byCID[cid] == c {
		delete(c.b.byCID, cid)
	}
	c.dirty = c.dirty || c.isUpstream
}
