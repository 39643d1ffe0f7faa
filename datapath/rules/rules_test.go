package rules_test

import (
	"bytes"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestReplayAsWireWindow compares the slot rule with internal/wire's window, and InitialSlot with having seen every number.
func TestReplayAsWireWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		next := rapid.Uint64Range(0, 5000).Draw(t, "next")
		var window wire.ReplayWindow
		var slots [datapath.ReplaySlots]uint64
		for n := range next {
			window.Check(n)
		}
		for i := range slots {
			slots[i] = rules.InitialSlot(i, next)
		}
		for range 200 {
			n := rapid.Uint64Range(next-min(next, 1200), next+3000).Draw(t, "number")
			v, fresh := rules.Replay(slots[rules.ReplaySlot(n)], n)
			if want := window.Check(n) == wire.Fresh; fresh != want {
				t.Fatalf("number %d: fresh %v, want %v", n, fresh, want)
			}
			if fresh {
				slots[rules.ReplaySlot(n)] = v
			}
		}
	})
}

// TestOpenNullAsWireKeys compares the null cipher with internal/wire's.
func TestOpenNullAsWireKeys(t *testing.T) {
	keys, err := wire.NewKeys(wire.SuiteNull, wire.Version1, nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		next := rapid.Uint64Range(0, 1<<40).Draw(t, "next")
		n := next + rapid.Uint64Range(0, 100).Draw(t, "ahead")
		b := datapathtest.Builder{CID: datapathtest.CID(3), PNLen: rapid.IntRange(1, 4).Draw(t, "length"),
			First: rapid.SampledFrom([]byte{0, 0, 0, 4, 8, 16}).Draw(t, "first")}
		p := b.Packet(n, []byte("frames"))
		p[len(p)-1] = rapid.SampledFrom([]byte{0, 0, 0, 1}).Draw(t, "tag")
		var o wire.Opened
		err := keys.Open(nil, p, datapath.CIDLen, next, &o)
		number, frames, r := rules.OpenNull(p, next)
		if (err == nil) != (r == datapath.Forwarded) || err == nil && (number != o.PacketNumber || !bytes.Equal(frames, o.Payload)) {
			t.Fatalf("got %d %x %v, wire has %+v %v", number, frames, r, o, err)
		}
	})
}

// TestWalkAsWire compares Walk with a plain loop over internal/wire's frames.
func TestWalkAsWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.ByteRange(0, 0x32), 0, 60).Draw(t, "bytes")
		want, items := datapath.Forwarded, 0
		var f wire.Frame
		for rest := b; len(rest) > 0; {
			n, err := f.Parse(rest)
			if err != nil {
				want = datapath.ReasonMalformedFrame
				break
			}
			items++
			if f.IsAck() {
				items += int(f.V[2])
			}
			rest = rest[n:]
		}
		if items > datapath.MaxFrames {
			t.Skip("which of two reasons comes first is told by the conformance suite")
		}
		var m rules.Media
		if got := rules.Walk(b, 2, &m); got != want {
			t.Fatalf("%x: %v, want %v", b, got, want)
		}
	})
}

// TestHeadersAsWire compares the headers with internal/wire's parsers, in both drafts.
func TestHeadersAsWire(t *testing.T) {
	for first := range 256 {
		b := []byte{byte(first), 5, 9, 3, 77, 1, 2, 3, 4, 5}
		if first >= 0x40 {
			continue // not a varint of one byte
		}
		for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
			var h rules.Header
			got := rules.ParseSubgroup(b, &h) == datapath.Forwarded && rules.SubgroupType(h.Type, uint8(d))
			w, err := wire.ParseSubgroupHeader(b, d)
			if got != (err == nil) || got && (h.Alias != w.TrackAlias || h.Group != w.Group || h.Priority != w.Priority || h.DefaultPriority != w.DefaultPriority || h.AliasLen != w.AliasLen) {
				t.Errorf("subgroup %#x in %v: %+v, wire has %+v, %v", first, d, h, w, err)
			}
			if got, want := rules.DatagramType(byte(first), uint8(d)), wire.IsObjectDatagram(uint64(first), d); got != want {
				t.Errorf("datagram %#x in %v: %v, want %v", first, d, got, want)
			}
		}
	}
}

// TestRewriteKeepsTheStream is P2 for one frame sequence: pieces of a stream put together are the stream with the other alias.
func TestRewriteKeepsTheStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "alias length")
		alias := rapid.Uint64Range(0, wire.MaxVarint).Draw(t, "alias")
		prefix := wire.AppendVarintLen([]byte{0x14}, 5, length)
		body := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "body")
		stream := append(bytes.Clone(prefix), body...)
		want := append(wire.AppendVarint([]byte{0x14}, alias), body...)
		x := rules.NewPrefix(length, alias)
		cut := rapid.IntRange(len(prefix), len(stream)).Draw(t, "cut")
		got := make([]byte, len(want))
		end := 0
		for _, part := range [][2]int{{cut, len(stream)}, {0, cut}} {
			var p rules.Piece
			if r := x.Rewrite(uint64(part[0]), stream[part[0]:part[1]], &p); r != datapath.Forwarded {
				t.Fatal(r)
			}
			n := copy(got[p.Offset:], p.Head[:p.HeadLen])
			n += copy(got[int(p.Offset)+n:], p.Tail)
			if n != p.Len() {
				t.Fatalf("piece of %d bytes beyond the stream", p.Len())
			}
			end = max(end, int(p.Offset)+n)
		}
		if end != len(want) || !bytes.Equal(got, want) {
			t.Fatalf("got %x, want %x", got, want)
		}
	})
}

// TestHeaders checks lengths and checksums for payloads of every length, by an independent sum.
func TestHeaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, dst := netip.MustParseAddrPort("10.255.255.1:65535"), netip.MustParseAddrPort("255.1.2.3:1")
		if rapid.Bool().Draw(t, "v6") {
			src, dst = netip.MustParseAddrPort("[fd00::ffff]:65535"), netip.MustParseAddrPort("[ffff:ffff::1]:1")
		}
		payload := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xfe, 0xff}), 1, datapath.MaxPacketSize).Draw(t, "payload")
		frame := append(make([]byte, rules.HeaderLen(src.Addr())), payload...)
		rules.PutHeaders(frame, &rules.Link{Src: rules.MAC{1}, Dst: rules.MAC{2}}, src, dst)
		p, err := datapathtest.ParseFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		if p.Src != src || p.Dst != dst || p.SrcMAC[0] != 1 || p.DstMAC[0] != 2 || !bytes.Equal(p.Payload, payload) {
			t.Fatalf("frame has %+v", p)
		}
	})
}

func TestRulesAllocateNothing(t *testing.T) {
	b := datapathtest.Builder{CID: datapathtest.CID(1), PNLen: 2, From: datapathtest.Side{Addr: netip.MustParseAddrPort("10.0.0.2:1")}, To: datapathtest.Side{Addr: netip.MustParseAddrPort("10.0.0.1:2")}}
	in := b.Frame(7, datapathtest.Stream(2, 0, datapathtest.Subgroup(5, 9, 1, "x"), true))
	var d rules.Datagram
	var m rules.Media
	var h rules.Header
	var p rules.Piece
	scratch, out := make([]byte, 0, 1500), make([]byte, rules.MaxFrame)
	if n := testing.AllocsPerRun(100, func() {
		_, r := rules.ParseUDP(in, 2, &d)
		r |= d.CheckLengths() | rules.CheckShort(d.Payload)
		_, frames, r2 := rules.OpenNull(d.Payload, 0)
		f := &m.Frames[0]
		r |= r2 | rules.Walk(frames, 2, &m) | rules.ParseSubgroup(f.Data, &h) | rules.NewPrefix(h.AliasLen, 1000).Rewrite(f.Offset, f.Data, &p)
		packet := rules.AppendNull(out[:42], b.CID, 9, rules.AppendStream(scratch, 3, &p, f.Fin, true))
		rules.PutHeaders(packet, &rules.Link{}, d.Dst, d.Src)
		if r != datapath.Forwarded {
			t.Fatal("sound packet refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func TestFrameWithoutLengthEndsThePacket(t *testing.T) {
	r := rules.NewRoom(100, 8)
	left := 100 - rules.PacketOverhead(8)
	withLength, reason := r.Fit(1, left-3)
	if withLength != true || reason != datapath.Forwarded {
		t.Errorf("frame with room for its length: %v, %v", withLength, reason)
	}
	if withLength, reason = r.Fit(1, left-1); withLength || reason != datapath.Forwarded {
		t.Errorf("frame that fills the packet: %v, %v", withLength, reason)
	}
	if _, reason := r.Fit(1, left); reason != datapath.ReasonTooBig {
		t.Errorf("frame beyond the packet: %v", reason)
	}
	r.Take(1, 5, false)
	if _, reason := r.Fit(1, 0); reason != datapath.ReasonTooBig {
		t.Errorf("frame after one without length: %v", reason)
	}
}

func TestChecksumIsNeverZero(t *testing.T) {
	for _, a := range [][2]string{{"10.0.0.1:1", "10.0.0.2:2"}, {"[fd00::1]:1", "[fd00::2]:2"}} {
		src, dst := netip.MustParseAddrPort(a[0]), netip.MustParseAddrPort(a[1])
		n := rules.HeaderLen(src.Addr())
		frame := make([]byte, n+2)
		rules.PutHeaders(frame, &rules.Link{}, src, dst)
		copy(frame[n:], frame[n-2:n]) // the payload that makes the sum 0xffff
		rules.PutHeaders(frame, &rules.Link{}, src, dst)
		if frame[n-2] != 0xff || frame[n-1] != 0xff {
			t.Errorf("%v: checksum %x, want ffff", src, frame[n-2:n])
		}
	}
}
