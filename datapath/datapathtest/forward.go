package datapathtest

import (
	"bytes"
	"strings"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// ok counts frames that were forwarded.
func ok(n uint64) Counts { return Counts{datapath.Forwarded: n} }

// forwardCases are about what comes out when nothing is wrong.
var forwardCases = []Case{
	{Name: "stream is renamed, rewritten and kept to its end", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(Stream(2, 0, Subgroup(5, 9, 33, "one"), false))
		// Alias 101 takes two bytes where 5 takes one: offsets move by one.
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 42 bytes [2→3 0+9 slot 0 prio 33 opened]"},
			Out{1, 0, Stream(3, 0, Subgroup(101, 9, 33, "one"), false)})
		r.Send(Stream(2, 8, []byte("two"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 1, forwarded, 36 bytes [2→3 9+3 slot 0 prio 33]"},
			Out{1, 1, Stream(3, 9, []byte("two"), false)})
		r.Send(Stream(2, 11, nil, true))
		r.Want(ok(1), []string{"client 1: number 2 of 2, forwarded, 33 bytes [2→3 12+0 slot 0 prio 33 fin]"},
			Out{1, 2, Stream(3, 12, nil, true)})
	}},
	{Name: "alias of any length", Run: func(r *Rig) {
		r.Upstream(nil)
		r.Track(1, 5, 14)
		r.Client(1, 2)
		r.Subscribe(1, 1, 1<<40)
		long := append([]byte{0x10}, wire.AppendVarintLen(nil, 5, 8)...)
		long = append(long, 9, 33, 'x')
		want := append(wire.AppendVarint([]byte{0x10}, 1<<40), 9, 33, 'x')
		r.Send(Stream(2, 0, long, false))
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 45 bytes [2→3 0+12 slot 0 prio 33 opened]"}, Out{1, 0, Stream(3, 0, want, false)})
		r.Send(Stream(2, 12, []byte("y"), true))
		r.Want(ok(1), []string{"client 1: number 1 of 1, forwarded, 34 bytes [2→3 12+1 slot 0 prio 33 fin]"}, Out{1, 1, Stream(3, 12, []byte("y"), true)})
	}},
	{Name: "clients have numbers, IDs and aliases of their own", Run: func(r *Rig) {
		r.Basic(1, 2)
		r.spaces[2].SetNext(1 << 33)
		r.Send(Stream(2, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(ok(2), []string{
			"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]",
			"client 2: number 8589934592 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]",
		}, Out{1, 0, Stream(3, 0, Subgroup(101, 9, 1, "x"), false)}, Out{2, 1 << 33, Stream(3, 0, Subgroup(102, 9, 1, "x"), false)})
	}},
	{Name: "numbers of userspace and datapath do not meet", Run: func(r *Rig) {
		r.Basic(1)
		r.spaces[1].SetNext(1<<32 - 1)
		r.Send(Datagram(ObjectDatagram(5, 9, 1, "")))
		if n := r.spaces[1].TakeNumber(); n != 1<<32 {
			r.Errorf("userspace got number %d", n)
		}
		r.Send(Datagram(ObjectDatagram(5, 9, 1, "")))
		d := Datagram(ObjectDatagram(101, 9, 1, ""))
		r.Want(ok(2), []string{
			"client 1: number 4294967295 of 0, forwarded, 37 bytes [datagram 0 +6 prio 1]",
			"client 1: number 4294967297 of 1, forwarded, 37 bytes [datagram 0 +6 prio 1]",
		}, Out{1, 1<<32 - 1, d}, Out{1, 1<<32 + 1, d})
	}},
	{Name: "other frames stay behind", Run: func(r *Rig) {
		r.Basic(1)
		ack := wire.AppendAck(nil, []wire.AckRange{{Smallest: 5, Largest: 9}, {Smallest: 1, Largest: 2}}, 7, &[3]uint64{1, 2, 3})
		r.Send(ack, wire.AppendMaxData(nil, 1<<30), Stream(2, 0, Subgroup(5, 9, 1, "x"), true), wire.AppendPadding(nil, 20), wire.AppendImmediateAck(nil),
			wire.AppendAckFrequency(nil, 1, 2, 3, 4), Stream(0, 0, []byte("control"), false), Stream(3, 0, []byte("not the peer's"), false))
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened fin]"},
			Out{1, 0, Stream(3, 0, Subgroup(101, 9, 1, "x"), true)})
	}},
	{Name: "tracks mixed in a packet", Run: func(r *Rig) {
		r.Basic(1, 2)
		r.Track(2, 6, 14)
		r.Subscribe(2, 2, 60)
		r.Client(3, 2)
		r.Subscribe(2, 3, 61)
		r.Send(Stream(2, 0, Subgroup(5, 9, 1, "x"), false), Stream(6, 0, Subgroup(6, 8, 2, "y"), true))
		r.Want(ok(4), []string{
			"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]",
			"client 2: number 0 of 0, forwarded, 50 bytes [2→3 0+7 slot 0 prio 1 opened] [6→7 0+6 slot 1 prio 2 opened fin]",
			"client 3: number 0 of 0, forwarded, 39 bytes [6→3 0+6 slot 0 prio 2 opened fin]",
		}, Out{1, 0, Stream(3, 0, Subgroup(101, 9, 1, "x"), false)},
			Out{2, 0, append(Stream(3, 0, Subgroup(102, 9, 1, "x"), false), Stream(7, 0, Subgroup(60, 8, 2, "y"), true)...)},
			Out{3, 0, Stream(3, 0, Subgroup(61, 8, 2, "y"), true)})
	}},
	{Name: "datagrams", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(Datagram([]byte{0x10}), Datagram(ObjectDatagram(5, 9, 4, "data")))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonBadHeader: 1},
			[]string{"client 1: number 0 of 0, forwarded, 41 bytes [datagram 1 +10 prio 4]"},
			Out{1, 0, Datagram(ObjectDatagram(101, 9, 4, "data"))})
	}},
	{Name: "a full packet fits by the long ID and without a length", Run: func(r *Rig) {
		r.Basic(1)
		// 1252 bytes in: 1+20+4+16 of packet, 1+1+1 of frame without length.
		data := Subgroup(5, 9, 1, "")
		data = append(data, bytes.Repeat([]byte("v"), 1252-41-3-len(data))...)
		r.Send(append([]byte{0x0c, 2, 0}, data...))
		want := append([]byte{0x14, 0x40, 101}, data[2:]...)
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 1243 bytes [2→3 0+1209 slot 0 prio 1 opened]"},
			Out{1, 0, Stream(3, 0, want, false)})
		r.spaces[1].SetMaxSize(1241)
		r.Send(Stream(2, uint64(len(data)), bytes.Repeat([]byte("w"), 1207), false))
		// 1+8+4+16 of packet and 1+1+2 of frame leave 1208: no room for a length.
		r.Want(ok(1), []string{"client 1: number 1 of 1, forwarded, 1240 bytes [2→3 1209+1207 slot 0 prio 1]"},
			Out{1, 1, append([]byte{0x0c, 3, 0x44, 0xb9}, bytes.Repeat([]byte("w"), 1207)...)})
	}},
	{Name: "drafts and default priority", Run: func(r *Rig) {
		r.Basic(1)
		r.Track(2, 6, 16)
		r.Subscribe(2, 1, 60)
		r.Send(Stream(2, 0, []byte{0x30, 6, 9, 'x'}, false), Datagram([]byte{0x0c, 6, 9, 'y'}))
		r.Want(ok(2), []string{"client 1: number 0 of 0, forwarded, 43 bytes [2→3 0+4 slot 0 prio 77 opened] [datagram 0 +4 prio 77]"},
			Out{1, 0, append(Stream(3, 0, []byte{0x30, 60, 9, 'x'}, false), Datagram([]byte{0x0c, 60, 9, 'y'})...)})
		// Draft 14 does not have these types.
		r.Send(Stream(6, 0, []byte{0x30, 5, 9, 'x'}, false), Datagram([]byte{0x0c, 5, 9, 'y'}))
		r.Want(Counts{datapath.ReasonBadHeader: 2}, nil)
	}},
	{Name: "sixteen bits of streams", Run: func(r *Rig) { // lesson 1 and 9: wide IDs and numbers
		r.Upstream(func(u *datapath.Upstream) { u.NextNumber = 1 << 40 })
		r.Track(1, 1<<61, 14)
		s := r.AddClient(1, nil)
		r.Learn(1)
		s.SetDataLimit(1 << 62)
		s.Reserve(1<<47|3, 127, 1<<62)
		r.Subscribe(1, 1, 0)
		r.Next = 1 << 40
		id := uint64(1<<61 | 2)
		r.Send(Stream(id, 0, Subgroup(1<<61, 1<<61, 200, ""), false))
		r.Want(ok(1), []string{"client 1: number 0 of 1099511627776, forwarded, 52 bytes [2305843009213693954→140737488355331 0+12 slot 127 prio 200 opened]"},
			Out{1, 0, Stream(1<<47|3, 0, Subgroup(0, 1<<61, 200, ""), false)})
	}},
	{Name: "no padding bytes of the frame are taken", Run: func(r *Rig) {
		r.Basic(1)
		frame := r.Pub.Frame(0, Stream(2, 0, Subgroup(5, 9, 1, "x"), false))
		r.H.Publish(append(frame, strings.Repeat("p", 30)...))
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"},
			Out{1, 0, Stream(3, 0, Subgroup(101, 9, 1, "x"), false)})
	}},
}
