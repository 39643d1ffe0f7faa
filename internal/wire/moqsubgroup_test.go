package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// moqHex reads hexadecimal bytes with spaces between fields.
func moqHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every valid type, by draft: what the drafts' tables say, not what the code computes.
func TestSubgroupHeaderTypes(t *testing.T) {
	want := map[Draft]string{
		Draft14: "10 11 12 13 14 15 18 19 1a 1b 1c 1d",
		Draft16: "10 11 12 13 14 15 18 19 1a 1b 1c 1d 30 31 32 33 34 35 38 39 3a 3b 3c 3d",
	}
	for d, types := range want {
		var got []string
		for typ := uint64(0); typ < 1<<10; typ++ {
			b := append(AppendVarint(nil, typ), 1, 2, 3, 4)
			h, err := ParseSubgroupHeader(b, d)
			switch {
			case err == nil:
				got = append(got, hex.EncodeToString([]byte{byte(typ)}))
				if h.Type != typ {
					t.Errorf("%v: type %#x came out as %#x", d, typ, h.Type)
				}
			case !errors.Is(err, ErrStreamType):
				t.Errorf("%v: type %#x: %v", d, typ, err)
			}
		}
		if diff := cmp.Diff(types, strings.Join(got, " ")); diff != "" {
			t.Errorf("%v: valid types (-want +got):\n%s", d, diff)
		}
	}
}

func TestParseSubgroupHeader(t *testing.T) {
	tests := []struct {
		name string
		d    Draft
		in   string
		want SubgroupHeader
	}{
		{"zero", Draft14, "10 02 07 80", SubgroupHeader{
			Type: 0x10, TrackAlias: 2, Group: 7, Priority: 128, AliasOff: 1, AliasLen: 1, Len: 4}},
		{"first object, extensions", Draft14, "13 4123 07 05", SubgroupHeader{
			Type: 0x13, TrackAlias: 0x123, Group: 7, SubgroupMode: SubgroupFirstObject, Priority: 5, Extensions: true,
			AliasOff: 1, AliasLen: 2, Len: 5}},
		{"explicit, end of group, long encodings", Draft14, "401c 80000002 c000000000000007 4009 ff", SubgroupHeader{
			Type: 0x1c, TrackAlias: 2, Group: 7, Subgroup: 9, SubgroupMode: SubgroupExplicit, Priority: 255, EndOfGroup: true,
			AliasOff: 2, AliasLen: 4, Len: 17}},
		{"default priority", Draft16, "3d 02 07 09", SubgroupHeader{
			Type: 0x3d, TrackAlias: 2, Group: 7, Subgroup: 9, SubgroupMode: SubgroupExplicit, DefaultPriority: true,
			Extensions: true, EndOfGroup: true, AliasOff: 1, AliasLen: 1, Len: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := moqHex(t, tt.in)
			got, err := ParseSubgroupHeader(append(in, "rest"...), tt.d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			for i := range in {
				if _, err := ParseSubgroupHeader(in[:i], tt.d); !errors.Is(err, ErrShort) {
					t.Errorf("%d bytes: %v, want ErrShort", i, err)
				}
			}
		})
	}
}

func genSubgroupHeader(t *rapid.T, d Draft) SubgroupHeader {
	v := rapid.Uint64Range(0, MaxVarint)
	h := SubgroupHeader{
		TrackAlias:   v.Draw(t, "alias"),
		Group:        v.Draw(t, "group"),
		SubgroupMode: rapid.SampledFrom([]SubgroupMode{SubgroupZero, SubgroupFirstObject, SubgroupExplicit}).Draw(t, "mode"),
		Extensions:   rapid.Bool().Draw(t, "extensions"),
		EndOfGroup:   rapid.Bool().Draw(t, "endOfGroup"),
	}
	if h.SubgroupMode == SubgroupExplicit {
		h.Subgroup = v.Draw(t, "subgroup")
	}
	if h.DefaultPriority = d == Draft16 && rapid.Bool().Draw(t, "defaultPriority"); !h.DefaultPriority {
		h.Priority = rapid.Byte().Draw(t, "priority")
	}
	return h
}

var genDraft = rapid.SampledFrom([]Draft{Draft14, Draft16})

// What Append writes is what ParseSubgroupHeader reads; RewriteAlias changes the alias and nothing else.
func TestSubgroupHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDraft.Draw(t, "draft")
		want := genSubgroupHeader(t, d)
		b := want.Append([]byte("x"), d)[1:]
		got, err := ParseSubgroupHeader(b, d)
		if err != nil {
			t.Fatal(err)
		}
		want.Type, want.AliasOff, want.AliasLen, want.Len = got.Type, 1, VarintLen(want.TrackAlias), len(b)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("header (-want +got):\n%s", diff)
		}
		alias := rapid.Uint64Range(0, MaxVarint).Draw(t, "newAlias")
		rewritten := RewriteAlias([]byte("x"), append(b, "objects"...), &got, alias)[1:]
		want.TrackAlias = alias
		if !bytes.Equal(rewritten, want.Append(nil, d)) {
			t.Fatalf("rewritten to %x, want %x", rewritten, want.Append(nil, d))
		}
	})
}

func TestRewriteAliasKeepsEncodings(t *testing.T) {
	in := moqHex(t, "401c 80000002 c000000000000007 4009 ff")
	h, err := ParseSubgroupHeader(in, Draft14)
	if err != nil {
		t.Fatal(err)
	}
	want := moqHex(t, "401c 4040 c000000000000007 4009 ff")
	if got := RewriteAlias(nil, in, &h, 0x40); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestSubgroupHeaderDraft14HasNoDefaultPriority(t *testing.T) {
	h := SubgroupHeader{TrackAlias: 1, Group: 2, Priority: 3, DefaultPriority: true}
	if got, want := h.Append(nil, Draft14), moqHex(t, "10 01 02 03"); !bytes.Equal(got, want) {
		t.Errorf("draft 14: %x, want %x", got, want)
	}
	if got, want := h.Append(nil, Draft16), moqHex(t, "30 01 02"); !bytes.Equal(got, want) {
		t.Errorf("draft 16: %x, want %x", got, want)
	}
}

func TestFetchHeader(t *testing.T) {
	h := FetchHeader{RequestID: 300}
	b := h.Append(nil)
	got, err := ParseFetchHeader(append(b, 1, 2, 3))
	if err != nil || got != (FetchHeader{RequestID: 300, Len: 3}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range b {
		if _, err := ParseFetchHeader(b[:i]); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := ParseFetchHeader([]byte{0x10}); !errors.Is(err, ErrStreamType) {
		t.Errorf("subgroup stream: %v", err)
	}
}

func TestDraftALPN(t *testing.T) {
	for _, d := range []Draft{Draft14, Draft16} {
		if got, ok := DraftFromALPN(d.ALPN()); !ok || got != d {
			t.Errorf("%v: %q gives %v, %v", d, d.ALPN(), got, ok)
		}
	}
	if d, ok := DraftFromALPN("moqt-17"); ok {
		t.Errorf("moqt-17 gives %v", d)
	}
	if Draft(3).ALPN() != "" || Draft16.String() != "draft-16" {
		t.Error("names of drafts")
	}
}

func FuzzParseSubgroupHeader(f *testing.F) {
	for _, s := range []string{"", "10020780", "3d020709", "401c80000002c0000000000000074009ff", "0503", "1f"} {
		f.Add(moqHex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseFetchHeader(b)
		for _, d := range []Draft{Draft14, Draft16} {
			h, err := ParseSubgroupHeader(b, d)
			if err != nil {
				continue
			}
			// Another encoding of the same header reads the same.
			out := h.Append(nil, d)
			again, err := ParseSubgroupHeader(out, d)
			if err != nil || len(out) > h.Len {
				t.Fatalf("%x read again: %v", out, err)
			}
			again.AliasOff, again.AliasLen, again.Len = h.AliasOff, h.AliasLen, h.Len
			if again != h {
				t.Fatalf("read %+v, written and read %+v", h, again)
			}
		}
	})
}

func TestParseSubgroupHeaderAllocs(t *testing.T) {
	b := moqHex(t, "3d 02 07 09")
	dst := make([]byte, 0, 64)
	got := testing.AllocsPerRun(100, func() {
		h, err := ParseSubgroupHeader(b, Draft16)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSubgroupHeader(b[:2], Draft16); err != ErrShort {
			t.Fatal(err)
		}
		dst = RewriteAlias(dst[:0], b, &h, 77)
		_, _ = ParseFetchHeader(b)
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkParseSubgroupHeader(b *testing.B) {
	in := moqHex(b, "3d 4123 c000000000000007 09")
	for b.Loop() {
		if _, err := ParseSubgroupHeader(in, Draft16); err != nil {
			b.Fatal(err)
		}
	}
}
