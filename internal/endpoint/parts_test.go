package endpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

func TestCompare(t *testing.T) {
	object := func(group, id uint64, hash string) Object {
		return Object{Track: "video", Group: group, Subgroup: id, ID: id, Priority: 32, SHA256: hash, Bytes: 10}
	}
	p := &Published{Objects: []Object{object(0, 0, "a"), object(0, 1, "b"), object(1, 0, "c"), object(1, 1, "d")}}
	start := func(g uint64) []TrackStart { return []TrackStart{{Track: "video", FirstGroup: g}} }
	priority := object(1, 1, "d")
	priority.Priority = 33
	for _, tt := range []struct {
		name string
		r    Received
		want Comparison
	}{
		{"all", Received{Tracks: start(0), Objects: slices.Clone(p.Objects)}, Comparison{Expected: 4, Delivered: 4, Bytes: 40}},
		{"late", Received{Tracks: start(1), Objects: p.Objects[2:]}, Comparison{Expected: 2, Delivered: 2, Bytes: 20}},
		{"missing", Received{Tracks: start(1), Objects: p.Objects[2:3]}, Comparison{Expected: 2, Delivered: 1, Missing: 1, Bytes: 10}},
		{
			"reset", Received{Tracks: start(1), Objects: p.Objects[2:3], Resets: []Reset{{Track: "video", Group: 1, Subgroup: 1}}},
			Comparison{Expected: 2, Delivered: 1, Reset: 1, Bytes: 10},
		},
		{
			"changed", Received{Tracks: start(1), Objects: []Object{object(1, 0, "x"), priority}},
			Comparison{Expected: 2, Corrupt: 2},
		},
		{
			"twice", Received{Tracks: start(1), Objects: []Object{object(1, 0, "c"), object(1, 1, "d"), object(1, 1, "x")}},
			Comparison{Expected: 2, Delivered: 2, Duplicate: 1, Bytes: 20},
		},
		{
			"not due", Received{Tracks: start(1), Objects: []Object{object(0, 1, "b"), object(1, 0, "c"), object(1, 1, "d"), object(2, 0, "e")}},
			Comparison{Expected: 2, Delivered: 2, Unexpected: 2, Bytes: 20},
		},
		{"violation", Received{Tracks: start(1), Objects: p.Objects[2:], Violations: []string{"x"}}, Comparison{Expected: 2, Delivered: 2, Violations: 1, Bytes: 20}},
		{"not subscribed", Received{}, Comparison{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Published = 4
			got := Compare(p, []*Received{&tt.r})
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if want := tt.name == "all" || tt.name == "late"; got.Complete() != want {
				t.Errorf("complete is %v", got.Complete())
			}
		})
	}
}

// subgroup returns a stream of a subgroup with the given payloads.
func subgroup(payloads ...string) []byte {
	h := wire.SubgroupHeader{TrackAlias: 7, Group: 300, Subgroup: 5, SubgroupMode: wire.SubgroupExplicit, Priority: 9}
	b := h.Append(nil, wire.Draft16)
	for _, p := range payloads {
		b = wire.AppendObjectHeader(b, wire.Draft16, false, 0, nil, uint64(len(p)), wire.StatusNormal)
		b = append(b, p...)
	}
	return b
}

func TestSubgroupReader(t *testing.T) {
	long := string(bytes.Repeat([]byte("0123456789"), 5000))
	stream := subgroup("first", long, "", "last")
	for name, r := range map[string]io.Reader{
		"whole":     bytes.NewReader(stream),
		"bytewise":  iotest.OneByteReader(bytes.NewReader(stream)),
		"with data": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newSubgroupReader(r, wire.Draft16)
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range []string{"first", long, "", "last"} {
				o, payload, err := s.Next()
				if err != nil || o.ID != uint64(id) || string(payload) != want {
					t.Fatalf("object %d: ID %d, %d bytes, %v", id, o.ID, len(payload), err)
				}
			}
			if _, _, err := s.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
			if s.read != uint64(len(stream)) {
				t.Errorf("counted %d bytes of %d", s.read, len(stream))
			}
		})
	}
}

// TestSubgroupReaderCut cuts the stream after each byte: the end is regular between objects alone.
func TestSubgroupReaderCut(t *testing.T) {
	stream := subgroup("first", "second")
	header := len(subgroup())
	regular := map[int]bool{header: true, header + 2 + 5: true, len(stream): true}
	for n := range len(stream) + 1 {
		err := readAll(stream[:n])
		if regular[n] != errors.Is(err, io.EOF) || !regular[n] && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func readAll(b []byte) error {
	s, err := newSubgroupReader(bytes.NewReader(b), wire.Draft16)
	for err == nil {
		_, _, err = s.Next()
	}
	return err
}

func FuzzSubgroupReader(f *testing.F) {
	f.Add(subgroup("first", "second"))
	f.Add([]byte{0x10, 1, 2, 3, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) // an object of 2^62-1 bytes
	f.Fuzz(func(t *testing.T, b []byte) {
		if readAll(b) == nil {
			t.Error("ended without a reason")
		}
	})
}

func TestSchedule(t *testing.T) {
	clip := sample(t, media.PerLayer)
	tracks := append([]*media.Track{clip.CatalogTrack()}, clip.Tracks...)
	const lead, limit = 500 * time.Millisecond, 3 * time.Second
	events := schedule(tracks, lead, limit)
	if events[0].track.Kind != media.KindCatalog || events[0].time != -lead {
		t.Errorf("the first is of %s at %v", events[0].track.Name, events[0].time)
	}
	left := make(map[subgroupKey]int)
	for i := range events {
		e := &events[i]
		o := e.object()
		if i > 0 && e.time < events[i-1].time {
			t.Fatalf("event %d is before its predecessor", i)
		}
		if o.Time >= limit {
			t.Errorf("%s object at %v is beyond the limit", e.track.Name, o.Time)
		}
		k := subgroupKey{e.track.Name, o.Group, o.Subgroup}
		if n, ok := left[k]; ok && e.size != n-1 {
			t.Fatalf("%v: %d objects are left, after %d", k, e.size, n)
		}
		left[k] = e.size
		if e.last != (e.size == 1) {
			t.Errorf("%v: last is %v with %d left", k, e.last, e.size)
		}
	}
	for k, n := range left {
		if n != 1 {
			t.Errorf("%v: %d objects are left at the end", k, n)
		}
	}
}

func TestShiftDecodeTime(t *testing.T) {
	box := func(kind string, body []byte) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), kind...), body...)
	}
	tfdt := func(version byte, time uint64) []byte {
		if version == 0 {
			return box("tfdt", binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, uint32(time)))
		}
		return box("tfdt", binary.BigEndian.AppendUint64([]byte{1, 0, 0, 0}, time))
	}
	for version := range byte(2) {
		chunk := func(time uint64) []byte {
			traf := box("traf", append(box("tfhd", make([]byte, 8)), tfdt(version, time)...))
			return append(box("moof", append(box("mfhd", make([]byte, 8)), traf...)), box("mdat", tfdt(version, 5))...)
		}
		got := chunk(1000)
		shiftDecodeTime(got, 234)
		if want := chunk(1234); !bytes.Equal(got, want) {
			t.Errorf("version %d:\ngot  %x\nwant %x", version, got, want)
		}
		for n := range len(got) { // no cut makes it panic
			shiftDecodeTime(slices.Clone(got[:n]), 1)
		}
	}
}

func TestTrust(t *testing.T) {
	cert, err := SelfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		trust Trust
		ok    bool
	}{
		{Trust{}, true}, {Trust{CA: PEM(cert)}, true}, {Trust{CA: []byte("nothing")}, false}, {Trust{CA: []byte{}}, false},
		{Trust{Fingerprint: Fingerprint(cert)}, true}, {Trust{Fingerprint: "abc"}, false}, {Trust{Fingerprint: "zz"}, false},
	} {
		tc, err := tt.trust.TLS("localhost")
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.trust, err)
		}
		if err == nil && tc.InsecureSkipVerify && tc.VerifyConnection == nil {
			t.Errorf("%+v trusts anybody", tt.trust)
		}
	}
}

func TestSelected(t *testing.T) {
	at := func(group, object uint64) moq.Location { return moq.Location{Group: group, Object: object} }
	end := moq.Location{Group: 1<<64 - 1}
	largest := at(4, 7)
	for _, tt := range []struct {
		name       string
		o          moq.SubscribeOptions
		largest    *moq.Location
		start, end moq.Location
	}{
		{"next group, nothing yet", moq.SubscribeOptions{Filter: moq.FilterNextGroup}, nil, at(0, 0), end},
		{"next group", moq.SubscribeOptions{Filter: moq.FilterNextGroup}, &largest, at(5, 0), end},
		{"largest, nothing yet", moq.SubscribeOptions{Filter: moq.FilterLargestObject}, nil, at(0, 0), end},
		{"largest", moq.SubscribeOptions{Filter: moq.FilterLargestObject}, &largest, at(4, 8), end},
		{"from the past", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: at(2, 1)}, &largest, at(4, 8), end},
		{"from the future", moq.SubscribeOptions{Filter: moq.FilterAbsoluteStart, Start: at(6, 1)}, &largest, at(6, 1), end},
		{"range", moq.SubscribeOptions{Filter: moq.FilterAbsoluteRange, Start: at(6, 1), EndGroup: 8}, nil, at(6, 1), at(9, 0)},
	} {
		if start, end := selected(tt.o, tt.largest); start != tt.start || end != tt.end {
			t.Errorf("%s: %v to %v, want %v to %v", tt.name, start, end, tt.start, tt.end)
		}
	}
}
