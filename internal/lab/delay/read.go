package delay

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// direction is that of a packet, seen from the interface that it was captured at.
type direction int

const (
	outgoing direction = iota
	incoming
)

func (d direction) other() direction { return 1 - d }

// secrets are the 1-RTT traffic secrets of a connection.
type secrets struct{ client, server []byte }

// parseKeyLog returns the secrets in a key log by the random number of the ClientHello.
func parseKeyLog(log []byte) (map[[helloRandomLen]byte]*secrets, error) {
	all := make(map[[helloRandomLen]byte]*secrets)
	number := 0
	for line := range bytes.Lines(log) {
		number++
		label, random, secret, err := wire.ParseKeyLogLine(line)
		if err != nil {
			return nil, fmt.Errorf("key log, line %d: %w", number, err)
		}
		if label != wire.KeyLogClient1RTT && label != wire.KeyLogServer1RTT {
			continue
		}
		s := all[[helloRandomLen]byte(random)]
		if s == nil {
			s = new(secrets)
			all[[helloRandomLen]byte(random)] = s
		}
		if label == wire.KeyLogClient1RTT {
			s.client = secret
		} else {
			s.server = secret
		}
	}
	return all, nil
}

// reader reads the packets of one capture.
type reader struct {
	media  direction // of the streams that are looked at
	null   bool
	draft  wire.Draft
	keyLog map[[helloRandomLen]byte]*secrets

	flows map[flow][]*conn // in the order of their starts
	conns []*conn
	out   Readable
	now   time.Time // of the packet that is being read
	buf   []byte    // a packet's payload after it was opened
	arena []byte    // stream data
}

func newReader(in *Input, media direction, keyLog map[[helloRandomLen]byte]*secrets) *reader {
	return &reader{
		media: media, null: in.Null, draft: in.Draft, keyLog: keyLog,
		flows: make(map[flow][]*conn), buf: make([]byte, 0, 1<<16),
	}
}

// read reads all packets, in the order of their times.
func (r *reader) read(packets []capture.Packet) {
	byTime := func(a, b capture.Packet) int { return a.Time.Compare(b.Time) }
	if !slices.IsSortedFunc(packets, byTime) {
		packets = slices.Clone(packets)
		slices.SortStableFunc(packets, byTime)
	}
	for i := range packets {
		r.packet(&packets[i])
	}
}

func (r *reader) packet(p *capture.Packet) {
	src, dst, payload, ok := parseUDP(p.Data)
	r.out.Packets++
	if !ok {
		r.out.Strange++
		return
	}
	r.now = p.Time
	f, d := flow{src, dst}, outgoing
	if !p.Outgoing {
		f, d = flow{dst, src}, incoming
	}
	for rest := payload; len(rest) > 0; {
		if !wire.IsLongHeader(rest[0]) {
			// Some pad a datagram behind its last packet.
			if len(rest) == len(payload) || rest[0] != 0 {
				r.short(f, d, rest)
			}
			return
		}
		h, err := wire.ParseLongHeader(rest)
		if err != nil {
			r.out.Strange++
			return
		}
		r.long(f, d, &h, rest)
		rest = rest[h.PacketLen:]
	}
}

// long learns from a long header packet: which connection it is, its connection IDs, and the ClientHello.
func (r *reader) long(f flow, d direction, h *wire.LongHeader, b []byte) {
	if h.Type == wire.LongVersionNegotiation {
		return
	}
	c := r.longConn(f, d, h)
	if c == nil {
		if h.Type != wire.LongInitial || len(h.DCID) < minFirstDCID {
			r.out.Strange++
			return
		}
		c = newConn(f.local, d, h)
		r.flows[f] = append(r.flows[f], c)
		r.conns = append(r.conns, c)
	}
	c.version = h.Version
	// Who sends this gets packets with its source ID as destination.
	c.half[d.other()].addCID(h.SCID)
	switch {
	case h.Type == wire.Long0RTT:
		r.out.Unopened++
	case h.Type == wire.LongInitial && d == c.client && !c.hello.whole():
		c.readHello(r.buf, b, h)
	}
}

// minFirstDCID is the least length of the destination ID of a client's first Initial packet (RFC 9000, section 7.2).
const minFirstDCID = 8

// longConn finds the connection of a long header packet: the newest that knows its destination ID. A client may use a new
// one as soon as it has it, which without keys is not seen: a short one is taken for that.
func (r *reader) longConn(f flow, d direction, h *wire.LongHeader) *conn {
	for _, c := range slices.Backward(r.flows[f]) {
		if d == c.client && bytes.Equal(h.DCID, c.odcid) || c.half[d].hasCID(h.DCID) {
			return c
		}
	}
	if conns := r.flows[f]; len(conns) > 0 && len(h.DCID) < minFirstDCID {
		return conns[len(conns)-1]
	}
	return nil
}

// short opens a short header packet and reads its frames. Of several connections between the same addresses it is of the one
// whose ID is the longest that fits, and of the newest of those.
func (r *reader) short(f flow, d direction, pkt []byte) {
	var found *conn
	length := -1
	for _, c := range slices.Backward(r.flows[f]) {
		for _, n := range c.half[d].cidLens {
			if n > length && len(pkt) > n && c.half[d].hasCID(pkt[1:1+n]) {
				found, length = c, n
			}
		}
	}
	if found == nil {
		r.out.Strange++
		return
	}
	r.open(found, d, pkt, length)
}

func (r *reader) open(c *conn, d direction, pkt []byte, cidLen int) {
	var o wire.Opened
	if err := c.open(r, d, pkt, cidLen, &o); err != nil {
		r.out.Unopened++
		return
	}
	var f wire.Frame
	for rest := o.Payload; len(rest) > 0; {
		n, err := f.Parse(rest)
		if err != nil {
			r.out.Malformed++
			return
		}
		rest = rest[n:]
		r.frame(c, d, &f)
	}
}

func (r *reader) frame(c *conn, d direction, f *wire.Frame) {
	switch {
	case f.IsStream() && f.StreamID() == 0:
		if !c.addControl(r, d, f) {
			r.out.Malformed++
		}
	case f.IsStream() && d == r.media && f.StreamID()&3 == c.uniBits(d):
		c.addMedia(f.StreamID(), segment{f.Offset, r.keep(f.Data), r.now})
	case f.Type == wire.FrameNewConnectionID:
		c.half[d.other()].addCID(f.Data)
	case f.Type == wire.FrameConnectionCloseApp, f.Type == wire.FrameConnectionCloseTransport:
		if c.closed.IsZero() {
			c.closed = r.now
		}
	}
}

// keep returns a copy of b that lasts.
func (r *reader) keep(b []byte) []byte {
	const arenaSize = 1 << 20
	if len(b) > cap(r.arena)-len(r.arena) {
		r.arena = make([]byte, 0, max(arenaSize, len(b)))
	}
	n := len(r.arena)
	r.arena = append(r.arena, b...)
	return r.arena[n:len(r.arena):len(r.arena)]
}

// resolve finds the track, group and subgroup of every media stream, and returns their bytes after the track alias.
func (r *reader) resolve(c *conn) map[streamKey]coverage {
	all := make(map[streamKey]coverage)
	ids := make([]uint64, 0, len(c.media))
	for id := range c.media {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, cmp.Compare)
	for _, id := range ids {
		cov := *c.media[id]
		if len(cov) == 0 {
			continue
		}
		key, shift, ok := c.key(cov, r.draft)
		if !ok {
			r.out.Unknown += cov.bytes()
			continue
		}
		cov = cov.from(shift)
		if before, ok := all[key]; ok {
			cov = merge(before, cov)
		}
		if len(cov) > 0 {
			all[key] = cov
		}
	}
	return all
}
