package wire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseLongHeader(t *testing.T) {
	dcid, scid := fromHex(t, "8394c8f03e515708"), fromHex(t, "f067a5502a4262b5")
	for _, tc := range []struct {
		name, in string
		want     LongHeader
		err      error
	}{
		{
			name: "initial of RFC 9001 A.3, without SCID's peer, and a coalesced rest",
			in:   "c1 00000001 00 08f067a5502a4262b5 00 4004 0001aabb ffff",
			want: LongHeader{Type: LongInitial, Version: Version1, DCID: []byte{}, SCID: scid, Token: []byte{}, HeaderLen: 18, PacketLen: 22},
		},
		{
			name: "initial with token",
			in:   "c0 00000001 088394c8f03e515708 00 03aabbcc 02 0000",
			want: LongHeader{Type: LongInitial, Version: Version1, DCID: dcid, SCID: []byte{}, Token: []byte{0xaa, 0xbb, 0xcc}, HeaderLen: 20, PacketLen: 22},
		},
		{
			name: "initial of version 2",
			in:   "d0 6b3343cf 00 00 00 02 0000",
			want: LongHeader{Type: LongInitial, Version: Version2, DCID: []byte{}, SCID: []byte{}, Token: []byte{}, HeaderLen: 9, PacketLen: 11},
		},
		{
			name: "0-RTT", in: "d0 00000001 00 00 01 ff",
			want: LongHeader{Type: Long0RTT, Version: Version1, DCID: []byte{}, SCID: []byte{}, HeaderLen: 8, PacketLen: 9},
		},
		{
			name: "0-RTT of version 2", in: "e0 6b3343cf 00 00 01 ff",
			want: LongHeader{Type: Long0RTT, Version: Version2, DCID: []byte{}, SCID: []byte{}, HeaderLen: 8, PacketLen: 9},
		},
		{
			name: "handshake", in: "e0 00000001 00 00 00",
			want: LongHeader{Type: LongHandshake, Version: Version1, DCID: []byte{}, SCID: []byte{}, HeaderLen: 8, PacketLen: 8},
		},
		{
			name: "handshake of version 2", in: "f0 6b3343cf 00 00 00",
			want: LongHeader{Type: LongHandshake, Version: Version2, DCID: []byte{}, SCID: []byte{}, HeaderLen: 8, PacketLen: 8},
		},
		{
			name: "retry of RFC 9001 A.4",
			in:   "ff 00000001 00 08f067a5502a4262b5 746f6b656e 04a265ba2eff4d829058fb3f0f2496ba",
			want: LongHeader{Type: LongRetry, Version: Version1, DCID: []byte{}, SCID: scid, Token: []byte("token"), HeaderLen: 15, PacketLen: 36},
		},
		{
			name: "retry of version 2",
			in:   "c0 6b3343cf 00 00 01 04a265ba2eff4d829058fb3f0f2496ba",
			want: LongHeader{Type: LongRetry, Version: Version2, DCID: []byte{}, SCID: []byte{}, Token: []byte{1}, HeaderLen: 7, PacketLen: 24},
		},
		{
			name: "version negotiation, without fixed bit", in: "80 00000000 01aa 01bb 00000001 6b3343cf",
			want: LongHeader{Type: LongVersionNegotiation, DCID: []byte{0xaa}, SCID: []byte{0xbb}, HeaderLen: 9, PacketLen: 17},
		},
		{
			name: "unknown version", in: "80 1a2a3a4a 01aa 01bb 00", err: ErrVersion,
			want: LongHeader{Version: 0x1a2a3a4a, DCID: []byte{0xaa}, SCID: []byte{0xbb}, HeaderLen: 9, PacketLen: 10},
		},
		{name: "empty", err: ErrTruncated},
		{name: "short header", in: "40", err: ErrNotQUIC},
		{name: "no version", in: "c0 000000", err: ErrTruncated},
		{name: "fixed bit is zero", in: "80 00000001 00 00 00 00", err: ErrNotQUIC},
		{name: "DCID cut", in: "c0 00000001 02 aa", err: ErrTruncated},
		{name: "no SCID", in: "c0 00000001 01 aa", err: ErrTruncated},
		{name: "DCID of 21 bytes", in: "c0 00000001 15 000102030405060708090a0b0c0d0e0f1011121314 00 00 00", err: ErrCIDLen},
		{name: "no token", in: "c0 00000001 00 00", err: ErrTruncated},
		{name: "token cut", in: "c0 00000001 00 00 02 aa", err: ErrTruncated},
		{name: "token of 2^62-1 bytes", in: "c0 00000001 00 00 ffffffffffffffff", err: ErrTruncated},
		{name: "packet cut", in: "e0 00000001 00 00 02 aa", err: ErrTruncated},
		{name: "no length", in: "e0 00000001 00 00", err: ErrTruncated},
		{name: "retry without tag", in: "f0 00000001 00 00 0102030405060708090a0b0c0d0e0f", err: ErrTruncated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseLongHeader(fromHex(t, tc.in))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil && !errors.Is(err, ErrVersion) {
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// The packets of a datagram are found one after the other, and never reach beyond it.
func TestLongHeaderCoalesced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var datagram []byte
		var sizes []int
		for range rapid.IntRange(1, 4).Draw(t, "packets") {
			start := len(datagram)
			kind := rapid.SampledFrom([]LongType{LongInitial, Long0RTT, LongHandshake}).Draw(t, "kind")
			datagram = append(datagram, 0xc0|byte(kind-LongInitial)<<4, 0, 0, 0, Version1)
			for range 2 {
				cid := rapid.SliceOfN(rapid.Byte(), 0, MaxCIDLen).Draw(t, "cid")
				datagram = append(append(datagram, byte(len(cid))), cid...)
			}
			if kind == LongInitial {
				token := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "token")
				datagram = append(AppendVarint(datagram, uint64(len(token))), token...)
			}
			body := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "body")
			datagram = append(AppendVarint(datagram, uint64(len(body))), body...)
			sizes = append(sizes, len(datagram)-start)
		}
		for i, rest := 0, datagram; len(rest) > 0; i++ {
			h, err := ParseLongHeader(rest)
			if err != nil || h.PacketLen != sizes[i] || h.HeaderLen > h.PacketLen {
				t.Fatalf("packet %d: %+v, %v; want %d bytes", i, h, err, sizes[i])
			}
			rest = rest[h.PacketLen:]
		}
	})
}

func TestParseLongHeaderAllocs(t *testing.T) {
	b := fromHex(t, "c0 00000001 088394c8f03e515708 00 03aabbcc 02 0000")
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseLongHeader(b) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzLongHeader(f *testing.F) {
	for _, s := range []string{
		"c1 00000001 00 08f067a5502a4262b5 00 4004 0001aabb ffff",
		"ff 00000001 00 08f067a5502a4262b5 746f6b656e 04a265ba2eff4d829058fb3f0f2496ba",
		"80 00000000 01aa 01bb 00000001 6b3343cf",
		"d0 6b3343cf 00 00 00 02 0000",
	} {
		f.Add(fromHex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseLongHeader(b)
		if err != nil {
			return
		}
		if h.HeaderLen > h.PacketLen || h.PacketLen > len(b) || h.PacketLen < 7 || h.Type == 0 {
			t.Errorf("%+v of %d bytes", h, len(b))
		}
	})
}
