package wire

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type controlMessage struct {
	Type    uint64
	Payload []byte
}

// Any messages, in any pieces, come out whole and in order, and no piece is kept.
func TestControlScannerPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want, got []controlMessage
		var stream []byte
		for range rapid.IntRange(0, 6).Draw(t, "messages") {
			m := controlMessage{rapid.Uint64Range(0, MaxVarint).Draw(t, "type"), rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")}
			if rapid.IntRange(0, 20).Draw(t, "large") == 0 {
				m.Payload = bytes.Repeat([]byte{7}, MaxControlLen)
			}
			want = append(want, m)
			var err error
			if stream, err = AppendControl(stream, m.Type, m.Payload); err != nil {
				t.Fatal(err)
			}
		}
		s := ControlScanner{Message: func(typ uint64, payload []byte) error {
			got = append(got, controlMessage{typ, slices.Clone(payload)})
			return nil
		}}
		for len(stream) > 0 {
			n := min(len(stream), rapid.OneOf(rapid.IntRange(1, 12), rapid.IntRange(1, 1<<17)).Draw(t, "piece"))
			piece := slices.Clone(stream[:n])
			if err := s.Write(piece); err != nil {
				t.Fatal(err)
			}
			clear(piece)
			stream = stream[n:]
		}
		if s.Pending() != 0 {
			t.Fatalf("%d bytes pending", s.Pending())
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("messages (-want +got):\n%s", diff)
		}
	})
}

func TestControlScannerErrorIsFinal(t *testing.T) {
	stop := errors.New("stop")
	for _, piece := range []int{1, 100} {
		calls := 0
		s := ControlScanner{Message: func(uint64, []byte) error { calls++; return stop }}
		in := moqHex(t, "03 0001 aa  03 0001 bb")
		var err error
		for p := range slices.Chunk(in, piece) {
			err = s.Write(p)
		}
		if err != stop || calls != 1 {
			t.Errorf("pieces of %d: %v after %d calls", piece, err, calls)
		}
	}
}

func TestControlScannerMemory(t *testing.T) {
	s := ControlScanner{Message: func(uint64, []byte) error { return nil }}
	big, err := AppendControl(nil, MaxVarint, make([]byte, MaxControlLen))
	if err != nil {
		t.Fatal(err)
	}
	for p := range slices.Chunk(big, 1000) {
		if err := s.Write(p); err != nil {
			t.Fatal(err)
		}
		if s.Pending() > len(big) {
			t.Fatalf("%d bytes pending", s.Pending())
		}
	}
	if cap(s.buf) > 4096 {
		t.Errorf("%d bytes are held after a large message", cap(s.buf))
	}
	small := moqHex(t, "03 0001 aa")
	got := testing.AllocsPerRun(100, func() { _ = s.Write(small); _ = s.Write(small[:2]); _ = s.Write(small[2:]) })
	if got != 0 {
		t.Errorf("%v allocations for small messages", got)
	}
	if _, err := AppendControl(nil, 1, make([]byte, MaxControlLen+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too long a message: %v", err)
	}
}

func TestParseSubscribe(t *testing.T) {
	ns := []string{"a", "bc"}
	tests := []struct {
		name string
		d    Draft
		in   string
		want Subscribe
	}{
		{"draft 14 largest object", Draft14, "04 02 0161 026263 0176 80 01 01 02 00", Subscribe{
			RequestID: 4, Namespace: ns, Track: []byte("v"), SubscriberPriority: 128, GroupOrder: 1, Forward: true,
			FilterType: FilterLargestObject}},
		{"draft 14 range, parameter", Draft14, "04 02 0161 026263 0176 07 00 00 04 03 05 09 01 02 4100", Subscribe{
			RequestID: 4, Namespace: ns, Track: []byte("v"), SubscriberPriority: 7, FilterType: FilterAbsoluteRange,
			StartGroup: 3, StartObject: 5, EndGroup: 9, Params: []ExtensionHeader{{Type: 2, Value: 0x100}}}},
		{"draft 16 defaults", Draft16, "04 02 0161 026263 0176 00", Subscribe{
			RequestID: 4, Namespace: ns, Track: []byte("v"), SubscriberPriority: 128, Forward: true, FilterType: FilterAbsoluteStart}},
		{"draft 16 everything", Draft16, "04 02 0161 026263 0176 04 10 00  10 07  01 03 03 05 06  01 02", Subscribe{
			RequestID: 4, Namespace: ns, Track: []byte("v"), SubscriberPriority: 7, GroupOrder: 2,
			FilterType: FilterAbsoluteStart, StartGroup: 5, StartObject: 6,
			Params: []ExtensionHeader{{Type: 0x10}, {Type: 0x20, Value: 7}, {Type: 0x21, Bytes: []byte{3, 5, 6}}, {Type: 0x22, Value: 2}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := moqHex(t, tt.in)
			got, err := ParseSubscribe(in, tt.d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("SUBSCRIBE (-want +got):\n%s", diff)
			}
			for i := range in {
				if _, err := ParseSubscribe(in[:i], tt.d); !errors.Is(err, ErrMalformed) {
					t.Errorf("%d bytes: %v", i, err)
				}
			}
		})
	}
	for _, in := range []struct {
		d Draft
		s string
	}{
		{Draft14, "04 01 0161 0176 80 03 01 02 00"},           // group order
		{Draft14, "04 01 0161 0176 80 01 02 02 00"},           // forward
		{Draft14, "04 01 0161 0176 80 01 01 05 00"},           // filter
		{Draft14, "04 c000000000000000"},                      // no field, then no track
		{Draft14, "04 ffffffffffffffff 00"},                   // fields
		{Draft16, "04 01 0161 0176 01 20 4100"},               // priority 256
		{Draft16, "04 01 0161 0176 01 10 02"},                 // forward
		{Draft16, "04 01 0161 0176 01 21 01 03"},              // filter cut off
		{Draft16, "04 01 0161 0176 01 21 02 02 00"},           // bytes after the filter
		{Draft16, "04 01 0161 0176 01 21 ffffffffffffffff"},   // length
		{Draft16, "04 01 0161 0176 ffffffffffffffff 02 4100"}, // number of parameters
	} {
		if s, err := ParseSubscribe(moqHex(t, in.s), in.d); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v %s: %+v, %v", in.d, in.s, s, err)
		}
	}
}

func TestParseSubscribeOK(t *testing.T) {
	tests := []struct {
		name string
		d    Draft
		in   string
		want SubscribeOK
	}{
		{"draft 14", Draft14, "04 4123 05 01 01 07 08 00", SubscribeOK{
			RequestID: 4, TrackAlias: 0x123, Expires: 5, GroupOrder: 1, ContentExists: true, LargestGroup: 7, LargestObject: 8, DefaultPriority: 128}},
		{"draft 14, no content", Draft14, "04 4123 00 02 00 00", SubscribeOK{RequestID: 4, TrackAlias: 0x123, GroupOrder: 2, DefaultPriority: 128}},
		{"draft 16", Draft16, "04 4123 02 08 05 01 02 07 08  04 4064 0a 09", SubscribeOK{
			RequestID: 4, TrackAlias: 0x123, Expires: 5, ContentExists: true, LargestGroup: 7, LargestObject: 8, DefaultPriority: 9,
			Params:          []ExtensionHeader{{Type: 8, Value: 5}, {Type: 9, Bytes: []byte{7, 8}}},
			TrackExtensions: []byte{4, 0x40, 0x64, 10, 9}}},
		{"draft 16, nothing", Draft16, "04 4123 00", SubscribeOK{RequestID: 4, TrackAlias: 0x123, DefaultPriority: 128, TrackExtensions: []byte{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseSubscribeOK(moqHex(t, tt.in), tt.d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("SUBSCRIBE_OK (-want +got):\n%s", diff)
			}
		})
	}
	for d, ins := range map[Draft][]string{
		Draft14: {"", "04", "04 02 05 03 00 00", "04 02 05 01 02 00", "04 02 05 01 01 07"},
		Draft16: {"04 02", "04 02 01 09 01 07", "04 02 00 0e", "04 02 00 0e 4100", "04 02 01 09 ffffffffffffffff"},
	} {
		for _, in := range ins {
			if s, err := ParseSubscribeOK(moqHex(t, in), d); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v %q: %+v, %v", d, in, s, err)
			}
		}
	}
}

func TestPublishDone(t *testing.T) {
	p := PublishDone{RequestID: 4, StatusCode: 2, StreamCount: 77, Reason: "ended"}
	b := AppendPublishDone(nil, &p)
	for _, count := range []uint64{0, 5, 77, 16383, 16384, UnknownStreamCount} {
		in := slices.Clone(b)
		out := RewritePublishDone(in, count)
		got, err := ParsePublishDone(out, Draft16)
		if err != nil {
			t.Fatal(err)
		}
		if inPlace := &out[0] == &in[0]; inPlace != (count < 16384) {
			t.Errorf("count %d: in place is %v", count, inPlace)
		}
		if got.RequestID != 4 || got.StatusCode != 2 || got.StreamCount != count || got.Reason != "ended" {
			t.Errorf("count %d: %+v", count, got)
		}
	}
	for i := range b {
		if out := RewritePublishDone(b[:i], 1); out != nil {
			t.Errorf("%d bytes became %x", i, out)
		}
	}
	if _, err := ParsePublishDone(append(moqHex(t, "04 02 00 4401"), make([]byte, 1025)...), Draft14); !errors.Is(err, ErrMalformed) {
		t.Errorf("reason of 1025 bytes: %v", err)
	}
}

func TestParseServerSetup(t *testing.T) {
	tests := []struct {
		d    Draft
		in   string
		want error
	}{
		{Draft14, "c0000000ff00000e 01 02 4064", nil},
		{Draft14, "c0000000ff000010 00", ErrDraft},
		{Draft14, "c0000000ff00000e 01 01 05 00", ErrMalformed},
		{Draft14, "", ErrMalformed},
		{Draft16, "01 02 4064", nil},
		{Draft16, "01 02", ErrMalformed},
	}
	for _, tt := range tests {
		d, err := ParseServerSetup(moqHex(t, tt.in), tt.d)
		if !errors.Is(err, tt.want) || err == nil && d != tt.d {
			t.Errorf("%v %s: %v, %v, want %v", tt.d, tt.in, d, err, tt.want)
		}
	}
}

func FuzzControlMessages(f *testing.F) {
	f.Add(moqHex(f, "0402016102626301760700000403050901024100"))
	f.Add(moqHex(f, "040201610262630176041000100701030305060102"))
	f.Add(moqHex(f, "0441230208050102070804 40640a09"))
	f.Add(moqHex(f, "0402404d05656e646564"))
	f.Add(moqHex(f, "c0000000ff00000e01024064"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []Draft{Draft14, Draft16} {
			if s, err := ParseSubscribe(b, d); err == nil && (s.FilterType < 1 || s.FilterType > 4 || len(s.Namespace) > 32) {
				t.Fatalf("%+v", s)
			}
			_, _ = ParseSubscribeOK(b, d)
			_, _ = ParseServerSetup(b, d)
		}
		if p, err := ParsePublishDone(b, Draft14); err == nil {
			out := RewritePublishDone(slices.Clone(b), UnknownStreamCount)
			q, err := ParsePublishDone(out, Draft14)
			if err != nil || q.RequestID != p.RequestID || q.Reason != p.Reason || q.StreamCount != UnknownStreamCount {
				t.Fatalf("%+v became %+v, %v", p, q, err)
			}
		}
		var got []controlMessage
		s := ControlScanner{Message: func(typ uint64, p []byte) error {
			got = append(got, controlMessage{typ, slices.Clone(p)})
			return nil
		}}
		_ = s.Write(b)
		whole := slices.Clone(got)
		got, s.buf = nil, nil
		for i := range b {
			_ = s.Write(b[i : i+1])
		}
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Fatalf("at once and byte by byte (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkControlScanner(b *testing.B) {
	s := ControlScanner{Message: func(uint64, []byte) error { return nil }}
	in, _ := AppendControl(nil, MsgSubscribe, make([]byte, 60))
	for b.Loop() {
		_ = s.Write(in)
	}
}
