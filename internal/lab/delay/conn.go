package delay

import (
	"encoding/binary"
	"net/netip"
	"sort"
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// conn is a QUIC connection in a capture.
type conn struct {
	local   netip.AddrPort
	client  direction // of the packets that the client sends
	version uint32
	odcid   []byte // of the client's first Initial packet
	hello   hello
	half    [2]half // by direction of the packets

	requests map[uint64]string // request ID → track
	accepted []accepted        // in the order of their times
	media    map[uint64]*coverage
	closed   time.Time // when one end said so; zero if none did
}

// half is one direction of a connection.
type half struct {
	cids    map[string]struct{} // that its packets have as destination
	cidLens []int               // their lengths, each once
	keys    *wire.Keys
	next    uint64 // largest packet number plus one

	control coverage // of stream 0
	fed     uint64   // bytes of it that the scanner has got
	scanner wire.ControlScanner
}

// accepted is a SUBSCRIBE_OK.
type accepted struct {
	alias, request uint64
	time           time.Time
}

// streamKey names a stream on every connection.
type streamKey struct {
	track           string // see trackKey
	group, subgroup uint64
}

func newConn(local netip.AddrPort, client direction, h *wire.LongHeader) *conn {
	c := &conn{
		local: local, client: client, odcid: h.DCID,
		requests: make(map[uint64]string), media: make(map[uint64]*coverage),
	}
	for d := range c.half {
		c.half[d].cids = make(map[string]struct{})
	}
	return c
}

func (h *half) addCID(cid []byte) {
	if h.hasCID(cid) {
		return
	}
	h.cids[string(cid)] = struct{}{}
	for _, n := range h.cidLens {
		if n == len(cid) {
			return
		}
	}
	h.cidLens = append(h.cidLens, len(cid))
}

func (h *half) hasCID(cid []byte) bool {
	_, ok := h.cids[string(cid)]
	return ok
}

// uniBits returns the two low bits of the IDs of the unidirectional streams that go in a direction (RFC 9000, section 2.1).
func (c *conn) uniBits(d direction) uint64 {
	if d == c.client {
		return 2
	}
	return 3
}

// open opens a short header packet.
func (c *conn) open(r *reader, d direction, pkt []byte, cidLen int, o *wire.Opened) error {
	h := &c.half[d]
	if h.keys == nil {
		if err := c.findKeys(r, d, pkt, cidLen, o); err != nil {
			return err
		}
	}
	err := h.keys.Open(r.buf, pkt, cidLen, h.next, o)
	if err == nil {
		h.next = max(h.next, o.PacketNumber+1)
	}
	return err
}

// findKeys finds the keys that open a packet: the key log does not say for which cipher suite a secret is.
func (c *conn) findKeys(r *reader, d direction, pkt []byte, cidLen int, o *wire.Opened) error {
	if r.null {
		k, err := wire.NewKeys(wire.SuiteNull, c.version, nil)
		c.half[d].keys = k
		return err
	}
	s, ok := r.keyLog[c.hello.random()]
	if !ok || !c.hello.whole() {
		return wire.ErrAuth
	}
	secret := s.server
	if d == c.client {
		secret = s.client
	}
	err := wire.ErrAuth
	for _, suite := range wire.SuitesForSecret(secret) {
		var k *wire.Keys
		if k, err = wire.NewKeys(suite, c.version, secret); err != nil {
			return err
		}
		if err = k.Open(r.buf, pkt, cidLen, c.half[d].next, o); err == nil {
			c.half[d].keys = k
			return nil
		}
	}
	return err
}

func (c *conn) addMedia(id uint64, s segment) {
	cov := c.media[id]
	if cov == nil {
		cov = new(coverage)
		c.media[id] = cov
	}
	cov.add(s)
}

// addControl adds a STREAM frame of the control stream. It returns false when the stream turns out not to be one.
func (c *conn) addControl(r *reader, d direction, f *wire.Frame) bool {
	h := &c.half[d]
	if h.scanner.Message == nil {
		h.scanner.Message = func(msgType uint64, payload []byte) error { return c.message(r, d, msgType, payload) }
	}
	h.control.add(segment{f.Offset, r.keep(f.Data), r.now})
	for {
		i := sort.Search(len(h.control), func(i int) bool { return h.control[i].end() > h.fed })
		if i == len(h.control) || h.control[i].start > h.fed {
			return true
		}
		s := h.control[i]
		at := h.fed
		h.fed = s.end()
		if err := h.scanner.Write(s.data[at-s.start:]); err != nil {
			return false
		}
	}
}

// message reads the control messages that say which track an alias is.
func (c *conn) message(r *reader, d direction, msgType uint64, payload []byte) error {
	switch {
	case msgType == wire.MsgSubscribe && d != r.media:
		s, err := wire.ParseSubscribe(payload, r.draft)
		if err != nil {
			return err
		}
		c.requests[s.RequestID] = trackKey(s.Namespace, s.Track)
	case msgType == wire.MsgSubscribeOK && d == r.media:
		s, err := wire.ParseSubscribeOK(payload, r.draft)
		if err != nil {
			return err
		}
		c.accepted = append(c.accepted, accepted{s.TrackAlias, s.RequestID, r.now})
	}
	return nil
}

// trackKey returns a string that is the same for equal track names only.
func trackKey(namespace []string, track []byte) string {
	var b []byte
	for _, field := range namespace {
		b = binary.AppendUvarint(b, uint64(len(field)))
		b = append(b, field...)
	}
	return string(append(b, track...)) + "\x00" + string(rune(len(namespace)))
}

// track returns the track that an alias meant at a time. An alias may be given out again after its subscription has
// ended, and data may overtake the message that gives it out.
func (c *conn) track(alias uint64, at time.Time) (string, bool) {
	found := -1
	for i := range c.accepted {
		if c.accepted[i].alias == alias && (found < 0 || !c.accepted[i].time.After(at)) {
			found = i
		}
	}
	if found < 0 {
		return "", false
	}
	track, ok := c.requests[c.accepted[found].request]
	return track, ok
}

// maxHeader is more than a subgroup header and the ID of the first object take.
const maxHeader = 64

// key reads the start of a stream; shift is the length of the header up to the end of the alias.
func (c *conn) key(cov coverage, d wire.Draft) (key streamKey, shift uint64, ok bool) {
	b := cov.appendPrefix(make([]byte, 0, maxHeader), maxHeader)
	h, err := wire.ParseSubgroupHeader(b, d)
	if err != nil {
		return key, 0, false
	}
	key.group, key.subgroup = h.Group, h.Subgroup
	if h.SubgroupMode == wire.SubgroupFirstObject {
		id, n := wire.ReadVarint(b[h.Len:])
		if n == 0 {
			return key, 0, false
		}
		key.subgroup = id
	}
	key.track, ok = c.track(h.TrackAlias, cov.first())
	return key, uint64(h.AliasOff + h.AliasLen), ok
}
