package quicadapt_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// TestRepairDelay: with 2 % of the forwarded packets lost, and repairs too, every byte arrives, and half of the repairs start
// within 1.5 RTT of when the lost packet was sent.
func TestRepairDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0.02, config())
		rnd := rand.New(rand.NewPCG(3, 3))
		p.dp.lose = func() bool { return rnd.Float64() < 0.02 }
		const streams, pieces, size = 40, 25, 1000
		go func() {
			for i := range streams {
				data := pattern(pieces*size, uint64(i))
				source := uint64(2 + 4*i)
				var id uint64
				var fast *quicadapt.FastStream
				for k := range pieces {
					if p.dp.forward(p.id, 0, source, &id, data[k*size:(k+1)*size], uint64(k*size), k == pieces-1) != nil && k == 0 {
						break
					}
					p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
					if k == 0 {
						fast = p.server.FastStream(0, source)
					}
					fast.Write(data[k*size : (k+1)*size])
					time.Sleep(4 * time.Millisecond)
				}
				if fast != nil {
					fast.Close()
				} else {
					s, err := p.server.OpenUniStreamSync(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					s.Write(data)
					s.Close()
				}
			}
		}()
		for range streams {
			s, err := p.client.AcceptUniStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(s); err != nil || len(b) != pieces*size {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
		}
		st := p.server.Stats()
		t.Logf("%+v", st)
		if st.RepairDelay.Count < 10 || st.LostPackets < 10 {
			t.Errorf("%d repairs of %d lost packets", st.RepairDelay.Count, st.LostPackets)
		}
		if half := st.RepairDelayRTT.Quantile(.5); half > 150 {
			t.Errorf("half of the repairs start within %d hundredths of an RTT, want 150", half)
		}
	})
}

// TestDeadline: a stream is reset with the caller's code when an object of it, of two, is still to be sent when it stops being useful. What was delivered
// does not count, nor does how old the stream is.
func TestDeadline(t *testing.T) {
	const soon, later = 15 * time.Millisecond, 10 * time.Second
	for _, tc := range []struct {
		name   string
		lost   [2]bool
		useful [2]time.Duration
		reset  bool
	}{
		{"delivered in time", [2]bool{}, [2]time.Duration{100 * time.Millisecond, 100 * time.Millisecond}, false},
		{"lost, and repaired in time", [2]bool{false, true}, [2]time.Duration{later, later}, false},
		{"lost, and late", [2]bool{false, true}, [2]time.Duration{soon, soon}, true},
		{"the first lost, and late", [2]bool{true, false}, [2]time.Duration{soon, later}, true},
		{"the second lost, the first would be late", [2]bool{false, true}, [2]time.Duration{soon, later}, false},
		{"the second without a deadline", [2]bool{false, true}, [2]time.Duration{soon, 0}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := within(t)
				p := newPair(t, ctx, false, 0, config())
				var id uint64
				data := pattern(2000, 1)
				for i := range 2 {
					p.dp.lose = func() bool { return tc.lost[i] }
					if err := p.dp.forward(p.id, 0, 2, &id, data[1000*i:1000*(i+1)], 1000*uint64(i), i == 1); err != nil {
						t.Fatal(err)
					}
				}
				p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
				fast := p.server.FastStream(0, 2)
				fast.Write(data[:10])
				for i, useful := range tc.useful {
					if useful > 0 {
						fast.SetDeadline(uint64(1000*(i+1))-10, time.Now().Add(useful), 9)
					}
				}
				fast.Write(data[10:])
				fast.Close()
				s, err := p.client.AcceptUniStream(ctx)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(s)
				var se *quic.StreamError
				if reset := errors.As(err, &se); reset != tc.reset || reset && se.ErrorCode != 9 || !reset && len(b) != len(data) {
					t.Fatalf("%d bytes, %v; reset wanted: %v", len(b), err, tc.reset)
				}
				time.Sleep(time.Second)
				if err := echoOnce(ctx, p.server, p.client, pattern(5000, 1)); err != nil {
					t.Errorf("after that: %v", err) // the final size was right
				}
			})
		})
	}
}

// TestIdleClientCostsNothing: a client that joined the datapath and is idle costs no packets but quic-go's keep-alives, of
// which there are none here.
func TestIdleClientCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		var packets atomic.Int64
		serverTLS, clientTLS := certificate(t)
		sockets := newNetwork(t, 1, 0, func(simnet.Packet) { packets.Add(1) }, "10.0.0.1", "10.0.0.2")
		dp := newScripted(sockets[0])
		b, err := quicadapt.New(sockets[0], quicadapt.Config{Datapath: dp})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		conf := config()
		conf.MaxIdleTimeout = 10 * time.Minute
		ln, err := b.Listen(serverTLS, conf)
		if err != nil {
			t.Fatal(err)
		}
		client := dial(t, ctx, false, sockets[1], sockets[0].LocalAddr(), conf, clientTLS)
		server, err := ln.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := echoOnce(ctx, server, client, pattern(100_000, 1)); err != nil {
			t.Fatal(err)
		}
		id, err := server.Client()
		if err != nil {
			t.Fatal(err)
		}
		var stream uint64
		data := pattern(1000, 1)
		if err := dp.forward(id, 0, 2, &stream, data, 0, true); err != nil {
			t.Fatal(err)
		}
		dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(server, r) })
		fast := server.FastStream(0, 2)
		fast.Write(data)
		fast.Close()
		time.Sleep(10 * time.Second)
		before := packets.Load()
		time.Sleep(time.Minute)
		if n := packets.Load() - before; n > 0 {
			t.Errorf("%d packets in a minute", n)
		}
	})
}
