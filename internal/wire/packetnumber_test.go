package wire

import (
	"testing"

	"pgregory.net/rapid"
)

func TestDecodePacketNumber(t *testing.T) {
	for _, tc := range []struct {
		name            string
		next, truncated uint64
		n               int
		want            uint64
	}{
		{"RFC 9000 A.3", 0xa82f30ea + 1, 0x9b32, 2, 0xa82f9b32},
		{"none yet", 0, 0, 1, 0},
		{"none yet, high byte stays", 0, 0xff, 1, 0xff},
		{"wrap of 16 bits, forward", 0xffff, 0x0002, 2, 0x10002},
		{"wrap of 16 bits, back", 0x10002, 0xfffe, 2, 0xfffe},
		{"wrap of 32 bits, forward", 0xfffffff0, 5, 4, 0x100000005},
		{"wrap of 32 bits, back", 0x100000005, 0xfffffff0, 4, 0xfffffff0},
		{"half a window ahead", 0x100, 0x80, 1, 0x180},
		{"half a window behind is half a window ahead", 0x180, 0x00, 1, 0x200},
		{"more than half a window ahead", 0x100, 0x81, 1, 0x81},
		{"top of the number space", MaxVarint, 0xff, 1, MaxVarint},
		{"no number above the space", MaxVarint, 0x00, 1, MaxVarint - 0xff},
	} {
		if got := DecodePacketNumber(tc.next, tc.truncated, tc.n); got != tc.want {
			t.Errorf("%s: DecodePacketNumber(%#x, %#x, %d) = %#x, want %#x", tc.name, tc.next, tc.truncated, tc.n, got, tc.want)
		}
	}
}

// nearest is the definition of packet number decoding, without cleverness: of all numbers with the given low bytes
// the one nearest to next (RFC 9000, section 17.1); of two equally near ones the higher, if there is one.
func nearest(next, truncated uint64, n int) uint64 {
	step := uint64(1) << (8 * n)
	best := truncated
	start := uint64(0)
	if next > 3*step {
		start = (next/step - 2) * step
	}
	distance := func(pn uint64) uint64 { return max(pn, next) - min(pn, next) }
	for base, i := start, 0; i < 6; base, i = base+step, i+1 {
		if pn := base + truncated; pn <= MaxVarint && (base == start || distance(pn) <= distance(best)) {
			best = pn
		}
	}
	return best
}

// nearWraps draws packet numbers that lie close to a multiple of a truncated number's range.
func nearWraps() *rapid.Generator[uint64] {
	return rapid.Custom(func(t *rapid.T) uint64 {
		base := rapid.SampledFrom([]uint64{0, 1 << 8, 1 << 16, 3 << 16, 1 << 24, 1 << 32, 5 << 32, 1 << 40, 1<<62 - 1<<32}).Draw(t, "base")
		spread := rapid.SampledFrom([]uint64{1 << 4, 1 << 9, 1 << 17, 1 << 25, 1 << 33}).Draw(t, "spread")
		d := rapid.Uint64Max(spread).Draw(t, "distance")
		if rapid.Bool().Draw(t, "below") && d <= base {
			return base - d
		}
		return min(base+d, MaxVarint)
	})
}

func TestDecodePacketNumberIsNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		next := nearWraps().Draw(t, "next")
		n := rapid.IntRange(1, 4).Draw(t, "n")
		truncated := rapid.Uint64Max(1<<(8*n)-1).Draw(t, "truncated")
		if got, want := DecodePacketNumber(next, truncated, n), nearest(next, truncated, n); got != want {
			t.Fatalf("DecodePacketNumber(%#x, %#x, %d) = %#x, nearest is %#x", next, truncated, n, got, want)
		}
	})
}

func TestPacketNumberLen(t *testing.T) {
	for _, tc := range []struct {
		name     string
		pn, next uint64
		want     int
	}{
		{"RFC 9000 A.2, 16 bits", 0xac5c02, 0xabe8b3 + 1, 2},
		{"RFC 9000 A.2, 24 bits", 0xace8fe, 0xabe8b3 + 1, 3},
		{"first", 0, 0, 1},
		{"last of 1 byte", 127, 0, 1},
		{"first of 2 bytes", 128, 0, 2},
		{"last of 2 bytes", 1<<15 - 1, 0, 2},
		{"first of 3 bytes", 1 << 15, 0, 3},
		{"last of 3 bytes", 1<<23 - 1, 0, 3},
		{"first of 4 bytes", 1 << 23, 0, 4},
		{"no more than 4 bytes", 1 << 40, 0, 4},
		{"sent late", 1000, 1300, 2},
	} {
		if got := PacketNumberLen(tc.pn, tc.next); got != tc.want {
			t.Errorf("%s: PacketNumberLen(%#x, %#x) = %d, want %d", tc.name, tc.pn, tc.next, got, tc.want)
		}
	}
}

// What is sent in PacketNumberLen bytes, any receiver recovers that has received next-1 and nothing above pn.
func TestPacketNumberRoundtrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		next := min(nearWraps().Draw(t, "next"), MaxVarint-1<<31)
		pn := next + rapid.OneOf(rapid.Uint64Max(1<<7), rapid.Uint64Max(1<<15), rapid.Uint64Max(1<<23), rapid.Uint64Max(1<<31-1)).Draw(t, "ahead")
		receiver := rapid.Uint64Range(next, pn).Draw(t, "receiver's next")
		n := PacketNumberLen(pn, next)
		b := AppendPacketNumber(nil, pn, n)
		if len(b) != n {
			t.Fatalf("%d bytes, want %d", len(b), n)
		}
		truncated := uint64(0)
		for _, c := range b {
			truncated = truncated<<8 | uint64(c)
		}
		if got := DecodePacketNumber(receiver, truncated, n); got != pn {
			t.Fatalf("%#x in %d bytes became %#x at next %#x", pn, n, got, receiver)
		}
	})
}
