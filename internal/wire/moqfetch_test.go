package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseFetch(t *testing.T) {
	standalone := Fetch{RequestID: 4, SubscriberPriority: 9, GroupOrder: 2, Type: FetchStandalone, Namespace: []string{"a"}, Track: []byte("t"),
		StartGroup: 5, StartObject: 6, EndGroup: 7, EndObject: 0}
	joining := Fetch{RequestID: 4, SubscriberPriority: 128, Type: FetchRelativeJoining, JoiningID: 2, JoiningStart: 3}
	for _, tt := range []struct {
		name   string
		d      Draft
		in     string
		layout Draft // 0: malformed
		want   Fetch
	}{
		{"standalone", Draft14, "04 09 02 01 01 01 61 01 74 05 06 07 00 00", Draft14, standalone},
		{"the same, as moqtransport writes it in draft 16", Draft16, "04 09 02 01 01 01 61 01 74 05 06 07 00 00", Draft14, standalone},
		{"standalone of draft 16", Draft16, "04 01 01 01 61 01 74 05 06 07 00 02 20 09 02 02", Draft16, standalone},
		{"joining", Draft14, "04 4080 00 02 02 03 00", 0, Fetch{}}, // the priority is a byte
		{"joining", Draft14, "04 80 00 02 02 03 00", Draft14, joining},
		{"joining of draft 16", Draft16, "04 02 02 03 00", Draft16, joining},
		{"joining, moqtransport in draft 16, priority 0", Draft16, "04 00 00 03 02 03 00", Draft14,
			Fetch{RequestID: 4, Type: FetchAbsoluteJoining, JoiningID: 2, JoiningStart: 3}},
		{"joining, moqtransport in draft 16, priority 2", Draft16, "04 02 00 03 02 03 00", Draft14,
			Fetch{RequestID: 4, SubscriberPriority: 2, Type: FetchAbsoluteJoining, JoiningID: 2, JoiningStart: 3}},
		{"type", Draft14, "04 80 00 04 02 03 00", 0, Fetch{}},
		{"order", Draft14, "04 80 03 02 02 03 00", 0, Fetch{}},
		{"no namespace", Draft14, "04 80 00 01 00 01 74 05 06 07 00 00", 0, Fetch{}},
		{"cut off", Draft16, "04 01 01 01 61 01 74 05 06", 0, Fetch{}},
		{"bytes behind", Draft16, "04 02 02 03 00 00 00 00 00", 0, Fetch{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := moqHex(t, tt.in)
			got, err := ParseFetch(in, tt.d)
			if tt.layout == 0 {
				if !errors.Is(err, ErrMalformed) {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Layout, got.Params = tt.layout, nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, err := ParseFetch(got.Append(nil), tt.d)
			again.Params = nil
			if diff := cmp.Diff(got, again); diff != "" || err != nil {
				t.Errorf("written and read again: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestFetchAnswers(t *testing.T) {
	for _, layout := range []Draft{Draft14, Draft16} {
		want := FetchOK{RequestID: 6, EndOfTrack: true, EndGroup: 70, EndObject: 300}
		if layout == Draft14 {
			want.GroupOrder = 2
		} else {
			want.TrackExtensions = []byte{2, 9}
		}
		b := want.Append(nil, layout)
		got, err := ParseFetchOK(b, layout)
		if len(got.TrackExtensions) == 0 {
			got.TrackExtensions = nil
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v: %v (-want +got):\n%s", layout, err, diff)
		}
		for n := range len(b) - len(want.TrackExtensions) {
			if _, err := ParseFetchOK(b[:n], layout); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v, %d bytes: %v", layout, n, err)
			}
		}
	}
	if _, err := ParseFetchOK(moqHex(t, "06 02 07 08 00"), Draft16); !errors.Is(err, ErrMalformed) {
		t.Errorf("end of track 2: %v", err)
	}
	for in, retry := range map[string]bool{"06 4005 02 6e6f": false, "06 05 07 02 6e6f": true} {
		if e, err := ParseFetchError(moqHex(t, in), retry); err != nil || e != (FetchError{6, 5, "no"}) {
			t.Errorf("%s: %+v, %v", in, e, err)
		}
	}
}

// What the table of the draft's section "Fetch Header" says, bit by bit.
func TestFetchReader(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layout Draft
		in     string
		want   []FetchObject // nil: malformed
	}{
		{"draft 14", Draft14, "05 06 07 80 02 0209 01 78 05 06 08 80 00 00 03", []FetchObject{
			{Group: 5, Subgroup: 6, ID: 7, Priority: 128, Extensions: []byte{2, 9}, PayloadLen: 1},
			{Group: 5, Subgroup: 6, ID: 8, Priority: 128, Status: StatusEndOfGroup}}},
		{"draft 14, status", Draft14, "05 06 07 80 00 00 02", nil},
		{"all fields, then none", Draft16, "3f 05 06 07 80 02 0209 01 78 00 01 79 01 01 79 02 00", []FetchObject{
			{Group: 5, Subgroup: 6, ID: 7, Priority: 128, Extensions: []byte{2, 9}, PayloadLen: 1},
			{Group: 5, Subgroup: 0, ID: 8, Priority: 128, PayloadLen: 1},
			{Group: 5, Subgroup: 0, ID: 9, Priority: 128, PayloadLen: 1},
			{Group: 5, Subgroup: 1, ID: 10, Priority: 128}}},
		{"datagram and ends of ranges", Draft16, "405c 05 07 80 00 408c 05 09 410c 06 01 1c 07 00 81 00", []FetchObject{
			{Group: 5, ID: 7, Priority: 128, Datagram: true},
			{Group: 5, ID: 9, Missing: true}, {Group: 6, ID: 1, Missing: true, Unknown: true},
			{Group: 7, ID: 0, Priority: 129}}},
		{"prior group of nothing", Draft16, "14 07 80 00", nil},
		{"prior object of nothing", Draft16, "18 07 80 00", nil},
		{"prior priority of nothing", Draft16, "0c 07 07 00", nil},
		{"prior subgroup of nothing", Draft16, "1d 07 07 80 00", nil},
		{"prior subgroup of a datagram", Draft16, "405c 05 07 80 00 01 00", nil},
		{"flags", Draft16, "4080 05 07 80 00", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := moqHex(t, tt.in)
			r := NewFetchReader(tt.layout)
			var got []FetchObject
			for len(b) > 0 {
				var o FetchObject
				n, err := r.ParseHeader(b, &o)
				if errors.Is(err, ErrMalformed) {
					if tt.want != nil {
						t.Fatal(err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				for k := range n {
					before := r
					short := FetchReader{layout: tt.layout}
					if len(got) > 0 {
						short = FetchReader{layout: tt.layout, started: true, prev: before.prev}
					}
					var p FetchObject
					if m, err := short.ParseHeader(b[:k], &p); err == nil || m != 0 {
						t.Fatalf("%d of %d bytes: %d, %v", k, n, m, err)
					}
				}
				if len(o.Extensions) == 0 {
					o.Extensions = nil
				}
				got = append(got, o)
				b = b[n+int(o.PayloadLen):]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFetchRoundTrip: what the writer writes the reader reads, in every order of objects.
func TestFetchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layout := rapid.SampledFrom([]Draft{Draft14, Draft16}).Draw(t, "layout")
		w, r := NewFetchWriter(layout), NewFetchReader(layout)
		var b []byte
		var want, got []FetchObject
		for range rapid.IntRange(1, 20).Draw(t, "objects") {
			o := FetchObject{
				Group: rapid.Uint64Range(0, 3).Draw(t, "group"), ID: rapid.Uint64Range(0, 3).Draw(t, "id"),
				Subgroup: rapid.Uint64Range(0, 3).Draw(t, "subgroup"), Priority: rapid.SampledFrom([]uint8{0, 128}).Draw(t, "priority"),
				Datagram: rapid.Bool().Draw(t, "datagram"), PayloadLen: rapid.Uint64Range(0, 2).Draw(t, "payload"),
			}
			if rapid.Bool().Draw(t, "ext") {
				o.Extensions = []byte{2, 9}
			}
			switch {
			case rapid.IntRange(0, 9).Draw(t, "missing") == 0:
				o = FetchObject{Group: o.Group, ID: o.ID, Missing: true, Unknown: o.Datagram}
			case o.PayloadLen == 0 && layout == Draft14:
				o.Status = rapid.SampledFrom([]uint64{StatusNormal, StatusEndOfGroup}).Draw(t, "status")
			}
			b = w.AppendHeader(b, &o)
			b = append(b, make([]byte, o.PayloadLen)...)
			if layout == Draft14 {
				if o.Missing {
					continue
				}
				if o.Datagram {
					o.Datagram, o.Subgroup = false, o.ID
				}
			}
			if o.Datagram {
				o.Subgroup = 0
			}
			want = append(want, o)
		}
		for len(b) > 0 {
			var o FetchObject
			n, err := r.ParseHeader(b, &o)
			if err != nil {
				t.Fatal(err)
			}
			o.Extensions = bytes.Clone(o.Extensions)
			if len(o.Extensions) == 0 {
				o.Extensions = nil
			}
			got = append(got, o)
			b = b[n+int(o.PayloadLen):]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestParseSubscribeUpdate(t *testing.T) {
	priority, forward := uint8(7), false
	for _, tt := range []struct {
		name string
		d    Draft
		in   string
		want *SubscribeUpdate // nil: malformed
	}{
		{"open", Draft14, "06 04 05 02 00 07 00 00", &SubscribeUpdate{RequestID: 6, Subscription: 4, Priority: &priority, Forward: &forward, HasStart: true, StartGroup: 5, StartObject: 2}},
		{"to group 0", Draft14, "06 04 00 00 01 07 00 00", &SubscribeUpdate{RequestID: 6, Subscription: 4, Priority: &priority, Forward: &forward, HasStart: true, HasEnd: true}},
		{"forward", Draft14, "06 04 05 02 00 07 02 00", nil},
		{"nothing", Draft16, "06 04 00", &SubscribeUpdate{RequestID: 6, Subscription: 4}},
		{"as moqtransport writes it in draft 16", Draft16, "06 04 00 00 00 07 00 00", &SubscribeUpdate{RequestID: 6, Subscription: 4, Priority: &priority, Forward: &forward, HasStart: true}},
		{"forward alone", Draft16, "06 04 01 10 00", &SubscribeUpdate{RequestID: 6, Subscription: 4, Forward: &forward}},
		{"priority and range", Draft16, "06 04 02 20 07 01 04 04 05 02 08", &SubscribeUpdate{RequestID: 6, Subscription: 4, Priority: &priority, HasStart: true, StartGroup: 5, StartObject: 2, HasEnd: true, EndGroup: 8}},
		{"filter", Draft16, "06 04 01 21 01 09", nil},
	} {
		got, err := ParseSubscribeUpdate(moqHex(t, tt.in), tt.d)
		if tt.want == nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %+v, %v", tt.name, got, err)
			}
			continue
		}
		got.Params = nil
		if diff := cmp.Diff(tt.want, &got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}

func FuzzFetch(f *testing.F) {
	for _, s := range []string{
		"04 09 02 01 01 01 61 01 74 05 06 07 00 00", "04 01 01 01 61 01 74 05 06 07 00 02 20 09 02 02", "04 02 02 03 00",
		"3f 05 06 07 80 02 0209 01 78 00 01 79 01 01 79 02 00", "405c 05 07 80 00 408c 05 09 410c 06 01 1c 07 00 81 00", "06 04 02 20 07 01 04 04 05 02 08",
	} {
		f.Add(moqHex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []Draft{Draft14, Draft16} {
			if m, err := ParseFetch(b, d); err == nil {
				again, err := ParseFetch(m.Append(nil), d)
				m.Params, again.Params = nil, nil
				if diff := cmp.Diff(m, again); diff != "" || err != nil {
					t.Fatalf("FETCH: %v\n%s", err, diff)
				}
			}
			_, _ = ParseFetchOK(b, d)
			_, _ = ParseFetchError(b, d == Draft16)
			_, _ = ParseSubscribeUpdate(b, d)
			r := NewFetchReader(d)
			for rest := b; len(rest) > 0; {
				var o FetchObject
				n, err := r.ParseHeader(rest, &o)
				if err != nil {
					break
				}
				if n <= 0 || n > len(rest) {
					t.Fatalf("%d of %d bytes", n, len(rest))
				}
				rest = rest[n:]
				rest = rest[min(uint64(len(rest)), o.PayloadLen):]
			}
		}
	})
}

func TestFetchReaderAllocs(t *testing.T) {
	b := moqHex(t, "3f 05 06 07 80 02 0209 01")
	var o FetchObject
	if n := testing.AllocsPerRun(100, func() {
		r := NewFetchReader(Draft16)
		_, _ = r.ParseHeader(b, &o)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
