package wire

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// frameCases are one frame of every type and variant: bytes by hand from the RFC's figures, what they mean, and the writer.
var frameCases = []struct {
	name, wire string
	want       Frame
	eliciting  bool
	write      func(b []byte) []byte
}{
	{"PADDING", "00", Frame{Type: FramePadding}, false, func(b []byte) []byte { return AppendPadding(b, 1) }},
	{"PING", "01", Frame{Type: FramePing}, true, AppendPing},
	{
		"ACK", "02 4064 05 00 03", Frame{Type: FrameAck, V: [4]uint64{100, 5, 0, 3}}, false,
		func(b []byte) []byte { return AppendAck(b, []AckRange{{97, 100}}, 5, nil) },
	},
	{
		"ACK with ranges", "02 4064 05 02 03 01 02 00 00", Frame{Type: FrameAck, V: [4]uint64{100, 5, 2, 3}}, false,
		func(b []byte) []byte { return AppendAck(b, []AckRange{{97, 100}, {92, 94}, {90, 90}}, 5, nil) },
	},
	{
		"ACK_ECN", "03 0a 00 01 00 00 07 01 02 4100", Frame{Type: FrameAckECN, V: [4]uint64{10, 0, 1, 0}}, false,
		func(b []byte) []byte { return AppendAck(b, []AckRange{{10, 10}, {1, 8}}, 0, &[3]uint64{1, 2, 256}) },
	},
	{
		"RESET_STREAM", "04 03 4100 0a", Frame{Type: FrameResetStream, V: [4]uint64{3, 256, 10}}, true,
		func(b []byte) []byte { return AppendResetStream(b, 3, 256, 10) },
	},
	{
		"STOP_SENDING", "05 03 07", Frame{Type: FrameStopSending, V: [4]uint64{3, 7}}, true,
		func(b []byte) []byte { return AppendStopSending(b, 3, 7) },
	},
	{
		"CRYPTO", "06 05 02 aabb", Frame{Type: FrameCrypto, V: [4]uint64{5, 2}, Offset: 5, Data: []byte{0xaa, 0xbb}}, true,
		func(b []byte) []byte { return AppendCrypto(b, 5, []byte{0xaa, 0xbb}) },
	},
	{
		"NEW_TOKEN", "07 02 aabb", Frame{Type: FrameNewToken, V: [4]uint64{2}, Data: []byte{0xaa, 0xbb}}, true,
		func(b []byte) []byte { return AppendNewToken(b, []byte{0xaa, 0xbb}) },
	},
	{
		"STREAM", "08 07 aabb", Frame{Type: 0x08, V: [4]uint64{7, 0, 2}, Data: []byte{0xaa, 0xbb}}, true,
		func(b []byte) []byte { return AppendStream(b, 7, 0, []byte{0xaa, 0xbb}, false, false) },
	},
	{
		"STREAM FIN", "09 07", Frame{Type: 0x09, V: [4]uint64{7}, Data: []byte{}, Fin: true}, true,
		func(b []byte) []byte { return AppendStream(b, 7, 0, nil, true, false) },
	},
	{
		"STREAM LEN", "0a 07 01 aa", Frame{Type: 0x0a, V: [4]uint64{7, 0, 1}, Data: []byte{0xaa}, HasLen: true}, true,
		func(b []byte) []byte { return AppendStream(b, 7, 0, []byte{0xaa}, false, true) },
	},
	{
		"STREAM OFF", "0c 07 4100 aa", Frame{Type: 0x0c, V: [4]uint64{7, 256, 1}, Data: []byte{0xaa}, Offset: 256}, true,
		func(b []byte) []byte { return AppendStream(b, 7, 256, []byte{0xaa}, false, false) },
	},
	{
		"STREAM OFF LEN FIN", "0f 07 4100 01 aa",
		Frame{Type: 0x0f, V: [4]uint64{7, 256, 1}, Data: []byte{0xaa}, Offset: 256, Fin: true, HasLen: true}, true,
		func(b []byte) []byte { return AppendStream(b, 7, 256, []byte{0xaa}, true, true) },
	},
	{
		"MAX_DATA", "10 80010000", Frame{Type: FrameMaxData, V: [4]uint64{65536}}, true,
		func(b []byte) []byte { return AppendMaxData(b, 65536) },
	},
	{
		"MAX_STREAM_DATA", "11 03 4100", Frame{Type: FrameMaxStreamData, V: [4]uint64{3, 256}}, true,
		func(b []byte) []byte { return AppendMaxStreamData(b, 3, 256) },
	},
	{
		"MAX_STREAMS bidi", "12 d000000000000000", Frame{Type: FrameMaxStreamsBidi, V: [4]uint64{MaxStreams}}, true,
		func(b []byte) []byte { return AppendMaxStreams(b, MaxStreams, false) },
	},
	{
		"MAX_STREAMS uni", "13 05", Frame{Type: FrameMaxStreamsUni, V: [4]uint64{5}}, true,
		func(b []byte) []byte { return AppendMaxStreams(b, 5, true) },
	},
	{
		"DATA_BLOCKED", "14 05", Frame{Type: FrameDataBlocked, V: [4]uint64{5}}, true,
		func(b []byte) []byte { return AppendDataBlocked(b, 5) },
	},
	{
		"STREAM_DATA_BLOCKED", "15 03 05", Frame{Type: FrameStreamDataBlocked, V: [4]uint64{3, 5}}, true,
		func(b []byte) []byte { return AppendStreamDataBlocked(b, 3, 5) },
	},
	{
		"STREAMS_BLOCKED bidi", "16 05", Frame{Type: FrameStreamsBlockedBidi, V: [4]uint64{5}}, true,
		func(b []byte) []byte { return AppendStreamsBlocked(b, 5, false) },
	},
	{
		"STREAMS_BLOCKED uni", "17 05", Frame{Type: FrameStreamsBlockedUni, V: [4]uint64{5}}, true,
		func(b []byte) []byte { return AppendStreamsBlocked(b, 5, true) },
	},
	{
		"NEW_CONNECTION_ID", "18 04 02 03 aabbcc 000102030405060708090a0b0c0d0e0f",
		Frame{Type: FrameNewConnectionID, V: [4]uint64{4, 2}, Data: []byte{0xaa, 0xbb, 0xcc}}, true,
		func(b []byte) []byte {
			return AppendNewConnectionID(b, 4, 2, []byte{0xaa, 0xbb, 0xcc}, [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
		},
	},
	{
		"RETIRE_CONNECTION_ID", "19 04", Frame{Type: FrameRetireConnectionID, V: [4]uint64{4}}, true,
		func(b []byte) []byte { return AppendRetireConnectionID(b, 4) },
	},
	{
		"PATH_CHALLENGE", "1a 0102030405060708", Frame{Type: FramePathChallenge, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, true,
		func(b []byte) []byte { return AppendPathChallenge(b, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}) },
	},
	{
		"PATH_RESPONSE", "1b 0102030405060708", Frame{Type: FramePathResponse, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, true,
		func(b []byte) []byte { return AppendPathResponse(b, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}) },
	},
	{
		"CONNECTION_CLOSE", "1c 0a 08 02 6869", Frame{Type: FrameConnectionCloseTransport, V: [4]uint64{10, 8, 2}, Data: []byte("hi")}, false,
		func(b []byte) []byte { return AppendConnectionClose(b, CodeProtocolViolation, FrameStream, "hi") },
	},
	{
		"CONNECTION_CLOSE of the application", "1d 4100 02 6869", Frame{Type: FrameConnectionCloseApp, V: [4]uint64{256, 0, 2}, Data: []byte("hi")}, false,
		func(b []byte) []byte { return AppendConnectionCloseApp(b, 256, "hi") },
	},
	{"HANDSHAKE_DONE", "1e", Frame{Type: FrameHandshakeDone}, true, AppendHandshakeDone},
	{"IMMEDIATE_ACK", "1f", Frame{Type: FrameImmediateAck}, true, AppendImmediateAck},
	{
		"RESET_STREAM_AT", "24 03 01 0a 0a", Frame{Type: FrameResetStreamAt, V: [4]uint64{3, 1, 10, 10}}, true,
		func(b []byte) []byte { return AppendResetStreamAt(b, 3, 1, 10, 10) },
	},
	{
		"DATAGRAM", "30 aabb", Frame{Type: FrameDatagram, V: [4]uint64{2}, Data: []byte{0xaa, 0xbb}}, true,
		func(b []byte) []byte { return AppendDatagram(b, []byte{0xaa, 0xbb}, false) },
	},
	{
		"DATAGRAM LEN", "31 02 aabb", Frame{Type: FrameDatagramLen, V: [4]uint64{2}, Data: []byte{0xaa, 0xbb}, HasLen: true}, true,
		func(b []byte) []byte { return AppendDatagram(b, []byte{0xaa, 0xbb}, true) },
	},
	{
		"ACK_FREQUENCY", "40af 01 02 4100 04", Frame{Type: FrameAckFrequency, V: [4]uint64{1, 2, 256, 4}}, true,
		func(b []byte) []byte { return AppendAckFrequency(b, 1, 2, 256, 4) },
	},
}

func TestFrames(t *testing.T) {
	for _, tc := range frameCases {
		t.Run(tc.name, func(t *testing.T) {
			in := fromHex(t, tc.wire)
			if got := tc.write([]byte{0xee}); !bytes.Equal(got[1:], in) {
				t.Errorf("written %x, want %x", got[1:], in)
			}
			var f Frame
			n, err := f.Parse(in)
			if err != nil || n != len(in) {
				t.Fatalf("Parse = %d, %v; want %d", n, err, len(in))
			}
			want := tc.want
			want.Raw = in
			if diff := cmp.Diff(want, f); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if f.AckEliciting() != tc.eliciting {
				t.Errorf("ack-eliciting is %v", f.AckEliciting())
			}
			// A frame that says where it ends leaves alone what follows, and does not do with less.
			if (f.IsStream() || f.IsDatagram()) && !f.HasLen {
				return
			}
			if n, err := f.Parse(append(in[:len(in):len(in)], 0xff)); err != nil || n != len(in) {
				t.Errorf("with a byte more: %d, %v", n, err)
			}
			for short := range in {
				if n, err := f.Parse(in[:short]); !errors.Is(err, ErrFrameTruncated) || n != 0 {
					t.Errorf("first %d bytes: %d, %v", short, n, err)
				}
			}
		})
	}
}

func TestFrameErrors(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		err      error
		code     TransportCode
	}{
		{"PING in two bytes", "4001", ErrFrameTypeEncoding, CodeProtocolViolation},
		{"STREAM in eight bytes", "c000000000000008 00", ErrFrameTypeEncoding, CodeProtocolViolation},
		{"unknown type", "20", ErrFrameUnknown, CodeFrameEncoding},
		{"unknown long type", "ffffffffffffffff", ErrFrameUnknown, CodeFrameEncoding},
		{"STREAM beyond 2^62-1", "0e 00 ffffffffffffffff 01 aa", ErrStreamOffset, CodeFrameEncoding},
		{"STREAM without length beyond 2^62-1", "0c 00 fffffffffffffffe aabb", ErrStreamOffset, CodeFrameEncoding},
		{"STREAM longer than the packet", "0a 00 05 aa", ErrFrameTruncated, CodeFrameEncoding},
		{"CRYPTO beyond 2^62-1", "06 ffffffffffffffff 01 aa", ErrStreamOffset, CodeFrameEncoding},
		{"NEW_TOKEN without token", "07 00", ErrFrameField, CodeFrameEncoding},
		{"MAX_STREAMS above 2^60", "12 d000000000000001", ErrFrameField, CodeFrameEncoding},
		{"STREAMS_BLOCKED above 2^60", "17 d000000000000001", ErrFrameField, CodeFrameEncoding},
		{"NEW_CONNECTION_ID without CID", "18 04 02 00 000102030405060708090a0b0c0d0e0f", ErrFrameField, CodeFrameEncoding},
		{"NEW_CONNECTION_ID of 21 bytes", "18 04 02 15 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f0001020304", ErrFrameField, CodeFrameEncoding},
		{"NEW_CONNECTION_ID that retires itself", "18 04 05 01 aa 000102030405060708090a0b0c0d0e0f", ErrFrameField, CodeFrameEncoding},
		{"RESET_STREAM_AT beyond the final size", "24 03 01 0a 0b", ErrFrameField, CodeFrameEncoding},
		{"ACK first range below 0", "02 05 00 00 06", ErrAckRange, CodeFrameEncoding},
		{"ACK gap below 0", "02 05 00 01 00 04 00", ErrAckRange, CodeFrameEncoding},
		{"ACK range below 0", "02 05 00 01 00 01 03", ErrAckRange, CodeFrameEncoding},
		{"ACK with 2^62-1 ranges", "02 05 00 ffffffffffffffff 00 00 00", ErrFrameTruncated, CodeFrameEncoding},
		{"empty", "", ErrFrameTruncated, CodeFrameEncoding},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f Frame
			n, err := f.Parse(fromHex(t, tc.in))
			var e *Error
			if n != 0 || !errors.Is(err, tc.err) || !errors.As(err, &e) || e.Code != tc.code {
				t.Errorf("Parse = %d, %v; want %v, code %#x", n, err, tc.err, tc.code)
			}
		})
	}
}

func TestNewConnectionIDAt20Bytes(t *testing.T) {
	cid, token := bytes.Repeat([]byte{7}, MaxCIDLen), [16]byte{15: 9}
	var f Frame
	if _, err := f.Parse(AppendNewConnectionID(nil, 1, 1, cid, token)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Data, cid) || !bytes.Equal(f.ResetToken(), token[:]) {
		t.Errorf("CID %x, token %x", f.Data, f.ResetToken())
	}
	if (&Frame{Type: FramePing}).ResetToken() != nil {
		t.Error("a PING frame has a reset token")
	}
}

// A packet's payload of any frames is walked frame by frame, to its exact end.
func TestFrameWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var payload []byte
		var want []Frame
		add := func(f Frame, b []byte) {
			f.Raw = b[len(payload):len(b):len(b)]
			payload = b
			want = append(want, f)
		}
		for range rapid.IntRange(1, 20).Draw(t, "frames") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "data")
			size := uint64(len(data))
			id := anyVarint().Draw(t, "id")
			offset := min(anyVarint().Draw(t, "offset"), MaxVarint-size)
			fin := rapid.Bool().Draw(t, "fin")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				b := AppendStream(payload, id, offset, data, fin, true)
				if len(b)-len(payload) != StreamOverhead(id, offset, len(data), true)+len(data) {
					t.Fatalf("StreamOverhead(%d, %d, %d) is wrong", id, offset, len(data))
				}
				add(Frame{Type: FrameType(b[len(payload)]), V: [4]uint64{id, offset, size}, Offset: offset, Data: data, Fin: fin, HasLen: true}, b)
			case 1:
				b := AppendDatagram(payload, data, true)
				if len(b)-len(payload) != DatagramOverhead(len(data), true)+len(data) {
					t.Fatalf("DatagramOverhead(%d) is wrong", len(data))
				}
				add(Frame{Type: FrameDatagramLen, V: [4]uint64{size}, Data: data, HasLen: true}, b)
			case 2:
				add(Frame{Type: FrameMaxStreamData, V: [4]uint64{id, offset}}, AppendMaxStreamData(payload, id, offset))
			case 3:
				c := rapid.SampledFrom(frameCases).Draw(t, "case")
				b := c.write(payload)
				f := c.want
				if (f.IsStream() || f.IsDatagram()) && !f.HasLen {
					continue
				}
				add(f, b)
			}
		}
		switch rapid.IntRange(0, 2).Draw(t, "last") {
		case 0:
			b := AppendStream(payload, 7, 9, []byte("rest"), true, false)
			if len(b)-len(payload) != StreamOverhead(7, 9, 4, false)+4 {
				t.Fatal("StreamOverhead without length is wrong")
			}
			add(Frame{Type: 0x0d, V: [4]uint64{7, 9, 4}, Offset: 9, Data: []byte("rest"), Fin: true}, b)
		case 1:
			b := AppendDatagram(payload, []byte("rest"), false)
			if len(b)-len(payload) != DatagramOverhead(4, false)+4 {
				t.Fatal("DatagramOverhead without length is wrong")
			}
			add(Frame{Type: FrameDatagram, V: [4]uint64{4}, Data: []byte("rest")}, b)
		}
		var f Frame
		rest := payload
		for i := range want {
			n, err := f.Parse(rest)
			if err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			if !bytes.Equal(f.Data, want[i].Data) || !bytes.Equal(f.Raw, want[i].Raw) {
				t.Fatalf("frame %d: data %x, raw %x; want %x, %x", i, f.Data, f.Raw, want[i].Data, want[i].Raw)
			}
			f.Data, f.Raw, want[i].Data, want[i].Raw = nil, nil, nil, nil
			if diff := cmp.Diff(want[i], f); diff != "" {
				t.Fatalf("frame %d (-want +got)\n%s", i, diff)
			}
			rest = rest[n:]
		}
		if len(rest) != 0 {
			t.Fatalf("%d bytes are left", len(rest))
		}
	})
}

func TestFrameParseAllocs(t *testing.T) {
	ranges := make([]AckRange, 0, 8)
	for _, tc := range frameCases {
		b := fromHex(t, tc.wire)
		var f Frame
		if n := testing.AllocsPerRun(100, func() {
			_, _ = f.Parse(b)
			_ = f.AppendAckRanges(ranges)
			_, _, _ = f.AckECN()
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", tc.name, n)
		}
		out := make([]byte, 0, 100)
		if n := testing.AllocsPerRun(100, func() { _ = appendInts(out, FrameMaxStreamData, 1, 2) }); n != 0 {
			t.Errorf("appendInts: %v allocations, want 0", n)
		}
	}
	bad := []byte{0x20}
	var f Frame
	if n := testing.AllocsPerRun(100, func() { _, _ = f.Parse(bad) }); n != 0 {
		t.Errorf("unknown frame: %v allocations, want 0", n)
	}
}

func FuzzFrame(f *testing.F) {
	for _, tc := range frameCases {
		f.Add(fromHex(f, tc.wire))
	}
	f.Add(fromHex(f, "02 05 00 ffffffffffffffff 00 00 00"))
	f.Add(fromHex(f, "0e 00 ffffffffffffffff 01 aa"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var fr Frame
		for len(b) > 0 {
			n, err := fr.Parse(b)
			if err != nil {
				var e *Error
				if n != 0 || !errors.As(err, &e) {
					t.Fatalf("Parse = %d, %v", n, err)
				}
				return
			}
			if n < 1 || n > len(b) || len(fr.Raw) != n {
				t.Fatalf("Parse = %d of %d bytes, Raw has %d", n, len(b), len(fr.Raw))
			}
			if fr.IsStream() && fr.Offset > math.MaxUint64>>2-uint64(len(fr.Data)) {
				t.Fatalf("stream data beyond 2^62-1: %+v", fr)
			}
			checkAck(t, &fr)
			b = b[n:]
		}
	})
}

func BenchmarkFrameParse(b *testing.B) {
	for _, bc := range []struct {
		name string
		in   []byte
	}{
		{"stream", AppendStream(nil, 1234, 1<<20, make([]byte, 1200), false, false)},
		{"datagram", AppendDatagram(nil, make([]byte, 1200), false)},
		{"ack8", AppendAck(nil, []AckRange{{1000, 1100}, {900, 990}, {800, 890}, {700, 790}, {600, 690}, {500, 590}, {400, 490}, {300, 390}}, 25, nil)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			var f Frame
			for range b.N {
				if _, err := f.Parse(bc.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
