package quicadapt

import (
	"bytes"
	"crypto/rand"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath"
)

// With Config.PriorityCID the last byte of a connection ID is a wildcard (thesis, section 3.1.2): its issuer takes every value
// for the same connection, and the sender writes the priority of each packet there. So any priority can be told at any moment,
// whichever connection ID is in use, and none is used up by it.
//
//	issued    │ 19 random bytes │ 0 │
//	on wire   │ 19 random bytes │ p │   protected as it is there
//	quic-go   │ 19 random bytes │ 0 │   sealed anew
//
// Long headers, whose packets have no media, are left alone.

// wildcardIDs makes connection IDs whose last byte is 0.
type wildcardIDs struct{}

func (wildcardIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [datapath.CIDLen]byte
	_, _ = rand.Read(id[:datapath.CIDLen-1]) // never fails
	return quic.ConnectionIDFromBytes(id[:]), nil
}

func (wildcardIDs) ConnectionIDLen() int { return datapath.CIDLen }

func isWildcard[T string | []byte](cid T) bool {
	return len(cid) == datapath.CIDLen && cid[datapath.CIDLen-1] == 0
}

// marked says whether a received short header packet has a priority.
func (b *Boundary) marked(p []byte) bool {
	return b.cfg.PriorityCID && len(p) > datapath.CIDLen && p[datapath.CIDLen] != 0
}

// unmark clears the priority of a packet that quic-go gets as it is, since nobody could open it. A short packet of no
// connection may be a stateless reset, whose token must stay; quic-go answers longer ones with a token of the connection ID
// that was issued.
func (b *Boundary) unmark(p []byte, known bool) {
	const longestUnknown = 1 + datapath.CIDLen + 16
	if b.marked(p) && (known || len(p) >= longestUnknown) {
		p[datapath.CIDLen] = 0
	}
}

// markDCID returns the connection ID of the peer with a priority, if the peer wants it.
func (c *conn) markDCID(cid []byte, priority uint8) []byte {
	if !c.marks.Load() || !isWildcard(cid) {
		return cid
	}
	copy(c.markedID[:], cid)
	c.markedID[datapath.CIDLen-1] = priority
	return c.markedID[:]
}

// priorities remembers the priority of the latest streams and datagrams.
type priorities struct {
	streams   []streamPriority // by stream number modulo toldStreams
	datagrams [][]byte         // that quic-go has not sent yet, oldest first
	of        []uint8          // these
}

type streamPriority struct {
	id       uint64
	told     bool
	priority uint8
}

const (
	toldStreams   = 4096
	toldDatagrams = 64 // quic-go queues 32
)

// SetStreamPriority says how important the media on a unidirectional stream is, 0 being the most. Packets that carry it
// tell the peer, if both ends have Config.PriorityCID, and it does nothing otherwise. It is to be called before the
// first byte is written, and remembered for the last 4096 streams. What nobody told counts as 0, as control messages do.
func (c *Conn) SetStreamPriority(id quic.StreamID, priority uint8) {
	x := c.c
	if !x.marks.Load() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.told.streams == nil {
		x.told.streams = make([]streamPriority, toldStreams)
	}
	x.told.streams[uint64(id)>>2%toldStreams] = streamPriority{uint64(id), true, priority}
}

// SendDatagramPriority is SendDatagram for media of a priority; see SetStreamPriority.
func (c *Conn) SendDatagramPriority(p []byte, priority uint8) error {
	if x := c.c; x.marks.Load() {
		x.mu.Lock()
		t := &x.told
		if len(t.datagrams) == toldDatagrams {
			t.datagrams, t.of = t.datagrams[1:], t.of[1:]
		}
		t.datagrams, t.of = append(t.datagrams, bytes.Clone(p)), append(t.of, priority)
		x.mu.Unlock()
	}
	return c.SendDatagram(p)
}

// packetPriority returns the most important priority of the media in a payload of quic-go's, 0 if there is none.
func (c *conn) packetPriority(payload []byte) uint8 {
	if !c.marks.Load() {
		return 0
	}
	f := &c.frame
	priority, media := uint8(255), false
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			return 0
		}
		at += n
		switch {
		case f.IsStream():
			priority, media = min(priority, c.told.stream(f.V[0])), true
		case f.IsDatagram():
			priority, media = min(priority, c.told.datagram(f.Data)), true
		}
	}
	if !media {
		return 0
	}
	return priority
}

func (t *priorities) stream(id uint64) uint8 {
	if t.streams == nil {
		return 0
	}
	if s := &t.streams[id>>2%toldStreams]; s.told && s.id == id {
		return s.priority
	}
	return 0
}

// datagram returns the priority of a datagram that is being sent. quic-go sends them in order, and drops some.
func (t *priorities) datagram(data []byte) uint8 {
	for i, d := range t.datagrams {
		if bytes.Equal(d, data) {
			priority := t.of[i]
			t.datagrams, t.of = t.datagrams[i+1:], t.of[i+1:]
			return priority
		}
	}
	return 0
}
