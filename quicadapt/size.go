package quicadapt

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/recovery"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// sizeSearch finds out how much larger than quic-go's packets those of the datapath may be.
//
// A packet grows when the datapath forwards it: its number has 4 bytes where quic-go writes 2, every STREAM frame has its offset, a stream ID may
// take more. To most clients a shorter connection ID pays for that. Between relays nothing does, and quic-go, whose path MTU discovery ends
// within 20 bytes of what the path takes, finds the same size at both. So to such peers packets of PING and PADDING ask for more, as in RFC 9000,
// section 14.3: first for the most, then for what is half way between the largest size that arrived and the smallest that did not.
type sizeSearch struct {
	proven int // what arrived; 0: nothing yet
	tooBig int // what was lost maxSizeAsked times; 0: nothing yet
	size   int // that is being asked for; 0: none
	asked  int // how often that was
	flying bool
}

const (
	// maxSizeAsked is how many packets of a size may be lost before it is taken for too large, as quic-go has it.
	maxSizeAsked = 3
	// sizePrecision is when the search ends, in bytes.
	sizePrecision = 4
)

// next returns the size to ask for next, 0 for none; from is what quic-go sends, most what the peer takes.
func (s *sizeSearch) next(from, most int) int {
	lo := max(s.proven, from)
	switch {
	case s.flying || lo >= most:
		return 0
	case s.size > lo && s.size <= most && s.asked < maxSizeAsked:
		return s.size
	case s.tooBig == 0:
		return most
	case s.tooBig-lo <= sizePrecision:
		return 0
	}
	return (lo + s.tooBig) / 2
}

// ask notes that a packet of a size is sent.
func (s *sizeSearch) ask(size int) {
	if size != s.size {
		s.size, s.asked = size, 0
	}
	s.asked++
	s.flying = true
}

// answer notes what became of a packet. One that was lost may arrive after all.
func (s *sizeSearch) answer(size int, arrived bool) {
	switch {
	case arrived:
		s.proven = max(s.proven, size)
		if s.tooBig <= s.proven {
			s.tooBig = 0
		}
	case size == s.size && s.asked >= maxSizeAsked:
		s.tooBig = size
	}
	if size == s.size {
		s.flying = false
	}
}

// datapathSize is the largest packet that the datapath may send.
func (c *conn) datapathSize() int { return max(c.maxSize, c.search.proven) }

// askSize makes the packet that asks for the next size, nil for none. The caller holds mu.
func (c *conn) askSize(now int64) []byte {
	if len(c.dcid) < datapath.CIDLen || c.closed {
		return nil
	}
	size := c.search.next(c.maxSize, min(c.peerMaxSize, datapath.MaxPacketSize))
	if size == 0 || !c.loss.Room(c.space.Next()+1) {
		return nil
	}
	c.skipSome()
	c.followUpdates()
	room := size - 1 - len(c.dcid) - datapath.NumberLen - datapath.TagLen
	payload := wire.AppendPing(c.built[:0])
	for len(payload) < room {
		payload = append(payload, 0) // PADDING
	}
	c.built = payload[:0]
	number := c.space.TakeNumber()
	out := c.wireOut.Seal(make([]byte, 0, size), c.wireOutGen, c.markDCID(c.dcid, 0), number, datapath.NumberLen, payload)
	c.charge(len(out), 0)
	e := c.sent(number, now, len(out), recovery.MTUProbe)
	if e == nil {
		return nil // the datapath took the last room for numbers meanwhile
	}
	e.search = true
	c.search.ask(size)
	c.stats.ProbePackets++
	return out
}

// sizeAnswered notes what became of a packet of askSize.
func (c *conn) sizeAnswered(size int, arrived bool) {
	c.search.answer(size, arrived)
	c.space.SetMaxSize(c.datapathSize())
}
