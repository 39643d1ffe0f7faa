package quicadapt_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// TestEndedBeforeItIsAskedFor: a stream that the subscriber stopped, or that the policy dropped, before anybody asked for it is not the slow
// path's, which would send all of it again; and whoever asks learns how it ended.
func TestEndedBeforeItIsAskedFor(t *testing.T) {
	for _, drops := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := within(t)
			p := newPair(t, ctx, false, 0, config())
			var id uint64
			if err := p.dp.forward(p.id, 0, 2, &id, pattern(1000, 1), 0, false); err != nil {
				t.Fatal(err)
			}
			p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
			slot := p.dp.lastRecord().Frames[0].Slot
			s, err := p.client.AcceptUniStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if drops {
				quicadapt.OnRecord(p.server, &datapath.Record{Client: p.id, Generation: p.dp.clients[p.id].space.Generation(), Reason: datapath.ReasonDropReserve, Time: time.Now(), Frames: []datapath.RecordFrame{
					{UpstreamStream: 2, ClientStream: id, Slot: slot, Offset: 1000, Length: 10, Reason: datapath.ReasonDropReserve}}})
				if _, err := io.ReadAll(s); err == nil {
					t.Error("the stream was not reset")
				}
			} else {
				s.CancelRead(7)
			}
			time.Sleep(time.Second)
			fast := p.server.FastStream(0, 2)
			if fast == nil {
				t.Fatal("the slow path sends a stream again that has ended")
			}
			var got *quicadapt.Outcome
			fast.OnEnd(func(o quicadapt.Outcome) { got = &o })
			if _, err := fast.Write(pattern(1010, 1)); !errors.Is(err, quicadapt.ErrDropped) && !errors.Is(err, quicadapt.ErrStopped) {
				t.Errorf("write: %v", err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got == nil || got.Delivered || got.Stopped == drops || (got.Dropped == datapath.ReasonDropReserve) != drops {
				t.Errorf("outcome %+v", got)
			}
		})
	}
}

// TestClosedByTheDatapath: the datapath drops the rest of a stream, which shows in its stream word, before its record is read. The stream is
// reset as one that comes too late, not as an internal error, and for the policy's reason.
func TestClosedByTheDatapath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		if err := p.server.SetPolicy(&datapath.Policy{Rate: 1000, Burst: 1000, Bands: []datapath.Band{{UpTo: datapath.MaxImportance}}}); err != nil {
			t.Fatal(err)
		}
		var id uint64
		if err := p.dp.forward(p.id, 0, 2, &id, pattern(1000, 1), 0, false); err != nil {
			t.Fatal(err)
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		slot := p.dp.lastRecord().Frames[0].Slot
		fast := p.server.FastStream(0, 2)
		var got *quicadapt.Outcome
		fast.OnEnd(func(o quicadapt.Outcome) { got = &o })
		if _, err := fast.Write(pattern(1000, 1)); err != nil {
			t.Fatal(err)
		}
		p.dp.clients[p.id].space.CloseStream(slot)
		if _, err := fast.Write(pattern(500, 2)); err != nil {
			t.Fatal(err)
		}
		if _, err := fast.Write(pattern(500, 3)); !errors.Is(err, quicadapt.ErrDropped) {
			t.Errorf("write: %v, want %v", err, quicadapt.ErrDropped)
		}
		quicadapt.OnRecord(p.server, &datapath.Record{Client: p.id, Generation: p.dp.clients[p.id].space.Generation(), Reason: datapath.ReasonDropReserve, Time: time.Now(), Frames: []datapath.RecordFrame{
			{UpstreamStream: 2, ClientStream: id, Slot: slot, Offset: 1000, Length: 500, Reason: datapath.ReasonDropReserve}}})
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var reset *quic.StreamError
		if _, err := io.ReadAll(s); !errors.As(err, &reset) || reset.ErrorCode != 2 {
			t.Errorf("read: %v, want a reset with DELIVERY_TIMEOUT (2)", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got == nil || got.Delivered || got.Dropped != datapath.ReasonDropReserve || !got.Begun {
			t.Errorf("outcome %+v", got)
		}
	})
}

// TestUpstreamForgotten: what the datapath did with the media of an upstream that has gone is not taken for what it did with those of the next,
// which gets its ID and counts streams and packets from 0 again.
func TestUpstreamForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		publisher := dial(t, ctx, false, p.sockets[2], p.sockets[0].LocalAddr(), config(), p.clientTLS)
		c, err := p.listener.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := echoOnce(ctx, c, publisher, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		up, err := c.Upstream()
		if err != nil {
			t.Fatal(err)
		}
		var id uint64
		if err := p.dp.forward(p.id, up, 2, &id, pattern(1000, 1), 0, false); err != nil {
			t.Fatal(err)
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		taken := func(number uint64) bool {
			_, ok := p.server.DatagramTaken(up, &quicadapt.Datagram{PacketNumber: number})
			return ok
		}
		opened := func(stream uint64) bool {
			_, ok := p.server.Opened(up, stream)
			return ok
		}
		record := func(up datapath.UpstreamID, number uint64) {
			quicadapt.OnRecord(p.server, &datapath.Record{Client: p.id, Generation: p.dp.clients[p.id].space.Generation(), Upstream: up, UpstreamNumber: number,
				Reason: datapath.ReasonDropShare, Time: time.Now(), Frames: []datapath.RecordFrame{{Datagram: true, Length: 10, Reason: datapath.ReasonDropShare}}})
		}
		record(up, 3)
		if !taken(3) || !opened(2) {
			t.Fatal("the records were not read")
		}
		_ = publisher.CloseWithError(0, "")
		time.Sleep(2 * time.Second)
		if taken(3) {
			t.Error("a datagram of the next upstream counts as dropped")
		}
		if opened(2) {
			t.Error("a stream of the next upstream counts as opened")
		}
		record(up, 3)
		for n := range uint64(1023) { // as many as it remembers, with the one
			record(up+1, n)
		}
		if !taken(3) {
			t.Error("a datagram of the next upstream is forgotten too early")
		}
	})
}

// TestRepeatIsNotDropped: a publisher that sends again what the datapath has forwarded to the end, because an acknowledgment was lost, may find
// the policy's plan full. That drops nothing of the stream: it is repaired, and delivered.
func TestRepeatIsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		p.dp.lose = func() bool { return true }
		data := pattern(1000, 1)
		var id uint64
		if err := p.dp.forward(p.id, 0, 2, &id, data, 0, true); err != nil {
			t.Fatal(err)
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		repeat := p.dp.lastRecord()
		repeat.Reason, repeat.Number, repeat.Size = datapath.ReasonDropReserve, 0, 0
		repeat.Frames[0].Reason, repeat.Frames[0].Opened = datapath.ReasonDropReserve, false
		quicadapt.OnRecord(p.server, repeat)
		fast := p.server.FastStream(0, 2)
		var got *quicadapt.Outcome
		fast.OnEnd(func(o quicadapt.Outcome) { got = &o })
		if _, err := fast.Write(data); err != nil {
			t.Error(err)
		}
		if err := fast.Close(); err != nil {
			t.Error(err)
		}
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); err != nil || len(b) != len(data) {
			t.Errorf("%d bytes, %v; want %d", len(b), err, len(data))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got == nil || !got.Delivered {
			t.Errorf("outcome %+v", got)
		}
	})
}
