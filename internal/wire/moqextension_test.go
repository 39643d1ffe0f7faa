package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func genExtensions(t *rapid.T) []ExtensionHeader {
	var hs []ExtensionHeader
	for range rapid.IntRange(0, 5).Draw(t, "extensions") {
		e := ExtensionHeader{Type: rapid.OneOf(rapid.Uint64Range(0, 70), rapid.Uint64Range(0, MaxVarint)).Draw(t, "type")}
		if e.Type%2 == 0 {
			e.Value = rapid.Uint64Range(0, MaxVarint).Draw(t, "value")
		} else {
			e.Bytes = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes")
		}
		hs = append(hs, e)
	}
	return hs
}

func collectExtensions(ext []byte, d Draft) (hs []ExtensionHeader, err error) {
	err = ParseExtensions(ext, d, func(e ExtensionHeader) bool { hs = append(hs, e); return true })
	return hs, err
}

// The same headers by hand in both drafts.
func TestExtensionEncodings(t *testing.T) {
	tests := []struct {
		name     string
		in14, in string // draft 14, and what draft 16 makes of it
	}{
		{"none", "", ""},
		{"one", "0e 07", "0e 07"},
		{"rising", "02 4100  0b 02 aabb  3c 05", "02 4100  09 02 aabb  31 05"},
		{"repeated", "0b 00  0b 01 cc", "0b 00  00 01 cc"},
		{"falling", "3c 05  02 4100  3c 06", "02 4100  3a 05  00 06"},
		{"large types", "c000000100000001 01 aa", "c000000100000001 01 aa"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in14, want := moqHex(t, tt.in14), moqHex(t, tt.in)
			got, err := TranscodeExtensions([]byte("x"), in14, Draft14, Draft16)
			if err != nil || !bytes.Equal(got[1:], want) {
				t.Fatalf("to draft 16: %x, %v, want %x", got[1:], err, want)
			}
			back, err := TranscodeExtensions(nil, want, Draft16, Draft14)
			if err != nil {
				t.Fatal(err)
			}
			if tt.name != "falling" && !bytes.Equal(back, in14) {
				t.Errorf("back to draft 14: %x, want %x", back, in14)
			}
			if _, err := collectExtensions(want, Draft16); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestExtensionsMalformed(t *testing.T) {
	tests := []struct {
		name, in string
		d        Draft
	}{
		{"type only", "0e", Draft14},
		{"half a varint", "0e 40", Draft14},
		{"bytes cut off", "0b 02 aa", Draft16},
		{"length as large as a varint can be", "0b ffffffffffffffff", Draft14},
		{"value of 64 KiB", "0b 80010000" + string(bytes.Repeat([]byte("00"), 1<<16)), Draft14},
		{"types beyond 2^62-1", "fffffffffffffffe 00  02 00", Draft16},
	}
	for _, tt := range tests {
		if _, err := collectExtensions(moqHex(t, tt.in), tt.d); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", tt.name, err)
		}
		if got, err := TranscodeExtensions([]byte("x"), moqHex(t, tt.in), tt.d, Draft14); !errors.Is(err, ErrMalformed) || string(got) != "x" {
			t.Errorf("%s: transcoded to %x, %v", tt.name, got, err)
		}
	}
}

// Headers of one type keep their order; otherwise draft 16 sorts and draft 14 does not.
func TestExtensionsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hs := genExtensions(t)
		ext14, ext16 := AppendExtensions(nil, hs, Draft14), AppendExtensions(nil, hs, Draft16)
		got14, err := collectExtensions(ext14, Draft14)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(hs, got14, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("draft 14 (-want +got):\n%s", diff)
		}
		transcoded, err := TranscodeExtensions(nil, ext14, Draft14, Draft16)
		if err != nil || !bytes.Equal(transcoded, ext16) {
			t.Fatalf("transcoded %x, %v; written %x", transcoded, err, ext16)
		}
		got16, err := collectExtensions(ext16, Draft16)
		if err != nil {
			t.Fatal(err)
		}
		back, err := TranscodeExtensions(nil, ext16, Draft16, Draft14)
		if err != nil || !bytes.Equal(back, AppendExtensions(nil, got16, Draft14)) {
			t.Fatalf("back in draft 14: %x, %v", back, err)
		}
		// A deliberately dumb stable sort.
		want := []ExtensionHeader{}
		for _, e := range hs {
			i := len(want)
			for i > 0 && want[i-1].Type > e.Type {
				i--
			}
			want = append(want[:i:i], append([]ExtensionHeader{e}, want[i:]...)...)
		}
		if diff := cmp.Diff(want, append([]ExtensionHeader{}, got16...), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("draft 16 (-want +got):\n%s", diff)
		}
	})
}

func TestParseExtensionsStops(t *testing.T) {
	n := 0
	if err := ParseExtensions(moqHex(t, "02 01 04 01 06"), Draft14, func(ExtensionHeader) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("%d calls, %v", n, err)
	}
}

func FuzzExtensions(f *testing.F) {
	for _, s := range []string{"", "0e07", "0241000b02aabb3c05", "3c050241003c06", "0bffffffffffffffff", "fffffffffffffffe000200"} {
		f.Add(moqHex(f, s))
	}
	f.Fuzz(func(t *testing.T, ext []byte) {
		for _, from := range []Draft{Draft14, Draft16} {
			hs, err := collectExtensions(ext, from)
			for _, to := range []Draft{Draft14, Draft16} {
				out, terr := TranscodeExtensions(nil, ext, from, to)
				if (err == nil) != (terr == nil) {
					t.Fatalf("%v to %v: parsing says %v, transcoding %v", from, to, err, terr)
				}
				if err == nil && !bytes.Equal(out, AppendExtensions(nil, hs, to)) {
					t.Fatalf("%v to %v: %x", from, to, out)
				}
			}
		}
	})
}

func TestExtensionsAllocs(t *testing.T) {
	ext := moqHex(t, "02 4100  0b 02 aabb  3c 05")
	dst := make([]byte, 0, 64)
	sum := uint64(0)
	got := testing.AllocsPerRun(100, func() {
		if err := ParseExtensions(ext, Draft14, func(e ExtensionHeader) bool { sum += e.Value; return true }); err != nil {
			t.Fatal(err)
		}
		var err error
		if dst, err = TranscodeExtensions(dst[:0], ext, Draft14, Draft16); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkTranscodeExtensions(b *testing.B) {
	ext := moqHex(b, "02 4100  0b 02 aabb  3c 05")
	dst := make([]byte, 0, 64)
	for b.Loop() {
		if _, err := TranscodeExtensions(dst, ext, Draft14, Draft16); err != nil {
			b.Fatal(err)
		}
	}
}
