package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestObjectReader(t *testing.T) {
	tests := []struct {
		name string
		d    Draft
		ext  bool
		in   string // one object after another
		want []Object
		err  error // of what comes after them
	}{
		{"deltas", Draft14, false, "05 02 6869  00 01 61  03 00 03", []Object{
			{ID: 5, Payload: []byte("hi"), PayloadLen: 2, HeaderLen: 2},
			{ID: 6, Payload: []byte("a"), PayloadLen: 1, HeaderLen: 2},
			{ID: 10, Status: StatusEndOfGroup, Payload: []byte{}, HeaderLen: 3},
		}, ErrShort},
		{"extensions", Draft16, true, "00 02 0e07 01 61  00 00 00 00", []Object{
			{ID: 0, Extensions: []byte{0x0e, 7}, Payload: []byte("a"), PayloadLen: 1, HeaderLen: 5},
			{ID: 1, Extensions: []byte{}, Payload: []byte{}, HeaderLen: 4},
		}, ErrShort},
		{"status 1 in draft 14", Draft14, false, "00 00 01", []Object{{Status: 1, Payload: []byte{}, HeaderLen: 3}}, ErrShort},
		{"status 1 in draft 16", Draft16, false, "00 00 01", nil, ErrMalformed},
		{"status 2", Draft14, false, "00 00 02", nil, ErrMalformed},
		{"extensions with status 1", Draft14, true, "00 02 0e07 00 01", nil, ErrMalformed},
		{"extensions with end of group in draft 14", Draft14, true, "00 02 0e07 00 03", []Object{
			{Extensions: []byte{0x0e, 7}, Status: StatusEndOfGroup, Payload: []byte{}, HeaderLen: 6}}, ErrShort},
		{"extensions with end of group in draft 16", Draft16, true, "00 02 0e07 00 03", nil, ErrMalformed},
		{"64 KiB of extensions are awaited", Draft14, true, "00 80010000 0e07", nil, ErrShort},
		{"more are not", Draft14, true, "00 80010001", nil, ErrTooLarge},
		{"largest ID, nothing after it", Draft14, false, "ffffffffffffffff 00 00", []Object{
			{ID: MaxVarint, Payload: []byte{}, HeaderLen: 10}}, ErrShort},
		{"ID beyond the largest", Draft14, false, "ffffffffffffffff 00 00  00 00 00", []Object{
			{ID: MaxVarint, Payload: []byte{}, HeaderLen: 10}}, ErrMalformed},
		{"payload not yet there", Draft14, false, "00 ffffffffffffffff 61", []Object{
			{PayloadLen: MaxVarint, HeaderLen: 9}}, ErrShort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r ObjectReader
			r.Init(&SubgroupHeader{Extensions: tt.ext}, tt.d)
			b := moqHex(t, tt.in)
			var got []Object
			for {
				var o Object
				n, err := r.ParseHeader(b, &o)
				if err != nil {
					if err != tt.err {
						t.Errorf("error %v, want %v", err, tt.err)
					}
					break
				}
				if n != o.HeaderLen {
					t.Errorf("n is %d, header has %d", n, o.HeaderLen)
				}
				got = append(got, o)
				b = b[n+min(len(b)-n, int(o.PayloadLen)):]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestObjectReaderSubgroup(t *testing.T) {
	b := []byte{7, 0, 0, 0, 0, 0}
	for _, tt := range []struct {
		h      SubgroupHeader
		before bool
		want   uint64
	}{
		{SubgroupHeader{SubgroupMode: SubgroupZero}, true, 0},
		{SubgroupHeader{SubgroupMode: SubgroupExplicit, Subgroup: 4}, true, 4},
		{SubgroupHeader{SubgroupMode: SubgroupFirstObject}, false, 7},
	} {
		var r ObjectReader
		r.Init(&tt.h, Draft16)
		if _, ok := r.Subgroup(); ok != tt.before {
			t.Errorf("mode %d: known before the first object: %v", tt.h.SubgroupMode, ok)
		}
		for i := range 2 {
			if _, err := r.ParseHeader(b[3*i:], new(Object)); err != nil {
				t.Fatal(err)
			}
			if id, ok := r.Subgroup(); !ok || id != tt.want {
				t.Errorf("mode %d: subgroup %d, %v, want %d", tt.h.SubgroupMode, id, ok, tt.want)
			}
		}
	}
}

// A stream of any objects, appended and then parsed in any chunks, gives the same objects.
func TestObjectsInAnyChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDraft.Draw(t, "draft")
		h := genSubgroupHeader(t, d)
		var want []Object
		stream := h.Append(nil, d)
		next := uint64(0)
		for range rapid.IntRange(0, 8).Draw(t, "objects") {
			delta := rapid.Uint64Range(0, 1<<40).Draw(t, "delta")
			o := Object{ID: next + delta, Payload: rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "payload")}
			if next = o.ID + 1; len(o.Payload) == 0 {
				o.Status = rapid.SampledFrom([]uint64{StatusNormal, StatusEndOfGroup, StatusEndOfTrack}).Draw(t, "status")
			}
			if h.Extensions && o.Status == StatusNormal {
				o.Extensions = AppendExtensions(nil, genExtensions(t), d)
			}
			o.PayloadLen = uint64(len(o.Payload))
			before := len(stream)
			stream = AppendObjectHeader(stream, d, h.Extensions, delta, o.Extensions, o.PayloadLen, o.Status)
			o.HeaderLen = len(stream) - before
			stream = append(stream, o.Payload...)
			want = append(want, o)
		}

		// The receiver: bytes come in chunks into buf, and leave it object by object.
		var got []Object
		var buf []byte
		var r ObjectReader
		inObjects := false
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "chunk")
			buf, stream = append(buf, stream[:n]...), stream[n:]
			if !inObjects {
				g, err := ParseSubgroupHeader(buf, d)
				if errors.Is(err, ErrShort) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				r.Init(&g, d)
				buf, inObjects = buf[g.Len:], true
			}
			for {
				var o Object
				saved := r
				n, err := r.ParseHeader(buf, &o)
				if errors.Is(err, ErrShort) {
					if r != saved {
						t.Fatal("a short read changed the reader")
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if o.Payload == nil {
					r = saved // wait for the payload too
					break
				}
				o.Extensions, o.Payload = bytes.Clone(o.Extensions), bytes.Clone(o.Payload)
				got = append(got, o)
				buf = buf[n+int(o.PayloadLen):]
			}
		}
		if len(buf) > 0 {
			t.Fatalf("%d bytes left", len(buf))
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("objects (-want +got):\n%s", diff)
		}
	})
}

func FuzzObjectReader(f *testing.F) {
	f.Add(moqHex(f, "05026869 000161 030003"), false)
	f.Add(moqHex(f, "00020e070161 00000000"), true)
	f.Add(moqHex(f, "ffffffffffffffff0000 000000"), false)
	f.Fuzz(func(t *testing.T, b []byte, ext bool) {
		for _, d := range []Draft{Draft14, Draft16} {
			var r ObjectReader
			r.Init(&SubgroupHeader{Extensions: ext}, d)
			rest, last, first := b, uint64(0), true
			for {
				var o Object
				n, err := r.ParseHeader(rest, &o)
				if err != nil {
					break
				}
				if n <= 0 || o.ID > MaxVarint || !first && o.ID <= last || o.PayloadLen > 0 && o.Status != StatusNormal {
					t.Fatalf("%d, %+v after ID %d", n, o, last)
				}
				_ = ParseExtensions(o.Extensions, d, func(ExtensionHeader) bool { return true })
				first, last = false, o.ID
				if rest = rest[n:]; uint64(len(rest)) < o.PayloadLen {
					break
				}
				rest = rest[o.PayloadLen:]
			}
		}
	})
}

func TestObjectReaderAllocs(t *testing.T) {
	b := AppendObjectHeader(nil, Draft16, true, 3, []byte{0x0e, 7}, 1000, 0)
	b = append(b, make([]byte, 1000)...)
	var r ObjectReader
	var o Object
	got := testing.AllocsPerRun(100, func() {
		r.Init(&SubgroupHeader{Extensions: true}, Draft16)
		if _, err := r.ParseHeader(b[:3], &o); err != ErrShort {
			t.Fatal(err)
		}
		if _, err := r.ParseHeader(b, &o); err != nil || len(o.Payload) != 1000 {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkObjectReader(b *testing.B) {
	in := append(AppendObjectHeader(nil, Draft16, true, 0, []byte{0x0e, 7}, 1000, 0), make([]byte, 1000)...)
	var r ObjectReader
	var o Object
	r.Init(&SubgroupHeader{Extensions: true}, Draft16)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := r.ParseHeader(in, &o); err != nil {
			b.Fatal(err)
		}
	}
}
