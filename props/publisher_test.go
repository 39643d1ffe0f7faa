package props_test

import (
	"bytes"
	"net/netip"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// piece is a media frame of a publisher's packet.
type piece struct {
	stream   *pubStream // nil: a datagram
	from, to int
	fin      bool
	track    datapath.TrackID
	data     []byte // of a datagram
}

// pubPacket is a packet on its way to the relay.
type pubPacket struct {
	pub    *publisher
	number uint64
	pieces []piece
	frames []byte // of QUIC
	frame  []byte // as it comes in
	// unreadable: ingress cannot read it, as one with more frames than it walks, and userspace can.
	unreadable bool
}

// pubStream is a stream of a publisher.
type pubStream struct {
	pub   *publisher
	id    uint64
	track datapath.TrackID
	group uint64
	data  []byte
	begun bool    // userspace has read its start
	asked bool    // and then who has it
	known []piece // that were sent
	next  int
}

// publisher is an upstream with its tracks and all that it will send.
type publisher struct {
	id      datapath.UpstreamID
	builder datapathtest.Builder
	next    uint64 // packet number
	tracks  []datapath.TrackID
	aliases map[datapath.TrackID]uint64
	streams []*pubStream
	packets []*pubPacket
}

func hostSide(n byte, port uint16) datapathtest.Side {
	return datapathtest.Side{MAC: [6]byte{2, 0, 0, 0, 9, n}, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, n}), port)}
}

// drawPublisher draws streams, and packets of their pieces: several in a packet, split anyhow, out of order, repeated in
// new packets, and whole packets repeated.
func drawPublisher(t *rapid.T, id datapath.UpstreamID, relay datapathtest.Side, prof profile) *publisher {
	p := &publisher{id: id, aliases: make(map[datapath.TrackID]uint64)}
	p.builder = datapathtest.Builder{From: hostSide(byte(2+id), 4000), To: relay, CID: datapathtest.CID(byte(40 * (1 + id)))}
	p.next = rapid.SampledFrom([]uint64{0, 1<<16 - 9, 1<<32 - 9, 1 << 40}).Draw(t, "first upstream number")
	for i := range datapath.TrackID(rapid.IntRange(1, 2).Draw(t, "tracks")) {
		tr := datapath.TrackID(id)*4 + i
		p.tracks = append(p.tracks, tr)
		p.aliases[tr] = rapid.SampledFrom([]uint64{1, 60, 200, 20000}).Draw(t, "alias") + uint64(i)
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "streams") {
		tr := p.tracks[rapid.IntRange(0, len(p.tracks)-1).Draw(t, "track")]
		s := &pubStream{pub: p, id: uint64(4*i + 2), track: tr, group: uint64(i / 2)}
		s.data = datapathtest.Subgroup(p.aliases[tr], s.group, prof.priority(t), "")
		for k := range rapid.IntRange(0, 120).Draw(t, "length") {
			s.data = append(s.data, byte(k)^byte(i*37)^byte(id*91))
		}
		p.streams = append(p.streams, s)
	}
	for range rapid.IntRange(1, prof.packets).Draw(t, "packets") {
		p.drawPacket(t, prof)
	}
	for i := 1; i < len(p.packets); i++ {
		if rapid.IntRange(0, 5).Draw(t, "reorder") == 5 {
			p.packets[i-1], p.packets[i] = p.packets[i], p.packets[i-1]
		}
	}
	return p
}

func (p *publisher) drawPacket(t *rapid.T, prof profile) {
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	if kind == 9 && len(p.packets) > 0 {
		p.packets = append(p.packets, p.packets[rapid.IntRange(0, len(p.packets)-1).Draw(t, "replayed")])
		return
	}
	pk := &pubPacket{pub: p, number: p.next}
	pk.unreadable = prof.unreadable && rapid.IntRange(0, 3).Draw(t, "unreadable") == 0
	p.next++
	frames := 1
	if !prof.single {
		frames = rapid.IntRange(1, 3).Draw(t, "frames")
	}
	for range frames {
		s := p.streams[rapid.IntRange(0, len(p.streams)-1).Draw(t, "of stream")]
		switch {
		case kind == 8:
			tr := p.tracks[rapid.IntRange(0, len(p.tracks)-1).Draw(t, "datagram's track")]
			pk.pieces = append(pk.pieces, piece{track: tr, data: datapathtest.ObjectDatagram(p.aliases[tr], 0, 9, "datagram")})
		case kind >= 6 && len(s.known) > 0 || s.next > len(s.data):
			if len(s.known) > 0 {
				pk.pieces = append(pk.pieces, s.known[rapid.IntRange(0, len(s.known)-1).Draw(t, "retransmitted")])
			}
		default:
			n := rapid.IntRange(1, 60).Draw(t, "bytes")
			if s.next == 0 {
				n = max(n, 12) // the header is whole, mostly
			}
			c := piece{stream: s, track: s.track, from: s.next, to: min(s.next+n, len(s.data))}
			c.fin = c.to == len(s.data)
			s.next = c.to
			if c.fin {
				s.next++ // nothing is left
			}
			s.known = append(s.known, c)
			if kind != 5 { // lost on the way to the relay; a retransmission may come
				pk.pieces = append(pk.pieces, c)
			}
		}
	}
	if len(pk.pieces) == 0 {
		return
	}
	var b [][]byte
	for _, c := range pk.pieces {
		if c.stream == nil {
			b = append(b, datapathtest.Datagram(c.data))
		} else {
			b = append(b, datapathtest.Stream(c.stream.id, uint64(c.from), c.stream.data[c.from:c.to], c.fin))
		}
	}
	pk.frames = bytes.Join(b, nil)
	pk.frame = p.builder.Frame(pk.number, pk.frames)
	p.packets = append(p.packets, pk)
}

// rewritten returns the stream as a client with an alias of its own gets it.
func (s *pubStream) rewritten(alias uint64) []byte {
	old := wire.VarintLen(s.pub.aliases[s.track])
	b := wire.AppendVarint(s.data[:1:1], alias)
	return append(b, s.data[1+old:]...)
}
