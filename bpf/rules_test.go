//go:build cgo

package bpf

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// number draws integers of all magnitudes, and those next to a power of two more often.
func number(t *rapid.T, label string) uint64 {
	bits := rapid.IntRange(0, 62).Draw(t, label+" bits")
	edge := uint64(1) << bits
	return rapid.OneOf(rapid.Uint64Range(edge/2, edge), rapid.SampledFrom([]uint64{edge - 1, edge, edge + 1})).Draw(t, label) & wire.MaxVarint
}

// frame draws a frame that is mostly well-formed: its integers are, their relations need not be.
func frame(t *rapid.T, b []byte) []byte {
	types := []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
		0x20, 0x24, 0x30, 0x31, 0xaf, 10, 14, 15, 10, 0x31, 0, 2}
	typ := rapid.SampledFrom(types).Draw(t, "type")
	b = wire.AppendVarint(b, typ)
	data := func(max int) []byte { return rapid.SliceOfN(rapid.Byte(), 0, max).Draw(t, "data") }
	v := func(b []byte, n int) []byte {
		for range n {
			b = wire.AppendVarint(b, rapid.OneOf(rapid.Uint64Range(0, 12), rapid.Custom(func(t *rapid.T) uint64 { return number(t, "n") })).Draw(t, "field"))
		}
		return b
	}
	withLength := func(b []byte) []byte {
		d := data(30)
		return append(wire.AppendVarint(b, uint64(len(d))), d...)
	}
	switch {
	case typ&^7 == 8:
		b = wire.AppendVarint(b, rapid.Uint64Range(0, 30).Draw(t, "stream"))
		if typ&4 != 0 {
			b = v(b, 1)
		}
		if typ&2 != 0 {
			return withLength(b)
		}
		return append(b, data(5)...)
	case typ == 2 || typ == 3:
		n := rapid.IntRange(0, 70).Draw(t, "ranges")
		b = wire.AppendVarint(b, rapid.Uint64Range(0, 400).Draw(t, "largest"))
		b = wire.AppendVarint(b, 3)
		b = wire.AppendVarint(b, uint64(n))
		b = wire.AppendVarint(b, rapid.Uint64Range(0, 5).Draw(t, "first"))
		for range 2 * n {
			b = append(b, rapid.ByteRange(0, 4).Draw(t, "range"))
		}
		if typ == 3 {
			b = v(b, 3)
		}
		return b
	case typ == 6 || typ == 0x1d:
		return withLength(v(b, 1))
	case typ == 0x1c:
		return withLength(v(b, 2))
	case typ == 7 || typ == 0x31:
		return withLength(b)
	case typ == 0x18:
		n := rapid.IntRange(0, 22).Draw(t, "ID")
		return append(append(v(b, 2), byte(n)), make([]byte, n+16)...)
	case typ == 0x1a || typ == 0x1b:
		return append(b, make([]byte, 8)...)
	case typ == 0x04:
		return v(b, 3)
	case typ == 0x24 || typ == 0xaf:
		return v(b, 4)
	case typ == 0x05 || typ == 0x11 || typ == 0x15:
		return v(b, 2)
	case typ >= 0x10 && typ <= 0x19:
		return v(b, 1)
	}
	return b
}

// TestWalk: a packet's frames have the same reason, and the same media frames if there is none.
func TestWalk(t *testing.T) {
	// Every verdict, at its limit: a random sample may have none of a kind.
	many := []wire.AckRange{}
	for n := range uint64(datapath.MaxFrames + 1) {
		many = append(many, wire.AckRange{Smallest: 1000 - 4*n, Largest: 1000 - 4*n})
	}
	for _, c := range []struct {
		name string
		b    []byte
		want datapath.Reason
	}{
		{"as many frames as may be", make([]byte, datapath.MaxFrames), datapath.Forwarded},
		{"one frame more", make([]byte, datapath.MaxFrames+1), datapath.ReasonTooManyFrames},
		{"as many ACK ranges as may be", wire.AppendAck(nil, many[:datapath.MaxFrames], 0, nil), datapath.Forwarded},
		{"one ACK range more", wire.AppendAck(nil, many, 0, nil), datapath.ReasonTooManyFrames},
		{"unknown frame", []byte{0x21}, datapath.ReasonMalformedFrame},
		{"cut off after as many frames as may be", append(make([]byte, datapath.MaxFrames-1), 0x0a), datapath.ReasonMalformedFrame},
	} {
		var m rules.Media
		if got := walk(c.b, 2, &m); got != c.want {
			t.Errorf("%s: %v in C, want %v", c.name, got, c.want)
		}
		compareWalk(t, c.b)
	}
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		for range rapid.IntRange(0, 12).Draw(t, "frames") {
			b = frame(t, b)
		}
		if rapid.IntRange(0, 3).Draw(t, "padded") == 0 {
			b = append(b, make([]byte, rapid.IntRange(0, 70).Draw(t, "padding"))...)
		}
		if len(b) > 0 && rapid.IntRange(0, 3).Draw(t, "damaged") == 0 {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		b = b[:min(len(b), datapath.MaxPacketSize)]
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
		}
		compareWalk(t, b)
	})
}

type tester interface {
	Helper()
	Errorf(string, ...any)
}

func compareWalk(t tester, b []byte) {
	t.Helper()
	var inGo, inC rules.Media
	want, got := rules.Walk(b, 2, &inGo), walk(b, 2, &inC)
	if want != got {
		t.Errorf("%x: %v in Go, %v in C", b, want, got)
	}
	if want != datapath.Forwarded || got != datapath.Forwarded {
		return
	}
	for i := inGo.Len; i < len(inGo.Frames); i++ {
		inGo.Frames[i] = rules.Frame{} // left by a packet before
	}
	equalBytes := cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })
	if d := cmp.Diff(inGo, inC, equalBytes); d != "" {
		t.Errorf("%x (-Go +C):\n%s", b, d)
	}
}

// FuzzWalk compares on any bytes.
func FuzzWalk(f *testing.F) {
	f.Add([]byte{0x0a, 2, 1, 0x10, 0x40, 1})
	f.Add([]byte{3, 9, 0, 1, 0, 0, 0, 1, 1, 1, 0x31, 1, 0})
	f.Add([]byte{0x40, 0xaf, 1, 2, 3, 4, 0x80, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) { compareWalk(t, b[:min(len(b), datapath.MaxPacketSize)]) })
}

// TestHeaders: subgroup and datagram headers, also those that are cut off.
func TestHeaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := []byte{rapid.ByteRange(0, 0x50).Draw(t, "type")}
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			v := number(t, "field")
			n := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "bytes")
			b = wire.AppendVarintLen(b, v, max(n, wire.VarintLen(v)))
		}
		b = append(b, rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "rest")...)
		b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
		for _, datagram := range []bool{false, true} {
			var inGo, inC rules.Header
			parse := rules.ParseSubgroup
			if datagram {
				parse = rules.ParseDatagram
			}
			want, got := parse(b, &inGo), header(b, datagram, &inC)
			if want != got {
				t.Fatalf("%x: %v in Go, %v in C", b, want, got)
			}
			if d := cmp.Diff(inGo, inC); want == datapath.Forwarded && d != "" {
				t.Fatalf("%x (-Go +C):\n%s", b, d)
			}
		}
	})
}

// TestTypes: all types in both drafts.
func TestTypes(t *testing.T) {
	for typ := range 256 {
		for _, draft := range []uint8{14, 16} {
			if a, b := rules.SubgroupType(uint8(typ), draft), subgroupType(uint8(typ), draft); a != b {
				t.Errorf("subgroup type %#x of draft %d: %v in Go, %v in C", typ, draft, a, b)
			}
			if a, b := rules.DatagramType(uint8(typ), draft), datagramType(uint8(typ), draft); a != b {
				t.Errorf("datagram type %#x of draft %d: %v in Go, %v in C", typ, draft, a, b)
			}
		}
	}
}

// TestVarints: reading, also of cut off ones, and writing.
func TestVarints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "bytes")
		v, n := wire.ReadVarint(b)
		if cv, cn := readVarint(b); cn != n || (n > 0 && cv != v) {
			t.Fatalf("%x: %d of %d bytes in Go, %d of %d in C", b, v, n, cv, cn)
		}
		v = number(t, "value")
		if a, b := wire.AppendVarint(nil, v), writeVarint(v); string(a) != string(b) {
			t.Fatalf("%d: %x in Go, %x in C", v, a, b)
		}
	})
}

// TestNumbers: packet number decoding and the replay slots.
func TestNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		next, n := number(t, "next"), rapid.IntRange(1, 4).Draw(t, "bytes")
		truncated := rapid.OneOf(rapid.Uint64(), rapid.Custom(func(t *rapid.T) uint64 {
			return next + rapid.Uint64Range(0, 600).Draw(t, "ahead") - 300
		})).Draw(t, "truncated") & (1<<(8*n) - 1)
		full := wire.DecodePacketNumber(next, truncated, n)
		if c := decodeNumber(next, truncated, n); c != full {
			t.Fatalf("next %d, %#x in %d bytes: %d in Go, %d in C", next, truncated, n, full, c)
		}
		slot := full + rapid.Uint64Range(0, 4).Draw(t, "slot") - 1
		if _, fresh := rules.Replay(slot, full); fresh == replayed(slot, full) {
			t.Fatalf("slot %d, number %d: fresh %v in Go, replayed %v in C", slot, full, fresh, !fresh)
		}
	})
}

// TestStreamWord: rule 5 of the egress.
func TestStreamWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := number(t, "stream")
		end := number(t, "end")
		limit := rapid.OneOf(rapid.Just(end), rapid.Just(end-1), rapid.Just(uint64(wire.MaxVarint))).Draw(t, "limit")
		highest := rapid.OneOf(rapid.Just(end), rapid.Uint64()).Draw(t, "highest") & datapath.StreamOffset
		word := datapath.StreamTag(stream+rapid.SampledFrom([]uint64{0, 0, 0, 4}).Draw(t, "other")) | highest
		if rapid.IntRange(0, 4).Draw(t, "closed") == 0 {
			word |= datapath.StreamClosed
		}
		fin := rapid.Bool().Draw(t, "fin")
		r := rules.CheckStream(end, limit)
		var next, growth uint64
		if r == datapath.Forwarded {
			next, growth, r = rules.Advance(word, stream, end, fin)
		}
		cn, cg, cr := advance(word, limit, stream, end, fin)
		if r != cr || (r == datapath.Forwarded && (next != cn || growth != cg)) {
			t.Fatalf("word %#x to %d of stream %d: %#x %d %v in Go, %#x %d %v in C", word, end, stream, next, growth, r, cn, cg, cr)
		}
	})
}

// TestBudget: a client's budget, also where its sums and products overflow.
func TestBudget(t *testing.T) {
	compare := func(t tester, sent, limit, pace, cost, burst, now, size uint64) {
		t.Helper()
		if a, b := datapath.PaceAfter(pace, cost, now, size), paceAfter(pace, cost, now, size); a != b {
			t.Errorf("pace %d, cost %d, now %d, size %d: %d in Go, %d in C", pace, cost, now, size, a, b)
		}
		want := datapath.CheckBudget(sent, limit, pace, cost, burst, now, size)
		if got := checkBudget(sent, limit, pace, cost, burst, now, size); got != want {
			t.Errorf("sent %d of %d, pace %d, cost %d, burst %d, now %d, size %d: %v in Go, %v in C", sent, limit, pace, cost, burst, now, size, want, got)
		}
	}
	const most = datapath.Unlimited
	for _, c := range [][7]uint64{
		{0, 1200, 0, 0, 0, 0, 1200}, {1, 1200, 0, 0, 0, 0, 1200}, {most, most, 0, 0, 0, 0, 1}, {most - 1, most, 0, 0, 0, 0, 1},
		{0, most, 5, 1024, 1200, 5, 1200}, {0, most, 6, 1024, 1200, 5, 1200}, {0, most, 5, 1024, 1199, 5, 1200}, {0, most, 4, 1024, 1200, 5, 1200},
		{0, most, most, 1, 0, 0, 1024}, {0, most, 0, most, most, most, 2}, {0, most, 0, 1 << 60, 0, 1, 16}, {0, most, 0, 1, most, 1, 1},
	} {
		compare(t, c[0], c[1], c[2], c[3], c[4], c[5], c[6])
	}
	rapid.Check(t, func(t *rapid.T) {
		near := func(name string) uint64 { // a limit that is close to what is compared with it, or anything
			return rapid.OneOf(rapid.Uint64Range(0, 4000), rapid.Uint64(), rapid.Custom(func(t *rapid.T) uint64 { return -rapid.Uint64Range(0, 4000).Draw(t, "below 0") })).Draw(t, name)
		}
		compare(t, near("sent"), near("limit"), near("pace"), near("cost"), near("burst"), near("now"), near("size"))
	})
}

// TestDatagramSize: rule 4 of the egress.
func TestDatagramSize(t *testing.T) {
	for length := range uint32(2 * datapath.MaxPacketSize) {
		for _, with := range []bool{false, true} {
			if a, b := rules.DatagramSize(int(length), with), datagramSize(length, with); a != b {
				t.Errorf("%d bytes, length field %v: %d in Go, %d in C", length, with, a, b)
			}
		}
	}
}

// TestPrefix: rule 3 of the egress, and the subscription's groups.
func TestPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.OneOf(rapid.Uint64Range(0, 12), rapid.Custom(func(t *rapid.T) uint64 { return number(t, "far") })).Draw(t, "offset")
		data := make([]byte, rapid.IntRange(0, 20).Draw(t, "length"))
		aliasLen := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "old alias")
		alias := number(t, "alias")
		var p rules.Piece
		want := rules.NewPrefix(aliasLen, alias).Rewrite(offset, data, &p)
		to, size, got := translate(offset, uint32(len(data)), uint32(1+aliasLen), uint32(1+wire.VarintLen(alias)))
		if want != got || (want == datapath.Forwarded && (p.Offset != to || p.Len() != int(size))) {
			t.Fatalf("%d bytes at %d: %d at %d %v in Go, %d at %d %v in C", len(data), offset, p.Len(), p.Offset, want, size, to, got)
		}
		s := datapath.Subscription{FirstGroup: number(t, "first"), LastGroup: rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(t, "last")}
		group := rapid.OneOf(rapid.Just(s.FirstGroup), rapid.Just(s.LastGroup), rapid.Uint64()).Draw(t, "group")
		if a, b := rules.Selected(group, &s), selected(s.FirstGroup, s.LastGroup, group); a != b {
			t.Fatalf("group %d of %+v: %v in Go, %v in C", group, s, a, b)
		}
	})
}

// TestEdges compares at the limits that random input seldom meets.
func TestEdges(t *testing.T) {
	v := func(b []byte, values ...uint64) []byte {
		for _, x := range values {
			b = wire.AppendVarint(b, x)
		}
		return b
	}
	newCID := func(n byte) []byte {
		return append(v([]byte{0x18}, 1, 0), append([]byte{n}, make([]byte, int(n)+16)...)...)
	}
	five := func(last ...byte) []byte { return append([]byte{0x31, 0, 0x31, 0, 0x31, 0, 0x31, 0}, last...) }
	for _, b := range [][]byte{
		v([]byte{2}, 9, 0, 1, 0, 8, 0), v([]byte{2}, 9, 0, 1, 0, 7, 0), v([]byte{2}, 9, 0, 1, 0, 7, 1), v([]byte{2}, 9, 0, 0, 9), v([]byte{2}, 9, 0, 0, 10),
		v([]byte{3}, 9, 0, 0, 0, 1, 2, 3), v([]byte{3}, 9, 0, 1, 0, 1, 1, 1, 2), v([]byte{3}, 9, 0, 1, 0, 1, 1, 1, 2, 3),
		v([]byte{0x12}, 1<<60), v([]byte{0x12}, 1<<60+1), v([]byte{0x17}, 1<<60), v([]byte{0x17}, 1<<60+1),
		newCID(0), newCID(1), newCID(20), newCID(21), newCID(20)[:39], {0x18, 0, 1, 1}, {0x18, 1, 1},
		v([]byte{0x24}, 1, 1, 5, 5), v([]byte{0x24}, 1, 1, 5, 6), {7, 0}, {7, 1, 0}, {7, 1},
		v([]byte{6}, wire.MaxVarint-1, 1, 0), v([]byte{6}, wire.MaxVarint, 1, 0),
		append(v([]byte{0x0e}, 2, wire.MaxVarint-1, 1), 0), append(v([]byte{0x0e}, 2, wire.MaxVarint, 1), 0), v([]byte{0x0d}, 2, wire.MaxVarint),
		five(0x0e, 6, 0, 0), five(0x0e, 6, 1, 0), five(0x0a, 10, 0, 0x0a, 6, 0), five(0x30), five(0x0a, 7, 0),
		make([]byte, 64), make([]byte, 65), {}, {0x40, 0xaf, 0, 0, 0, 0}, {0x40, 0x01}, {0x20}, {0x3f},
	} {
		compareWalk(t, b)
	}
	for n := uint64(60); n < 66; n++ { // ACK ranges count as frames
		b := append(v([]byte{2}, 400, 0, n, 0), make([]byte, 2*n)...)
		compareWalk(t, b)
		compareWalk(t, append(b, 1))
	}
	long := wire.AppendVarintLen(wire.AppendVarintLen(wire.AppendVarintLen([]byte{0x14}, 5, 8), 6, 8), 7, 8)
	for _, b := range [][]byte{long, append(long, 9), append(long, make([]byte, 60)...)} {
		var inGo, inC rules.Header
		want, got := rules.ParseSubgroup(b, &inGo), header(b, false, &inC)
		if d := cmp.Diff(inGo, inC); want != got || want == datapath.Forwarded && d != "" {
			t.Errorf("%x: %v in Go, %v in C:\n%s", b, want, got, d)
		}
	}
	for _, next := range []uint64{0, 127, 128, 129, 255, 256, 384, 385, 1 << 32, 1<<62 - 1, 1<<62 - 128, 1<<62 - 256} {
		for low := range uint64(256) {
			if a, b := wire.DecodePacketNumber(next, low, 1), decodeNumber(next, low, 1); a != b {
				t.Errorf("next %d, %#x: %d in Go, %d in C", next, low, a, b)
			}
		}
	}
	for _, end := range []uint64{0, 1, datapath.MaxStreamOffset - 1, datapath.MaxStreamOffset, datapath.MaxStreamOffset + 1} {
		word, want := datapath.StreamTag(3), rules.CheckStream(end, wire.MaxVarint)
		if _, _, got := advance(word, wire.MaxVarint, 3, end, false); got != want {
			t.Errorf("end %#x: %v in Go, %v in C", end, want, got)
		}
	}
	for length := range uint32(5) {
		for offset := range uint64(4) {
			var p rules.Piece
			want := rules.NewPrefix(1, 100).Rewrite(offset, make([]byte, length), &p)
			to, size, got := translate(offset, length, 2, 3)
			if want != got || want == datapath.Forwarded && (p.Offset != to || p.Len() != int(size)) {
				t.Errorf("%d bytes at %d: %v in Go, %v in C", length, offset, want, got)
			}
		}
	}
}
