package datapathtest

import (
	"bytes"
	"encoding/binary"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// bad returns a case in which one packet, made from a sound one, ends for a reason, and the sound one is forwarded after it:
// the bad one has changed nothing.
func bad(name string, want datapath.Reason, frame func(r *Rig, sound []byte) []byte) Case {
	return Case{Name: name, Run: func(r *Rig) {
		r.Basic(1)
		sound := r.Pub.Frame(0, Stream(2, 0, Subgroup(5, 9, 1, "x"), false))
		r.H.Publish(frame(r, bytes.Clone(sound)))
		counts := Counts{}
		if want != datapath.Forwarded {
			counts[want] = 1
		}
		r.Want(counts, nil)
		r.H.Publish(sound)
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
	}}
}

// udpAt returns the offset of the UDP header of a built frame.
func (r *Rig) udpAt() int {
	if r.v6 {
		return 54
	}
	return 34
}

// payload returns a frame with another UDP payload.
func payload(p []byte) func(r *Rig, _ []byte) []byte {
	return func(r *Rig, _ []byte) []byte { return UDPFrame(r.Pub.From, r.Relay, p) }
}

// frames returns a packet with other frames.
func frames(f ...[]byte) func(r *Rig, _ []byte) []byte {
	return func(r *Rig, _ []byte) []byte { return r.Pub.Frame(0, bytes.Join(f, nil)) }
}

// built returns the sound packet with a changed Builder.
func built(change func(b *Builder)) func(r *Rig, _ []byte) []byte {
	return func(r *Rig, _ []byte) []byte {
		b := r.Pub
		change(&b)
		return b.Frame(0, Stream(2, 0, Subgroup(5, 9, 1, "x"), false))
	}
}

func manyAcks(n int) []byte {
	var ranges []wire.AckRange
	for i := range n {
		pn := uint64(10 * (n - i))
		ranges = append(ranges, wire.AckRange{Smallest: pn, Largest: pn})
	}
	return wire.AppendAck(nil, ranges, 0, nil)
}

var media = Stream(2, 0, Subgroup(5, 9, 1, "x"), false)

// packetCases are about packets that go to userspace alone.
var packetCases = []Case{
	bad("long header", datapath.ReasonLongHeader, built(func(b *Builder) { b.Change = func(p []byte) { p[0] |= 0x80 } })),
	bad("unknown connection ID", datapath.ReasonUnknownCID, built(func(b *Builder) { b.CID = CID(2) })),
	bad("other address", datapath.ReasonAddress, func(r *Rig, _ []byte) []byte {
		b := r.Pub
		b.From = r.side(3, 4000)
		return b.Frame(0, media)
	}),
	bad("other source port", datapath.ReasonAddress, func(r *Rig, _ []byte) []byte {
		b := r.Pub
		b.From = r.side(2, 4001)
		return b.Frame(0, media)
	}),
	bad("other port", 0, func(r *Rig, _ []byte) []byte {
		b := r.Pub
		b.To = r.side(1, r.Relay.Addr.Port()+1)
		return b.Frame(0, media)
	}),
	bad("not IP", 0, func(r *Rig, f []byte) []byte { f[12], f[13] = 0x08, 0x06; return f }),
	bad("VLAN", 0, func(r *Rig, f []byte) []byte {
		return append(append(bytes.Clone(f[:12]), 0x81, 0, 0, 1), f[12:]...)
	}),
	bad("not UDP", 0, func(r *Rig, f []byte) []byte {
		if r.v6 {
			f[14+6] = 44
		} else {
			f[14+9] = 6
		}
		return f
	}),
	{Name: "fragments and options", Run: func(r *Rig) {
		r.Basic(1)
		if r.v6 {
			return // an extension header is "not UDP"
		}
		f := r.Pub.Frame(0, media)
		first, later := bytes.Clone(f), bytes.Clone(f)
		first[14+6] |= 0x20
		later[14+7] = 1
		options := append(bytes.Clone(f[:34]), 1, 1, 1, 1)
		options = append(options, f[34:]...)
		options[14] = 0x46
		binary.BigEndian.PutUint16(options[16:], uint16(len(options)-14))
		for _, f := range [][]byte{first, options} {
			r.H.Publish(f)
			r.Want(Counts{datapath.ReasonFragment: 1}, nil)
		}
		r.H.Publish(later)
		r.Want(nil, nil)
	}},
	bad("UDP length beyond the packet", datapath.ReasonTruncated, func(r *Rig, f []byte) []byte { f[r.udpAt()+5]++; return f }),
	bad("UDP without payload", datapath.ReasonTruncated, payload(nil)),
	bad("UDP length below its header", datapath.ReasonTruncated, func(r *Rig, f []byte) []byte { f[r.udpAt()+4], f[r.udpAt()+5] = 0, 7; return f }),
	bad("shorter than a packet can be", datapath.ReasonTruncated, func(r *Rig, f []byte) []byte {
		return UDPFrame(r.Pub.From, r.Relay, append([]byte{0x40}, append(CID(1), make([]byte, 19)...)...))
	}),
	bad("longer than a packet may be", datapath.ReasonTruncated, func(r *Rig, f []byte) []byte {
		return r.Pub.Frame(0, append(bytes.Clone(media), make([]byte, datapath.MaxPacketSize-40-len(media))...))
	}),
	bad("fixed bit", datapath.ReasonTruncated, built(func(b *Builder) { b.First = 0x40 })),
	bad("reserved bit", datapath.ReasonAuth, built(func(b *Builder) { b.First = 0x08 })),
	bad("other reserved bit", datapath.ReasonAuth, built(func(b *Builder) { b.First = 0x10 })),
	bad("key phase", datapath.ReasonAuth, built(func(b *Builder) { b.First = 0x04 })),
	bad("tag", datapath.ReasonAuth, built(func(b *Builder) { b.Change = func(p []byte) { p[len(p)-1] = 1 } })),
	bad("unknown frame", datapath.ReasonMalformedFrame, frames(media, []byte{0x21})),
	bad("long frame type", datapath.ReasonMalformedFrame, frames(media, []byte{0x40, 0x01})),
	bad("frame beyond the packet", datapath.ReasonMalformedFrame, frames([]byte{0x0a, 2, 40, 'x'})),
	bad("stream beyond 2^62", datapath.ReasonMalformedFrame, frames(Stream(2, 1<<62-1, []byte("x"), false))),
	bad("ACK below 0", datapath.ReasonMalformedFrame, frames(media, []byte{0x02, 3, 0, 0, 4})),
	bad("ACK range below 0", datapath.ReasonMalformedFrame, frames(media, []byte{0x02, 3, 0, 1, 0, 2, 0})),
	bad("ACK without its counts", datapath.ReasonMalformedFrame, frames(media, []byte{0x03, 3, 0, 0, 0, 1, 1})),
	bad("reset below its reliable size", datapath.ReasonMalformedFrame, frames(media, []byte{0x24, 2, 0, 1, 2})),
	bad("connection ID of no bytes", datapath.ReasonMalformedFrame, frames(media, append([]byte{0x18, 1, 0, 0}, make([]byte, 16)...))),
	bad("65 frames", datapath.ReasonTooManyFrames, frames(media, make([]byte, 64))),
	bad("64 ACK ranges and a frame", datapath.ReasonTooManyFrames, frames(manyAcks(64), media)),
	bad("65 ACK ranges", datapath.ReasonTooManyFrames, frames(manyAcks(65))),
	{Name: "64 frames", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media, make([]byte, 63))
		r.Send(manyAcks(63), Stream(2, 6, nil, true))
		r.Want(ok(2), []string{
			"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]",
			"client 1: number 1 of 1, forwarded, 33 bytes [2→3 7+0 slot 0 prio 1 fin]",
		}, Out{Client: 1}, Out{Client: 1})
	}},
	{Name: "no media", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(wire.AppendPing(nil))
		r.Send(Stream(0, 0, []byte("control"), false))
		r.Want(Counts{datapath.ReasonNoMedia: 2}, nil)
	}},
	{Name: "replay", Run: func(r *Rig) {
		r.Upstream(func(u *datapath.Upstream) { u.NextNumber = 10 })
		r.Track(1, 5, 14)
		r.Client(1, 4)
		r.Subscribe(1, 1, 101)
		d := Datagram(ObjectDatagram(5, 9, 1, ""))
		for _, n := range []uint64{9, 0} { // seen before the datapath was there
			r.H.Publish(r.Pub.Frame(n, d))
			r.Want(Counts{datapath.ReasonReplay: 1}, nil)
		}
		rec := func(own, n string) []string {
			return []string{"client 1: number " + own + " of " + n + ", forwarded, 37 bytes [datagram 0 +6 prio 1]"}
		}
		r.H.Publish(r.Pub.Frame(1034, d))
		r.Want(ok(1), rec("0", "1034"), Out{Client: 1})
		r.H.Publish(r.Pub.Frame(1034, d)) // duplicate
		r.H.Publish(r.Pub.Frame(10, d))   // 1034 has its slot
		r.Want(Counts{datapath.ReasonReplay: 2}, nil)
		r.H.Publish(r.Pub.Frame(11, d)) // late and new
		r.Want(ok(1), rec("1", "11"), Out{Client: 1})
		r.Upstream(nil) // a change keeps the window
		r.H.Publish(r.Pub.Frame(11, d))
		r.Want(Counts{datapath.ReasonReplay: 1}, nil)
	}},
	{Name: "short packet numbers", Run: func(r *Rig) {
		r.Basic(1)
		r.Upstream(nil)
		for i, n := range []uint64{100, 228, 300, 299, 40000} {
			r.Pub.PNLen = 2
			if i%2 == 0 && i < 3 {
				r.Pub.PNLen = 1
			}
			if n == 300 || n == 40000 {
				r.Pub.PNLen = 3
			}
			r.H.Publish(r.Pub.Frame(n, Stream(0, 0, []byte("control"), false)))
			r.H.Publish(r.Pub.Frame(n, Stream(0, 0, []byte("control"), false)))
			r.Want(Counts{datapath.ReasonNoMedia: 1, datapath.ReasonReplay: 1}, nil)
		}
	}},
}
