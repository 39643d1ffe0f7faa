package quicadapt_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// forwardStream sends pieces of a stream by the datapath, one each interval, and writes them to its sender too.
func (p *pair) forwardStream(t *testing.T, source uint64, data []byte, pieces int, interval time.Duration) {
	t.Helper()
	var id uint64
	var fast *quicadapt.FastStream
	size := len(data) / pieces
	for k := range pieces {
		err := p.dp.forward(p.id, 0, source, &id, data[k*size:(k+1)*size], uint64(k*size), k == pieces-1)
		if err != nil && k == 0 {
			t.Error(err)
			return
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		if k == 0 {
			fast = p.server.FastStream(0, source)
		}
		fast.Write(data[k*size : (k+1)*size])
		time.Sleep(interval)
	}
	fast.Close()
}

// readStreams reads n streams of a size, and returns when all are read.
func (p *pair) readStreams(t *testing.T, ctx context.Context, n, size int) {
	t.Helper()
	for i := range n {
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatalf("stream %d: %v; %+v", i, err, p.server.Stats())
		}
		if b, err := io.ReadAll(s); err != nil || len(b) != size {
			t.Fatalf("stream %d: %d bytes, %v", i, len(b), err)
		}
	}
}

// TestKeyUpdateBeforeLimit: forwarded and own packets count together, the wire's keys are updated before the limit, a stock peer
// follows, and no more than a flight is lost each time.
func TestKeyUpdateBeforeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPairWith(t, ctx, false, 0, config(), nil, func(b *quicadapt.Boundary) { quicadapt.SetKeyLimits(b, 100, 200, 1000) })
		const streams, pieces, size = 20, 50, 1000
		go func() {
			for i := range streams {
				p.forwardStream(t, uint64(2+4*i), pattern(pieces*size, uint64(i)), pieces, 2*time.Millisecond)
			}
		}()
		p.readStreams(t, ctx, streams, pieces*size)
		st := p.server.Stats()
		t.Logf("%+v", st)
		if st.KeyUpdates < streams*pieces/200 {
			t.Errorf("%d key updates for %d packets at a limit of 200", st.KeyUpdates, st.ForwardedPackets)
		}
		// A round trip is 20 ms, ten packets.
		if st.LostPackets > 10*st.KeyUpdates {
			t.Errorf("%d packets were lost in %d key updates", st.LostPackets, st.KeyUpdates)
		}
		if err := echoOnce(ctx, p.server, p.client, pattern(100_000, 1)); err != nil {
			t.Error(err)
		}
	})
}

// TestIntegrityLimit: a connection whose packets fail authentication too often is closed with AEAD_LIMIT_REACHED; before that
// they change nothing (P13).
func TestIntegrityLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		var mu sync.Mutex
		var forged []byte
		tap := func(q simnet.Packet) {
			mu.Lock()
			defer mu.Unlock()
			if u, ok := q.To.(*net.UDPAddr); ok && u.IP.Equal(net.ParseIP("10.0.0.1")) && q.Data[0]&0x80 == 0 {
				forged = append(forged[:0], q.Data...)
			}
		}
		p := newPairWith(t, ctx, false, 0, config(), tap, func(b *quicadapt.Boundary) { quicadapt.SetKeyLimits(b, 0, 0, 20) })
		send := func(n int) {
			for range n {
				mu.Lock()
				b := append([]byte(nil), forged...)
				mu.Unlock()
				b[len(b)-1] ^= 1
				p.sockets[2].WriteTo(b, p.sockets[0].LocalAddr())
			}
			time.Sleep(time.Second)
		}
		send(19)
		if err := echoOnce(ctx, p.server, p.client, pattern(1000, 1)); err != nil {
			t.Fatalf("below the limit: %v", err)
		}
		send(1)
		var te *quic.TransportError
		if err := context.Cause(p.client.Context()); !errors.As(err, &te) || te.ErrorCode != quic.AEADLimitReached {
			t.Errorf("the client's connection: %v, want %v", err, quic.AEADLimitReached)
		}
	})
}
