package quicadapt

import (
	"net/netip"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// maxPaths bounds the addresses of one connection that are probed at a time; quic-go probes three.
const maxPaths = 4

// path is an address of the peer that quic-go probes.
type path struct {
	addr       netip.AddrPort
	challenges [4][8]byte // the last ones
	n          int
	cid        []byte // that quic-go uses there
	validated  bool
	nonProbing bool // the peer sent something from there that moves it (RFC 9000, section 9.2)
}

// pathTo returns the state of a path, nil if it is not probed.
func (c *conn) pathTo(addr netip.AddrPort) *path {
	for i := range c.paths {
		if c.paths[i].addr == addr {
			return &c.paths[i]
		}
	}
	return nil
}

// sentElsewhere looks at a packet of quic-go's to another address than the connection's, c.opened. If it has more than probing
// frames the peer has moved.
func (c *conn) sentElsewhere(to netip.AddrPort, cid []byte) {
	c.knowAddress(to)
	f := &c.frame
	payload := c.opened.Payload
	p := c.pathTo(to)
	if p == nil {
		if len(c.paths) >= maxPaths {
			c.paths = append(c.paths[:0], c.paths[1:]...)
		}
		c.paths = append(c.paths, path{addr: to})
		p = &c.paths[len(c.paths)-1]
	}
	p.cid = append(p.cid[:0], cid...)
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			break
		}
		if f.Type == wire.FramePathChallenge && n == 9 {
			p.challenges[p.n%len(p.challenges)] = [8]byte(payload[at+1 : at+9])
			p.n++
		}
		at += n
	}
	if !isProbing(f, payload) {
		c.move(to, cid)
	}
}

// cameFrom looks at an authentic packet with a number from another address than the connection's. A validated path from
// which the newest packet comes, and anything but probes has come, is the connection's from now on (RFC 9000, section 9.3).
// quic-go thinks the same, but to a peer that only receives what the datapath sends it has nothing to send that would tell
// us, until it acknowledges.
func (c *conn) cameFrom(from netip.AddrPort, payload []byte, number uint64) {
	if c.dialed {
		return // only clients move
	}
	f := &c.frame
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			return
		}
		if f.Type == wire.FramePathResponse && n == 9 {
			c.validate([8]byte(payload[at+1 : at+9]))
		}
		at += n
	}
	p := c.pathTo(from)
	if p == nil {
		return
	}
	p.nonProbing = p.nonProbing || !isProbing(f, payload)
	if p.validated && p.nonProbing && number >= c.nextIn {
		c.move(from, p.cid)
	}
}

// validate notes that the peer answered a PATH_CHALLENGE. Which way the answer came does not matter (RFC 9000, section 8.2.2).
func (c *conn) validate(data [8]byte) {
	for i := range c.paths {
		p := &c.paths[i]
		for _, sent := range p.challenges[:min(p.n, len(p.challenges))] {
			p.validated = p.validated || sent == data
		}
	}
}

// move sends to another address from now on, and has the datapath do so. What is known of the old path says nothing about
// the new one, unless only the port has changed (RFC 9000, section 9.4).
func (c *conn) move(to netip.AddrPort, cid []byte) {
	if to == c.remote {
		return
	}
	c.search = sizeSearch{}
	c.setMaxSize(min(c.maxSize, initialPacketSize)) // what the new path takes is found out anew
	if c.loss != nil && to.Addr() != c.remote.Addr() {
		c.loss.ChangePath(c.b.now(), c.space.Next(), c.b.newController(c.maxSize))
		c.tellBudget()
	}
	c.knowAddress(to)
	c.remote = to
	if len(cid) > 0 {
		c.dcid = append(c.dcid[:0], cid...)
	}
	c.dirty = c.joined || c.isUpstream
}

// knowAddress enters an address at which the connection's peer may be.
func (c *conn) knowAddress(ap netip.AddrPort) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if _, ok := c.addrs[ap]; ok {
		return
	}
	if len(c.addrs) > 2*maxPaths { // forged packets must not fill the table
		for old := range c.addrs {
			if old != c.remote {
				c.b.forgetAddress(c, old)
			}
		}
	}
	c.addrs[ap] = struct{}{}
	c.b.byAddr[ap] = append(c.b.byAddr[ap], c)
}

// forgetAddress takes an address of a connection out of the table. The caller holds b.mu.
func (b *Boundary) forgetAddress(c *conn, ap netip.AddrPort) {
	delete(c.addrs, ap)
	l := b.byAddr[ap]
	for i, x := range l {
		if x == c {
			l = append(l[:i:i], l[i+1:]...)
			break
		}
	}
	if len(l) == 0 {
		delete(b.byAddr, ap)
	} else {
		b.byAddr[ap] = l
	}
}

// isProbing says whether a packet has only frames that probe a path (RFC 9000, section 9.1).
func isProbing(f *wire.Frame, payload []byte) bool {
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			return false
		}
		at += n
		switch f.Type {
		case wire.FramePadding, wire.FramePathChallenge, wire.FramePathResponse, wire.FrameNewConnectionID:
		default:
			return false
		}
	}
	return true
}
