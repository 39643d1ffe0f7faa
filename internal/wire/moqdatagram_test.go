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

func TestObjectDatagramTypes(t *testing.T) {
	want := map[Draft]string{
		Draft14: "00 01 02 03 04 05 06 07 20 21",
		Draft16: "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 20 21 24 25 28 29 2c 2d",
	}
	for d, types := range want {
		var got []string
		for typ := uint64(0); typ < 1<<10; typ++ {
			if IsObjectDatagram(typ, d) {
				got = append(got, hex.EncodeToString([]byte{byte(typ)}))
			} else if _, err := ParseObjectDatagram(AppendVarint(nil, typ), d); !errors.Is(err, ErrDatagramType) {
				t.Errorf("%v: type %#x: %v", d, typ, err)
			}
		}
		if diff := cmp.Diff(types, strings.Join(got, " ")); diff != "" {
			t.Errorf("%v: valid types (-want +got):\n%s", d, diff)
		}
	}
}

func TestParseObjectDatagram(t *testing.T) {
	tests := []struct {
		name string
		d    Draft
		in   string
		want ObjectDatagram // zero: ErrMalformed
	}{
		{"payload", Draft14, "00 4123 07 09 80 6869", ObjectDatagram{
			TrackAlias: 0x123, Group: 7, ObjectID: 9, Priority: 128, Payload: []byte("hi"), AliasOff: 1, AliasLen: 2, HeaderLen: 6}},
		{"no payload", Draft14, "00 02 07 09 80", ObjectDatagram{
			TrackAlias: 2, Group: 7, ObjectID: 9, Priority: 128, Payload: []byte{}, AliasOff: 1, AliasLen: 1, HeaderLen: 5}},
		{"end of group, extensions, object 0", Draft14, "07 02 07 80 02 0e05 61", ObjectDatagram{
			Type: 7, TrackAlias: 2, Group: 7, ZeroObjectID: true, Priority: 128, EndOfGroup: true,
			Extensions: []byte{0x0e, 5}, Payload: []byte("a"), AliasOff: 1, AliasLen: 1, HeaderLen: 7}},
		{"default priority", Draft16, "0c 02 07 61", ObjectDatagram{
			Type: 12, TrackAlias: 2, Group: 7, ZeroObjectID: true, DefaultPriority: true, Payload: []byte("a"),
			AliasOff: 1, AliasLen: 1, HeaderLen: 3}},
		{"status", Draft14, "20 02 07 09 80 03", ObjectDatagram{
			Type: 32, TrackAlias: 2, Group: 7, ObjectID: 9, Priority: 128, HasStatus: true, Status: 3, Payload: []byte{},
			AliasOff: 1, AliasLen: 1, HeaderLen: 6}},
		{"all bits", Draft16, "2d 02 07 02 0e05 00", ObjectDatagram{
			Type: 45, TrackAlias: 2, Group: 7, ZeroObjectID: true, DefaultPriority: true, HasStatus: true,
			Extensions: []byte{0x0e, 5}, Payload: []byte{}, AliasOff: 1, AliasLen: 1, HeaderLen: 7}},
		{"empty", Draft14, "", ObjectDatagram{}},
		{"cut off", Draft14, "00 02 07 09", ObjectDatagram{}},
		{"no extensions", Draft16, "01 02 07 09 80 00 61", ObjectDatagram{}},
		{"extensions longer than the datagram", Draft16, "01 02 07 09 80 ffffffffffffffff 61", ObjectDatagram{}},
		{"bytes after the status", Draft16, "20 02 07 09 80 03 00", ObjectDatagram{}},
		{"unknown status", Draft14, "20 02 07 09 80 02", ObjectDatagram{}},
		{"extensions with end of group", Draft16, "21 02 07 09 80 02 0e05 03", ObjectDatagram{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := moqHex(t, tt.in)
			got, err := ParseObjectDatagram(in, tt.d)
			if tt.want.AliasLen == 0 {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%+v, %v, want ErrMalformed", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("datagram (-want +got):\n%s", diff)
			}
			if again := got.Append(nil, tt.d); !bytes.Equal(again, in) {
				t.Errorf("appended %x, parsed %x", again, in)
			}
			for i := range got.HeaderLen {
				if _, err := ParseObjectDatagram(in[:i], tt.d); !errors.Is(err, ErrMalformed) {
					t.Errorf("%d bytes: %v", i, err)
				}
			}
		})
	}
}

func TestObjectDatagramRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDraft.Draw(t, "draft")
		v := rapid.Uint64Range(0, MaxVarint)
		o := ObjectDatagram{TrackAlias: v.Draw(t, "alias"), Group: v.Draw(t, "group"), Payload: []byte{}}
		if o.HasStatus = rapid.Bool().Draw(t, "hasStatus"); o.HasStatus {
			o.Status = rapid.SampledFrom([]uint64{StatusNormal, StatusEndOfGroup, StatusEndOfTrack}).Draw(t, "status")
		} else {
			o.EndOfGroup = rapid.Bool().Draw(t, "endOfGroup")
			o.Payload = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload")
		}
		if o.ZeroObjectID = rapid.Bool().Draw(t, "zero") && (d == Draft16 || !o.HasStatus); !o.ZeroObjectID {
			o.ObjectID = v.Draw(t, "object")
		}
		if o.DefaultPriority = d == Draft16 && rapid.Bool().Draw(t, "default"); !o.DefaultPriority {
			o.Priority = rapid.Byte().Draw(t, "priority")
		}
		if o.Status == StatusNormal {
			o.Extensions = AppendExtensions(nil, genExtensions(t), d)
		}
		b := o.Append(nil, d)
		got, err := ParseObjectDatagram(b, d)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		o.Type, o.AliasOff, o.AliasLen, o.HeaderLen = got.Type, 1, VarintLen(o.TrackAlias), len(b)-len(o.Payload)
		if diff := cmp.Diff(o, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("datagram (-want +got):\n%s", diff)
		}
		o.TrackAlias = v.Draw(t, "newAlias")
		if out := RewriteDatagramAlias(nil, b, &got, o.TrackAlias); !bytes.Equal(out, o.Append(nil, d)) {
			t.Fatalf("rewritten %x, want %x", out, o.Append(nil, d))
		}
	})
}

func FuzzParseObjectDatagram(f *testing.F) {
	for _, s := range []string{"", "004123070980", "07020780020e0561", "2d0207020e0500", "0102070980ffffffffffffffff61", "22"} {
		f.Add(moqHex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []Draft{Draft14, Draft16} {
			o, err := ParseObjectDatagram(b, d)
			if err != nil {
				continue
			}
			again, err := ParseObjectDatagram(o.Append(nil, d), d)
			if err != nil {
				t.Fatal(err)
			}
			again.AliasOff, again.AliasLen, again.HeaderLen = o.AliasOff, o.AliasLen, o.HeaderLen
			if diff := cmp.Diff(o, again); diff != "" {
				t.Fatalf("read, written and read (-first +second):\n%s", diff)
			}
		}
	})
}

func TestParseObjectDatagramAllocs(t *testing.T) {
	b := moqHex(t, "07 02 07 80 02 0e05 61")
	dst := make([]byte, 0, 64)
	got := testing.AllocsPerRun(100, func() {
		o, err := ParseObjectDatagram(b, Draft16)
		if err != nil {
			t.Fatal(err)
		}
		dst = RewriteDatagramAlias(dst[:0], b, &o, 1000)
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkParseObjectDatagram(b *testing.B) {
	in := moqHex(b, "07 4123 07 80 02 0e05 61")
	for b.Loop() {
		if _, err := ParseObjectDatagram(in, Draft16); err != nil {
			b.Fatal(err)
		}
	}
}
