package wire

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

// fromHex decodes a test vector; blanks in it are ignored.
func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatalf("bad test vector %q: %v", s, err)
	}
	return b
}

func TestReadVarint(t *testing.T) {
	for _, tc := range []struct {
		in string
		v  uint64
		n  int
	}{
		// RFC 9000, appendix A.1.
		{"c2197c5eff14e88c", 151288809941952652, 8},
		{"9d7f3e7d", 494878333, 4},
		{"7bbd", 15293, 2},
		{"25", 37, 1},
		{"4025", 37, 2},
		// Bounds.
		{"ffffffffffffffff", MaxVarint, 8},
		{"3f", 63, 1},
		{"00ff", 0, 1},
		// Too short.
		{"", 0, 0},
		{"40", 0, 0},
		{"9d7f3e", 0, 0},
		{"c2197c5eff14e8", 0, 0},
	} {
		if v, n := ReadVarint(fromHex(t, tc.in)); v != tc.v || n != tc.n {
			t.Errorf("ReadVarint(%s) = %d, %d; want %d, %d", tc.in, v, n, tc.v, tc.n)
		}
	}
}

func TestVarintLenBounds(t *testing.T) {
	for _, tc := range []struct {
		v uint64
		n int
	}{
		{0, 1}, {1<<6 - 1, 1}, {1 << 6, 2}, {1<<14 - 1, 2}, {1 << 14, 4}, {1<<30 - 1, 4}, {1 << 30, 8}, {MaxVarint, 8},
	} {
		if n := VarintLen(tc.v); n != tc.n {
			t.Errorf("VarintLen(%d) = %d, want %d", tc.v, n, tc.n)
		}
	}
}

// anyVarint draws values of all four lengths alike.
func anyVarint() *rapid.Generator[uint64] {
	return rapid.OneOf(rapid.Uint64Max(1<<6-1), rapid.Uint64Range(1<<6, 1<<14-1),
		rapid.Uint64Range(1<<14, 1<<30-1), rapid.Uint64Range(1<<30, MaxVarint))
}

func TestVarintRoundtrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyVarint().Draw(t, "v")
		for n := VarintLen(v); n <= 8; n *= 2 {
			b := AppendVarintLen([]byte{0xaa}, v, n)
			if len(b) != 1+n || b[0] != 0xaa {
				t.Fatalf("AppendVarintLen(%d, %d) = %x", v, n, b)
			}
			if got, l := ReadVarint(append(b[1:], 0xff)); got != v || l != n {
				t.Fatalf("read %d in %d bytes, want %d in %d", got, l, v, n)
			}
		}
		if !bytes.Equal(AppendVarint(nil, v), AppendVarintLen(nil, v, VarintLen(v))) {
			t.Fatalf("AppendVarint(%d) is not the shortest", v)
		}
	})
}
