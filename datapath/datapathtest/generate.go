package datapathtest

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TracePort is the relay's UDP port in traces.
const TracePort = 4433

// TraceLimits are the capacities of the tables that a trace of a seed is made for: small ones that fill up, or some with room.
func TraceLimits(seed uint64) datapath.Limits {
	if seed%2 == 0 {
		return datapath.Limits{Upstreams: 3, CIDs: 4, Tracks: 5, Clients: 5, Subscriptions: 8, Streams: 10, ClientStreams: 6, RingBytes: 4096}
	}
	return datapath.Limits{Upstreams: 4, CIDs: 16, Tracks: 8, Clients: 6, Subscriptions: 48, Streams: 64, ClientStreams: 128, RingBytes: 1 << 16}
}

// generator makes a trace. It remembers what a publisher or userspace would, so that most of what it makes is sound.
type generator struct {
	Random
	limits  datapath.Limits
	steps   []Step
	clock   uint64
	ups     []genUpstream
	tracks  []genTrack
	clients []genClient
	recent  [][]byte // frames of publishers
	late    [][]byte // held back
}

type genUpstream struct {
	Builder
	priority bool // in connection IDs
	bits     uint8
	next     uint64
	stream   uint64 // next
	streams  []*genStream
	skipped  []uint64
}

type genStream struct {
	id   uint64
	head int
	sent uint64
}

type genTrack struct {
	upstream datapath.UpstreamID
	alias    uint64
	draft    uint8
}

type genClient struct {
	Side
	relay  Side
	iface  int
	stream uint64 // next to reserve
	slot   int
}

// traceSide returns the n-th host.
func traceSide(n byte, port uint16, v6 bool) Side {
	a := netip.AddrFrom4([4]byte{10, 9, 0, n})
	if v6 {
		a = netip.AddrFrom16([16]byte{0xfd, 9, 15: n})
	}
	return Side{MAC: [6]byte{2, 0, 0, 0, 9, n}, Addr: netip.AddrPortFrom(a, port)}
}

// Generate makes the trace of a seed.
func Generate(seed uint64) *Trace {
	g := &generator{Random: NewRandom(seed), limits: TraceLimits(seed), clock: ClockStart}
	for i := range int(g.limits.Upstreams) {
		v6 := i%3 == 1
		g.ups = append(g.ups, genUpstream{bits: 2 + uint8(i%2), Builder: Builder{From: traceSide(byte(2+i), uint16(4000+i), v6),
			To: traceSide(1, TracePort, v6), CID: genCID(i, 0)}})
		g.ups[i].stream = uint64(g.ups[i].bits)
	}
	for i := range int(g.limits.Tracks) {
		g.tracks = append(g.tracks, genTrack{datapath.UpstreamID(i % 3), Pick(g.Random, uint64(5+i), uint64(i), 100+uint64(i), 1<<20+uint64(i), 1<<40), Pick(g.Random, uint8(14), 16)})
	}
	for i := range int(g.limits.Clients) {
		v6, iface := i%3 == 1, Subscribers
		if i == 4 {
			iface = Publishers
		}
		g.clients = append(g.clients, genClient{Side: traceSide(byte(10+i), uint16(5000+i), v6), relay: traceSide(1, TracePort, v6), iface: iface, stream: 3})
	}
	g.begin()
	for n := 20 + g.IntN(80); n > 0; n-- {
		g.next()
	}
	for _, f := range g.late {
		g.inject("late packet", Publishers, f)
	}
	g.drain()
	return &Trace{Seed: seed, Limits: g.limits, Steps: g.steps}
}

// begin sets most of what a relay has when packets begin to come.
func (g *generator) begin() {
	g.setClock()
	for i := range g.ups {
		if !g.OneIn(8) {
			g.setUpstream(i, true)
		}
	}
	for i := range g.tracks {
		if !g.OneIn(8) {
			g.setTrack(i, true)
		}
	}
	for i := range g.clients {
		if g.OneIn(8) {
			continue
		}
		g.setClient(i, true)
		if !g.OneIn(8) {
			g.ready(i)
		}
		if !g.OneIn(8) {
			g.learn(i)
		}
		if g.OneIn(6) {
			g.setPolicy(i)
		}
	}
	for n := len(g.clients) + g.IntN(2*len(g.clients)); n > 0; n-- {
		g.subscribe(g.IntN(len(g.tracks)), g.IntN(len(g.clients)), true)
	}
}

// next makes the next step, or a few that belong together.
func (g *generator) next() {
	switch n := g.IntN(100); {
	case n < 46:
		g.media()
	case n < 56:
		g.damaged()
	case n < 62 && len(g.recent) > 0:
		g.inject("packet again", Publishers, g.recent[g.IntN(len(g.recent))])
	case n < 64 && len(g.late) > 0:
		g.inject("late packet", Publishers, g.late[0])
		g.late = g.late[1:]
	case n < 69:
		g.learn(g.IntN(len(g.clients)))
	case n < 82:
		g.change()
	case n < 89:
		g.word()
	case n < 94:
		g.policyWord(g.IntN(len(g.clients)))
	case n < 96:
		g.setClock()
	case n < 97:
		g.failSends(true)
		for range 1 + g.IntN(3) {
			g.media()
		}
		g.failSends(false)
	default:
		g.drain()
	}
}

func (g *generator) do(text func() string, f func(p *player) string) {
	g.steps = append(g.steps, Step{text, f})
}

func (g *generator) inject(what string, iface int, frame []byte) {
	frame = bytes.Clone(frame)
	g.do(func() string { return fmt.Sprintf("%s at interface %d: %x", what, iface, frame) },
		func(p *player) string { p.Inject(iface, frame); return "" })
}

func (g *generator) failSends(fail bool) {
	g.do(func() string { return fmt.Sprintf("sending fails: %v", fail) }, func(p *player) string { p.FailSends(fail); return "" })
}

func (g *generator) setClock() {
	g.clock += g.Uint64N(40_000_000)
	ns := g.clock
	g.do(func() string { return fmt.Sprintf("clock is %d ns", ns) }, func(p *player) string { p.SetClock(ns); return "" })
}

func (g *generator) drain() {
	g.do(func() string { return "drain" }, func(p *player) string {
		err := p.Datapath().Drain(func(r *datapath.Record) {
			fmt.Fprintf(&p.seen, "record of generation %d, upstream %d at %d: %s %s\n", r.Generation, r.Upstream, p.Nanos(r.Time), FormatRecord(r), FormatDecision(r))
		})
		return outcome(err)
	})
}

// learn sends a packet of a subscriber.
func (g *generator) learn(i int) {
	c := &g.clients[i]
	from, iface := c.Side, c.iface
	if g.OneIn(8) {
		from.MAC[5]++
	}
	if g.OneIn(20) {
		iface = Gone
	}
	f := UDPFrame(from, c.relay, append([]byte{0x40}, g.Bytes(40)...))
	if g.OneIn(10) {
		f = g.Damage(f)
	}
	if len(f) >= 14 {
		g.inject(fmt.Sprintf("packet of client %d", i), iface, f)
	}
}

// media sends a publisher's packet.
func (g *generator) media() {
	f := g.packet()
	switch {
	case g.OneIn(12):
		g.late = append(g.late, f)
		return
	case g.OneIn(40):
		f = append(f, g.Bytes(30)...) // padding of Ethernet
	}
	g.inject("packet", Publishers, f)
	if g.recent = append(g.recent, f); len(g.recent) > 16 {
		g.recent = g.recent[1:]
	}
}

// packet makes a frame with a publisher's packet.
func (g *generator) packet() []byte {
	i := g.IntN(len(g.ups))
	if !g.OneIn(20) {
		i = int(g.tracks[g.IntN(len(g.tracks))].upstream)
	}
	u := &g.ups[i]
	var frames []byte
	n := 1 + g.IntN(3)
	if g.OneIn(10) {
		n += 3
	}
	for k := range n {
		if g.OneIn(5) {
			frames = g.Control(frames, g.OneIn(30))
		}
		if len(frames) < 1300 {
			frames = g.mediaFrame(frames, i, k == n-1)
		}
	}
	if g.OneIn(30) {
		frames = g.Damage(frames)
	}
	for len(frames) < 3 {
		frames = append(frames, byte(wire.FramePing)) // a packet has four bytes of number and frames
	}
	b := u.Builder
	if u.priority || g.OneIn(40) {
		b.CID = bytes.Clone(b.CID)
		b.CID[datapath.CIDLen-1] = byte(g.IntN(256))
	}
	b.PNLen = Pick(g.Random, 4, 4, 4, 3, 2, 1)
	return b.Frame(g.number(u), frames)
}

// number takes a packet number: mostly the next one, and sometimes one that was left out, is old, or far ahead.
func (g *generator) number(u *genUpstream) uint64 {
	switch g.IntN(16) {
	case 0:
		u.skipped = append(u.skipped, u.next)
		u.next++
	case 1:
		if len(u.skipped) > 0 {
			n := u.skipped[0]
			u.skipped = u.skipped[1:]
			return n
		}
	case 2:
		if u.next > 1100 && g.OneIn(2) {
			return u.next - 1 - g.Uint64N(1100)
		}
	case 3:
		if g.OneIn(3) {
			u.next += g.Uint64N(2100)
		}
	}
	u.next++
	return u.next - 1
}

func (g *generator) mediaFrame(b []byte, upstream int, last bool) []byte {
	u := &g.ups[upstream]
	track := genTrack{draft: Pick(g.Random, uint8(14), 16), alias: g.field()}
	if t := g.tracks[g.IntN(len(g.tracks))]; int(t.upstream) == upstream || g.OneIn(30) {
		track = t
	} else {
		for _, t := range g.tracks {
			if int(t.upstream) == upstream && !g.OneIn(12) {
				track = t
			}
		}
	}
	group := g.Uint64N(6)
	if g.OneIn(10) {
		group = g.Number()
	}
	payload := g.Bytes(30)
	if g.OneIn(10) {
		payload = make([]byte, g.IntN(max(1500-len(b), 1)))
	}
	switch n := g.IntN(20); {
	case n < 4:
		return g.DatagramFrame(b, append(g.Object(nil, track.draft, track.alias, group), payload...), last)
	case n < 11 || len(u.streams) == 0:
		s := &genStream{id: u.stream}
		u.stream += 4
		if g.OneIn(10) {
			u.stream += 4
		}
		if g.OneIn(40) {
			s.id = g.Number()
		}
		head := g.Subgroup(nil, track.draft, track.alias, group)
		s.head = len(head)
		data := append(head, payload...)
		if g.OneIn(12) {
			data = data[:g.IntN(s.head+1)]
		}
		s.sent = uint64(len(data))
		if u.streams = append(u.streams, s); len(u.streams) > 8 {
			u.streams = u.streams[1:]
		}
		return g.StreamFrame(b, s.id, 0, data, g.OneIn(8), last)
	}
	s := u.streams[g.IntN(len(u.streams))]
	offset := s.sent
	switch g.IntN(12) {
	case 0: // again from the start, and more
		offset, payload = 0, append(g.Subgroup(nil, track.draft, track.alias, group), payload...)
	case 1: // again in part
		offset = g.Uint64N(s.sent + 1)
	case 2: // after a gap
		offset += g.Uint64N(50)
	case 3:
		if g.OneIn(3) {
			offset = Pick(g.Random, g.Number(), datapath.MaxStreamOffset-g.Uint64N(40), wire.MaxVarint-g.Uint64N(40))
			return g.StreamFrame(b, s.id, offset, payload, false, last)
		}
		payload = nil
	}
	s.sent = max(s.sent, offset+uint64(len(payload)))
	return g.StreamFrame(b, s.id, offset, payload, g.OneIn(6), last)
}

// damaged sends a packet that is not quite one.
func (g *generator) damaged() {
	f := g.packet()
	v6 := f[12] == 0x86
	udp := 34
	if v6 {
		udp = 54
	}
	quic := f[udp+8:]
	switch g.IntN(16) {
	case 0:
		quic[0] |= 0x80
	case 1:
		quic[0] &^= 0x40
	case 2:
		quic[0] ^= Pick(g.Random, byte(0x04), 0x08, 0x10)
	case 3:
		quic[len(quic)-1-g.IntN(16)] ^= 1 << g.IntN(8)
	case 4:
		quic[1+g.IntN(20)] ^= 1 << g.IntN(8)
	case 5:
		f[udp-1-g.IntN(8)] ^= 1 << g.IntN(8) // destination, or part of it
	case 6:
		f[udp+g.IntN(4)] ^= 1
	case 7:
		f[udp+4+g.IntN(2)] ^= 1 << g.IntN(8) // UDP length
	case 8:
		f[Pick(g.Random, 16, 17, 18, 19)] ^= 1 << g.IntN(8) // IP length
	case 9:
		f[Pick(g.Random, 14, 20, 21, 23)] ^= 1 << g.IntN(8) // version, options, fragment, protocol
	case 10:
		f[udp-Pick(g.Random, 5, 9, 17)] ^= 1 // source
	case 11:
		f = f[:14+g.IntN(len(f)-13)]
	case 12:
		copy(f[12:], Pick(g.Random, []byte{0x81, 0, 0, 1}, []byte{0x08, 0x06}, []byte{0x88, 0xcc}, []byte{0x86, 0xdd}, []byte{0x08, 0}))
	case 13: // too long, or too short
		u := &g.ups[g.IntN(len(g.ups))]
		f = u.Frame(g.number(u), make([]byte, Pick(g.Random, 0, 1, 1411, 1412, 1500)))
	case 14: // options
		if !v6 {
			f = append(append(bytes.Clone(f[:34]), 1, 1, 1, 1), f[34:]...)
			f[14] = 0x46
			f[17] += 4
		}
	case 15:
		f = append(f[:14], g.Damage(f[14:])...)
	}
	if len(f) >= 14 {
		g.inject("odd packet", Publishers, f)
	}
}

func genCID(upstream, n int) []byte {
	b := CID(byte(40*upstream + 20*n))
	b[datapath.CIDLen-1] = 0
	return b
}
