package quicadapt

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// FuzzBoundary plays a script of operations on a connection whose keys are known, so that frames are fuzzed and not
// authentication: packets of the peer and of quic-go with any frames, any bytes as datagrams, records of the datapath, timers.
// After each step it looks at what every step must leave true. What it covers depends on the clock and on the numbers that are skipped, so
// that the engine tries in vain to make inputs smaller, at 0 execs/s for a minute each; scripts/fuzz.sh bounds that.
func FuzzBoundary(f *testing.F) {
	own, peer := clientCID, make([]byte, datapath.CIDLen)
	f.Add([]byte{opOwn, 1, 1, opOwn, 1, 1, opAck, 0, 9, opOwn, 1, 1, opAck, 2, 1})
	f.Add([]byte{opReserve, opForward, 9, 0, opWrite, 200, opService, 10, opAck, 0, 40, opClose, opService, 100, opAck, 0, 40, opService, 255})
	f.Add(append([]byte{opReserve, opForward, 4, 0, opPeer, 4}, wire.AppendMaxStreamData(nil, 3, 9)...))
	f.Add(append([]byte{opReserve, opForward, 4, 0, opPeer, 5, 0x05, 3, 7, 0, 0, opService, 3, opAck, 0, 9}, own...))
	f.Add([]byte{opPeer, 7, 0x02, 0x3f, 0, 0, 0, 0x21, 1, opPeer, 4, 0x02, 0, 0, 3, opPeer, 1, 0x1e})
	f.Add([]byte{opPeerKeys, opPeer, 1, 1, opOwn, 1, 1, opPeerKeys, opPeer, 1, 1, opOwn, 1, 1})
	f.Add(append([]byte{opIn, 30, 0xc0, 0, 0, 0, 1, 4}, peer...))
	f.Add([]byte{opOut, 9, 0xc0, 0, 0, 0, 1, 4, 'p', 'e', 'e', 'r', opCoalesced, 24, 0xc3, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 4, 1, 2, 3, 4})
	f.Add([]byte{opReserve, opRecord, 5, 0, 0, 3, 0, 0, 1, 1, 0, opRecord, 5, 200, 3, 3, 255, 255, 9, 1, 7, opOwn, 3, 0x0a, 4, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1<<12 {
			return
		}
		w := newFuzzWorld(t)
		for len(script) > 0 {
			script = w.step(script)
			w.check()
		}
	})
}

// Operations of a script; each is followed by what it takes, or by less at the end of the script.
const (
	opPeer      = iota // length, frames: a packet of the peer's
	opAck              // largest, counted back from the next number; numbers: the peer acknowledges
	opIn               // length, bytes: a datagram from the peer's address
	opCoalesced        // length, bytes: the same, followed by a packet of the peer's
	opOwn              // length, frames: a packet of quic-go's
	opOut              // length, bytes: a datagram of quic-go's
	opForward          // length, stream: the datapath forwards, within its credit
	opRecord           // 8 bytes: a record of anything
	opReserve          // a stream ID for the datapath
	opWrite            // bytes: to the newest stream
	opClose            // the newest stream
	opReset            // the newest stream
	opService          // milliseconds pass, and timers run
	opPeerKeys         // the peer updates its keys
	opMove             // the peer's packets come from another address from now on, or from the old one again
	ops
)

// fuzzWorld is one connection at the boundary, with a datapath and a socket of the test's.
type fuzzWorld struct {
	t             *testing.T
	b             *Boundary
	c             *conn
	quic, peer    *wire.Keys // that quic-go and the peer seal with
	in, wire      *wire.Keys // that quic-go and the peer open with
	own, number   uint64     // next of quic-go and of the peer
	used          map[uint64]bool
	highest       map[uint64]uint64 // offset on the wire by stream
	nextStream    uint64
	records       []datapath.Record
	streams       []*FastStream
	from, another netip.AddrPort
	onFrame       func(*wire.Frame)            // that leaves, if a test wants it
	onClient      func(*datapath.Client) error // what the datapath is told, likewise
	onUpstream    func(*datapath.Upstream) error
}

func newFuzzWorld(t *testing.T) *fuzzWorld {
	remote := netip.MustParseAddrPort("192.0.2.1:1")
	a := newAckWorld(0, nil)
	w := &fuzzWorld{
		t: t, quic: a.quic, peer: a.peer, in: a.in, wire: a.wire, c: a.c, b: a.c.b,
		used: make(map[uint64]bool), highest: make(map[uint64]uint64), nextStream: 3,
		from: remote, another: netip.MustParseAddrPort("192.0.2.2:2"),
	}
	b, c := w.b, w.c
	b.inner, b.cfg.Datapath = fuzzSocket{w}, fuzzDatapath{w}
	cid := string(make([]byte, datapath.CIDLen))
	b.byAddr, b.byCID = map[netip.AddrPort][]*conn{remote: {c}}, map[string]*conn{cid: c}
	b.conns, b.clients, b.ups = map[*conn]struct{}{c: {}}, []*conn{c}, []*conn{c}
	b.keyLimits = keyLimitsOf
	c.keyLimits = keyLimits{64, 128, 1 << 20}
	c.localCIDs[0], c.peerCIDs[string(clientCID)] = cid, 0
	c.dcid = append(c.dcid, clientCID...)
	c.secretServer, c.secretClient = make([]byte, 32), append(make([]byte, 31), 1)
	c.isUpstream, c.maxData, c.toldMaxData, c.streamLimit = true, 20_000, 20_000, 10_000
	c.setMaxSize(1200)
	c.updateCredit()
	for i := range datapath.Slots {
		c.freeSlots = append(c.freeSlots, uint8(i))
	}
	return w
}

// take takes bytes off a script: as many as its first byte says.
func take(script []byte) (data, rest []byte) {
	if len(script) == 0 {
		return nil, nil
	}
	n := min(int(script[0]), len(script)-1)
	return script[1 : 1+n], script[1+n:]
}

// small takes n bytes off a script, as numbers.
func small(script []byte, n int) (v []uint64, rest []byte) {
	v = make([]uint64, n)
	for i := range v {
		if len(script) > 0 {
			v[i], script = uint64(script[0]), script[1:]
		}
	}
	return v, script
}

func (w *fuzzWorld) step(script []byte) (rest []byte) {
	op, script := script[0]%ops, script[1:]
	var data []byte
	var v []uint64
	switch op {
	case opPeer:
		data, script = take(script)
		w.input(w.sealPeer(data))
	case opAck:
		v, script = small(script, 2)
		if next := w.c.space.Next(); next > v[0] {
			largest := next - 1 - v[0]
			w.input(w.sealPeer(wire.AppendAck(nil, []wire.AckRange{{Smallest: largest - min(v[1], largest), Largest: largest}}, 3, nil)))
		}
	case opIn:
		data, script = take(script)
		w.input(data)
	case opCoalesced:
		data, script = take(script)
		w.input(append(slices.Clone(data), w.sealPeer([]byte{1})...))
	case opOwn:
		data, script = take(script)
		w.output(w.quic.Seal(nil, w.quic.Generation(), clientCID, w.own, 4, padded(data)))
		w.own++
	case opOut:
		data, script = take(script)
		w.output(data)
	case opForward:
		v, script = small(script, 2)
		w.forward(v[0], int(v[1]))
	case opRecord:
		v, script = small(script, 8)
		w.records = append(w.records, datapath.Record{
			Time: w.b.start.Add(time.Duration(v[0]) << 24), Number: w.c.space.Next() - v[1], Client: datapath.ClientID(v[2] >> 7),
			Generation: w.c.space.Generation() + uint8(v[2]>>6&1), Reason: datapath.Reason(v[2] & 0x1f), Size: uint16(v[3] << 5),
			Frames: slices.Repeat([]datapath.RecordFrame{{
				UpstreamStream: v[3], ClientStream: v[3], Offset: v[4] << (v[5] & 0x3f), Length: uint32(v[5] << 20), Slot: uint8(v[4]),
				Priority: uint8(v[5]), Fin: v[7]&1 > 0, Opened: v[7]&2 > 0, Datagram: v[7]&4 > 0, Reason: datapath.Reason(v[7] >> 4),
			}}, int(v[6]&0xf)),
		})
		w.b.drain()
	case opReserve:
		w.reserve()
	case opWrite:
		v, script = small(script, 1)
		if s := w.newest(); s != nil {
			_, _ = s.Write(make([]byte, 16*v[0]))
		}
	case opClose:
		if s := w.newest(); s != nil {
			_ = s.Close()
		}
	case opReset:
		if s := w.newest(); s != nil {
			_ = s.Reset(1)
		}
	case opService:
		v, script = small(script, 1)
		w.b.start = w.b.start.Add(-time.Duration(v[0]) * time.Millisecond)
		w.b.drain()
		w.b.service(w.c)
	case opPeerKeys:
		w.peer.Update()
	case opMove:
		w.from, w.another = w.another, w.from
	}
	return script
}

func padded(frames []byte) []byte {
	frames = slices.Clone(frames)
	for len(frames) < 4 {
		frames = append(frames, 0)
	}
	return frames
}

func (w *fuzzWorld) sealPeer(frames []byte) []byte {
	p := w.peer.Seal(nil, w.peer.Generation(), make([]byte, datapath.CIDLen), w.number, 4, padded(frames))
	w.number++
	return p
}

// input gives a datagram to the boundary, and looks at what quic-go gets.
func (w *fuzzWorld) input(p []byte) {
	buf := make([]byte, 1452)
	n := copy(buf, p)
	n = w.b.input(buf, n, w.from)
	if n < 0 || n > len(buf) {
		w.t.Fatalf("quic-go gets %d bytes", n)
	}
	var o wire.Opened
	if n == 0 || w.in.Open(nil, buf[:n], datapath.CIDLen, w.number, &o) != nil {
		return
	}
	var f wire.Frame
	for at := 0; at < len(o.Payload); {
		m, err := f.Parse(o.Payload[at:])
		if err != nil {
			return
		}
		at += m
		if f.IsAck() && f.V[0] >= w.own && f.V[0] < w.c.nextOwn+1<<20 {
			w.t.Fatalf("quic-go is told of %d, of %d that it has sent: the ACK is not translated", f.V[0], w.own)
		}
	}
}

// output gives a datagram of quic-go's to the boundary, and looks at what leaves.
func (w *fuzzWorld) output(p []byte) {
	out, _ := w.b.output(p, w.c.remote, make([]byte, scratchSize), nil)
	w.sent(out)
}

// sent looks at a datagram that leaves. Long headers and what is not of the connection are none of its business.
func (w *fuzzWorld) sent(p []byte) {
	var o wire.Opened
	if len(p) == 0 || wire.IsLongHeader(p[0]) || w.wire.Open(nil, p, len(clientCID), w.c.space.Next(), &o) != nil {
		return
	}
	w.take(o.PacketNumber)
	var f wire.Frame
	for at := 0; at < len(o.Payload); {
		n, err := f.Parse(o.Payload[at:])
		if err != nil {
			return
		}
		at += n
		if w.onFrame != nil {
			w.onFrame(&f)
		}
		if f.IsStream() {
			w.highest[f.V[0]] = max(w.highest[f.V[0]], f.Offset+uint64(len(f.Data)))
		}
	}
}

func (w *fuzzWorld) take(number uint64) {
	if w.used[number] {
		w.t.Fatalf("number %d is sent twice", number)
	}
	w.used[number] = true
}

// reserve is what refill does, without quic-go.
func (w *fuzzWorld) reserve() {
	c := w.c
	if len(c.freeSlots) == 0 || !c.space.Reserve(w.nextStream, c.freeSlots[0], c.streamLimit) {
		return
	}
	c.slotOf[w.nextStream] = c.freeSlots[0]
	c.reserved[w.nextStream] = nil
	c.freeSlots = c.freeSlots[1:]
	w.nextStream += 4
}

// forward is what a datapath does: a stream that it has opened goes on if there is one with that index, otherwise it opens one.
func (w *fuzzWorld) forward(n uint64, index int) {
	c, f := w.c, datapath.RecordFrame{Length: uint32(n)}
	if index < len(w.streams) {
		s := w.streams[index]
		word, _ := c.space.StreamWord(s.slot)
		if word&datapath.StreamClosed != 0 || word&^datapath.StreamOffset != datapath.StreamTag(s.id) {
			return
		}
		f.ClientStream, f.UpstreamStream, f.Slot, f.Offset = s.id, s.source, s.slot, word&datapath.StreamOffset
	} else {
		head := c.space.Word(datapath.WordPoolHead)
		if *head == *c.space.Word(datapath.WordPoolTail) {
			return
		}
		word := *c.space.Word(datapath.WordPool + int(*head%datapath.PoolSize))
		*head++
		f.ClientStream, f.Slot, f.Opened = word&datapath.StreamOffset, uint8(word>>48), true
		f.UpstreamStream = f.ClientStream - 1
	}
	_, limit := c.space.StreamWord(f.Slot)
	if end := f.Offset + n; end > limit || !c.space.Advance(f.Slot, end, *c.space.Word(datapath.WordDataLimit)) {
		if !f.Opened {
			return
		}
		f.Reason = datapath.ReasonSendFailed // it is opened all the same
	} else {
		w.highest[f.ClientStream] = end
	}
	r := datapath.Record{Time: w.b.start.Add(time.Duration(w.b.now())), Number: c.space.TakeNumber(), Size: uint16(n + 40), Generation: c.space.Generation(), Frames: []datapath.RecordFrame{f}}
	w.take(r.Number)
	w.records = append(w.records, r)
	if f.Opened {
		w.b.drain()
		if s := (&Conn{c: c}).FastStream(0, f.UpstreamStream); s != nil {
			w.streams = append(w.streams, s)
		}
	}
}

func (w *fuzzWorld) newest() *FastStream {
	if len(w.streams) == 0 {
		return nil
	}
	return w.streams[len(w.streams)-1]
}

// check is what holds after each step.
func (w *fuzzWorld) check() {
	w.t.Helper()
	c := w.c
	total := uint64(0)
	for _, n := range w.highest {
		total += n
	}
	if total > c.maxData {
		w.t.Fatalf("%d bytes are sent, the peer allows %d", total, c.maxData)
	}
	for _, s := range w.streams {
		if _, limit := c.space.StreamWord(s.slot); !s.done && w.highest[s.id] > limit {
			w.t.Fatalf("stream %d has sent %d bytes, the peer allows %d", s.id, w.highest[s.id], limit)
		}
	}
	b := w.b
	for _, x := range []struct {
		what   string
		n, max int
	}{
		{"ranges that quic-go is to be told", len(c.ownAcks.unprocessed), maxUnprocessed},
		{"connection IDs of the peer", len(c.peerCIDs), 65},
		{"connection IDs of the boundary", len(b.byCID), 1 << 12},
		{"paths", len(c.paths), maxPaths},
		{"addresses", len(c.addrs), maxPaths + 1},
		{"slots", len(c.freeSlots) + len(c.slotOf), datapath.Slots},
		{"fast streams", len(c.streams), datapath.Slots},
		{"queued streams", len(c.need), datapath.Slots},
		{"unacknowledged bytes", c.unacked, b.cfg.MaxUnacked},
		{"scratch", cap(c.built) + cap(c.plain) + cap(c.sealed), 1 << 20},
		{"packets that are remembered", int(c.space.Next() - c.loss.Base()), 1 << 14},
	} {
		if x.n > x.max || x.n < 0 {
			w.t.Fatalf("%s: %d, at most %d are expected", x.what, x.n, x.max)
		}
	}
}

type fuzzDatapath struct{ w *fuzzWorld }

func (d fuzzDatapath) SetUpstream(_ datapath.UpstreamID, u *datapath.Upstream) error {
	if d.w.onUpstream != nil {
		return d.w.onUpstream(u)
	}
	return nil
}
func (d fuzzDatapath) SetTrack(datapath.TrackID, *datapath.Track) error { return nil }
func (d fuzzDatapath) SetSubscription(datapath.TrackID, datapath.ClientID, *datapath.Subscription) error {
	return nil
}

func (d fuzzDatapath) SetClient(_ datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	if d.w.onClient != nil {
		if err := d.w.onClient(c); err != nil {
			return nil, err
		}
	}
	return d.w.c.space, nil
}
func (d fuzzDatapath) Evict([]datapath.StreamKey) error     { return nil }
func (d fuzzDatapath) Counters() (datapath.Counters, error) { return datapath.Counters{}, nil }
func (d fuzzDatapath) Close() error                         { return nil }
func (d fuzzDatapath) Drain(f func(*datapath.Record)) error {
	records := d.w.records
	d.w.records = nil
	for i := range records {
		f(&records[i])
	}
	return nil
}

// fuzzSocket is the socket that repairs leave by.
type fuzzSocket struct{ w *fuzzWorld }

func (s fuzzSocket) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, net.ErrClosed }
func (s fuzzSocket) WriteTo(p []byte, _ net.Addr) (int, error) {
	s.w.sent(p)
	return len(p), nil
}
func (s fuzzSocket) Close() error                     { return nil }
func (s fuzzSocket) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 4433} }
func (s fuzzSocket) SetDeadline(time.Time) error      { return nil }
func (s fuzzSocket) SetReadDeadline(time.Time) error  { return nil }
func (s fuzzSocket) SetWriteDeadline(time.Time) error { return nil }
