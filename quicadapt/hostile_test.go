package quicadapt

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestStreamMemory compares it with one that forgets nothing: what is repeated as it was is always taken, and what was
// rewritten a moment ago never.
func TestStreamMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := new(streamMemory)
		version := map[uint64]byte{} // of streams
		all := map[uint64][]byte{}   // bytes that came, 0 for none
		for range rapid.IntRange(1, 200).Draw(t, "frames") {
			stream := 2 + 4*rapid.Uint64Range(0, 5).Draw(t, "stream")
			offset := rapid.Uint64Range(0, 3000).Draw(t, "offset")
			n := rapid.IntRange(1, 1200).Draw(t, "length")
			if all[stream] == nil {
				all[stream], version[stream] = make([]byte, 5000), byte(stream)
			}
			if rapid.IntRange(0, 5).Draw(t, "rewrite") == 0 {
				version[stream] += 100
			}
			data := make([]byte, n)
			differs := false
			for i := range data {
				old := &all[stream][offset+uint64(i)]
				data[i] = 1 | (version[stream] + byte(offset+uint64(i))) // 0 is none
				differs = differs || *old != 0 && *old != data[i]
			}
			if ok := m.put(stream, offset, data); ok == differs {
				t.Fatalf("stream %d at %d, %d bytes: taken %v, differs %v", stream, offset, n, ok, differs)
			}
			if differs {
				return // the connection ends
			}
			copy(all[stream][offset:], data)
		}
	})
}

// TestStreamMemoryForgets: bytes of long ago are not compared, and not read from others' places.
func TestStreamMemoryForgets(t *testing.T) {
	m := new(streamMemory)
	old := bytes.Repeat([]byte{1}, 1000)
	for i := range uint64(3 * memoryBytes / 1000) {
		if !m.put(2+4*i, 0, old) {
			t.Fatalf("stream %d was not taken", i)
		}
	}
	rewritten := bytes.Repeat([]byte{2}, 1000)
	if last := uint64(3*memoryBytes/1000 - 1); !m.put(2, 0, rewritten) || m.put(2+4*last, 0, rewritten) {
		t.Error("the first stream is remembered, or the last is not")
	}
}

func BenchmarkStreamMemory(b *testing.B) {
	m, data := new(streamMemory), make([]byte, 1200)
	for i := range uint64(b.N) {
		if !m.put(2+4*(i/10), i%10*1200, data) {
			b.Fatal("was not taken")
		}
	}
}

// TestFinalSize: where the datapath has ended a stream elsewhere than the publisher's bytes do, or has sent beyond their end, the
// stream is reset with the size that the subscriber knows.
func TestFinalSize(t *testing.T) {
	for _, c := range []struct {
		name            string
		forwarded       uint64
		fin             bool // forwarded
		written         int
		closed, isReset bool
	}{
		{name: "ended before", forwarded: 10, fin: true, written: 20, isReset: true},
		{name: "ended before, FIN later", forwarded: 10, fin: true, written: 20, closed: true, isReset: true},
		{name: "sent beyond", forwarded: 30, written: 20, closed: true, isReset: true},
		{name: "as it should be", forwarded: 10, written: 20, closed: true},
		{name: "FIN twice", forwarded: 20, fin: true, written: 20, closed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newFuzzWorld(t)
			var out []wire.Frame
			w.onFrame = func(f *wire.Frame) { out = append(out, *f) }
			w.reserve()
			w.forward(c.forwarded, 0)
			s := w.newest()
			if c.fin {
				w.c.space.FinishStream(s.slot)
				s.finSent = true
			}
			_, err := s.Write(make([]byte, c.written))
			if err != nil {
				t.Fatal(err)
			}
			if c.closed {
				_ = s.Close()
			}
			w.c.mu.Lock() // all is lost, so that it is sent again
			s.onLost(&sentFrame{stream: s, lo: 0, hi: c.forwarded, fin: c.fin}, 0)
			w.c.unlockAndSend()
			resets := slices.DeleteFunc(slices.Clone(out), func(f wire.Frame) bool { return f.Type != wire.FrameResetStream })
			if (len(resets) == 1) != c.isReset || c.isReset && resets[0].V[2] != c.forwarded {
				t.Errorf("resets %v", resets)
			}
			for _, f := range out {
				if end := f.Offset + uint64(len(f.Data)); f.IsStream() && c.isReset && (f.Fin || end > max(c.forwarded, uint64(c.written))) {
					t.Errorf("sent to %d, FIN %v", end, f.Fin)
				}
			}
			if word, _ := w.c.space.StreamWord(s.slot); c.closed && word&datapath.StreamClosed == 0 {
				t.Error("the datapath may go on after the FIN")
			}
		})
	}
}

// TestLateMaxStreamData: a MAX_STREAM_DATA that comes after a higher one takes nothing back (RFC 9000, section 4.1).
func TestLateMaxStreamData(t *testing.T) {
	w := newFuzzWorld(t)
	w.reserve()
	w.forward(4, 0)
	s := w.newest()
	for _, limit := range []uint64{15_000, 12_000, 9} {
		w.input(w.sealPeer(wire.AppendMaxStreamData(nil, s.id, limit)))
		if _, got := w.c.space.StreamWord(s.slot); got != 15_000 {
			t.Fatalf("after %d the limit is %d", limit, got)
		}
	}
}

// TestAbsurdAckDelay: an ack_delay whose product with its exponent has no place in 64 bits neither wraps around nor makes
// the RTT anything that was not measured.
func TestAbsurdAckDelay(t *testing.T) {
	for _, delay := range []uint64{1 << 40, 1 << 59, wire.MaxVarint} {
		w := newFuzzWorld(t)
		w.c.ackExponent = 20
		w.output(w.quic.Seal(nil, w.quic.Generation(), clientCID, w.own, 4, padded([]byte{1})))
		w.own++
		largest := w.c.space.Next() - 1
		p := w.sealPeer(wire.AppendAck(nil, []wire.AckRange{{Smallest: largest, Largest: largest}}, delay, nil))
		buf := make([]byte, 1452)
		n := w.b.input(buf, copy(buf, p), w.from)
		var o wire.Opened
		var f wire.Frame
		if err := w.in.Open(nil, buf[:n], datapath.CIDLen, w.number, &o); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Parse(o.Payload); err != nil || !f.IsAck() {
			t.Fatalf("quic-go gets %v, %v", f.Type, err)
		}
		if told := f.V[1] << w.c.ackExponent; told > maxAckDelayField || told < maxAckDelayField/2 {
			t.Errorf("delay %d: quic-go is told %d µs, at most %d are believed", delay, told, uint64(maxAckDelayField))
		}
		if rtt := w.c.loss.RTT; rtt.Smoothed <= 0 || rtt.Latest < 0 || rtt.Smoothed > 1e12 {
			t.Errorf("delay %d: RTT %+v", delay, rtt)
		}
	}
}

// TestKeyUpdateHoldsTheDatapath: from a key update on, the datapath does not send until it has the new keys, also if telling it fails
// at first (RFC 9001, section 6.4).
func TestKeyUpdateHoldsTheDatapath(t *testing.T) {
	w := newFuzzWorld(t)
	maySend := func() bool { return w.c.space.Budget(w.c.space.Now(), 1200) == datapath.Forwarded }
	ping := []byte{byte(wire.FramePing)}
	send := func() {
		w.output(w.quic.Seal(nil, w.quic.Generation(), clientCID, w.own, 4, padded(ping)))
		w.own++
	}
	var told []uint64
	refused := errors.New("refused")
	w.onClient = func(c *datapath.Client) error {
		told = append(told, c.Protection.Generation)
		if len(told) == 1 {
			return refused
		}
		return nil
	}
	send()
	if !maySend() {
		t.Fatal("the datapath may not send before an update")
	}
	w.peer.Update()
	w.input(w.sealPeer(ping))
	send() // with the new keys
	if w.c.wireOutGen != 1 || maySend() {
		t.Fatalf("generation %d, the datapath may send: %v", w.c.wireOutGen, maySend())
	}
	w.b.service(w.c)
	if maySend() {
		t.Error("the datapath may send without the keys")
	}
	w.b.start = w.b.start.Add(-w.b.cfg.DrainInterval)
	w.b.service(w.c)
	if !maySend() || !slices.Equal(told, []uint64{1, 1}) {
		t.Errorf("the datapath may send: %v; it was told %v", maySend(), told)
	}
}

// TestTwoKeyUpdates: a second key update of the peer's is an error unless something was sent with the keys of the first (RFC
// 9001, section 6.2).
func TestTwoKeyUpdates(t *testing.T) {
	for _, sends := range []bool{false, true} {
		w := newFuzzWorld(t)
		w.output(w.quic.Seal(nil, 0, clientCID, w.own, 4, padded([]byte{1})))
		w.own++
		for range 2 {
			w.peer.Update()
			w.input(w.sealPeer([]byte{1}))
			if sends {
				w.output(w.quic.Seal(nil, 0, clientCID, w.own, 4, padded([]byte{1})))
				w.own++
			}
		}
		want := wire.CodeKeyUpdateError
		if sends {
			want = 0
		}
		if w.c.fatal != want {
			t.Errorf("packets are sent between: %v; code %#x, want %#x", sends, w.c.fatal, want)
		}
	}
}

// TestManyAcks: a packet of tiny ACK frames, while many ranges of quic-go's packets wait to be told, becomes one that quic-go can take.
func TestManyAcks(t *testing.T) {
	for _, full := range []bool{false, true} { // of other frames
		w := newFuzzWorld(t)
		w.c.keyLimits = keyLimits{}
		for range 600 {
			w.output(w.quic.Seal(nil, w.quic.Generation(), clientCID, w.own, 4, padded([]byte{1})))
			w.own++
		}
		ranges := []wire.AckRange{}
		for n := w.c.space.Next() - 1; n > 200 && len(ranges) < 200; n -= 2 {
			if w.used[n] {
				ranges = append(ranges, wire.AckRange{Smallest: n, Largest: n})
			}
		}
		w.input(w.sealPeer(wire.AppendAck(nil, ranges, 3, nil))) // and quic-go does not say that it has processed it
		tiny := wire.AppendAck(nil, ranges[:1], 3, nil)
		frames := bytes.Repeat(tiny, 200)
		if full {
			frames = wire.AppendDatagram(slices.Clone(tiny), make([]byte, 1380), true)
		}
		frames = wire.AppendMaxStreams(frames, 77, true)
		p := w.sealPeer(frames)
		buf := make([]byte, 1452)
		n := w.b.input(buf, copy(buf, p), w.from)
		var o wire.Opened
		if err := w.in.Open(nil, buf[:n], datapath.CIDLen, w.number, &o); err != nil {
			t.Fatalf("full %v: of %d bytes quic-go gets %d: %v", full, len(p), n, err)
		}
		acks, last := 0, wire.Frame{}
		for at := 0; at < len(o.Payload); {
			k, err := last.Parse(o.Payload[at:])
			if err != nil {
				t.Fatal(err)
			}
			if last.IsAck() {
				acks++
			}
			at += k
		}
		if acks != 1 || last.Type != wire.FrameMaxStreamsUni {
			t.Errorf("full %v: quic-go gets %d ACK frames, the last frame is %#x", full, acks, last.Type)
		}
	}
}

// TestOpenings: records of streams that the datapath had no leave to open are not believed. One that was opened for an upstream that
// has gone is reset when the next one with its ID has a stream with the same.
func TestOpenings(t *testing.T) {
	w := newFuzzWorld(t)
	w.reserve()
	w.reserve()
	open := func(stream uint64, slot uint8) {
		r := datapath.Record{Time: w.b.start, Number: w.c.space.TakeNumber(), Size: 100, Generation: w.c.space.Generation(), Frames: []datapath.RecordFrame{
			{UpstreamStream: 2, ClientStream: stream, Slot: slot, Length: 9, Opened: true},
		}}
		w.b.onRecord(&r)
	}
	slots := w.c.slotOf
	open(999, 1)
	open(3, slots[3]+1)
	if len(w.c.streams) > 0 {
		t.Fatalf("streams %v", w.c.streams)
	}
	open(3, slots[3])
	first := w.c.streams[3]
	open(3, slots[3])
	if first == nil || w.c.streams[3] != first || first.reset {
		t.Fatalf("stream %+v, then %+v", first, w.c.streams[3])
	}
	open(7, slots[7])
	if !first.reset || (&Conn{c: w.c}).FastStream(0, 2) != w.c.streams[7] {
		t.Error("the next upstream's stream is not its own")
	}
}
