package quicadapt_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// pair is a stock or null client and a server with a scripted datapath.
type pair struct {
	dp     *scripted
	server *quicadapt.Conn
	client *quic.Conn
	id     datapath.ClientID

	sockets   []net.PacketConn // of server and client, and one that is free
	listener  *quicadapt.Listener
	clientTLS *tls.Config
}

func newPair(t *testing.T, ctx context.Context, null bool, loss float64, clientConf *quic.Config) *pair {
	t.Helper()
	return newPairWith(t, ctx, null, loss, clientConf, nil, func(*quicadapt.Boundary) {})
}

// newPairWith sees the packets of the network, and changes the server's boundary before there are connections.
func newPairWith(t *testing.T, ctx context.Context, null bool, loss float64, clientConf *quic.Config, tap func(simnet.Packet), change func(*quicadapt.Boundary)) *pair {
	t.Helper()
	serverTLS, clientTLS := certificate(t)
	sockets := newNetwork(t, 5, loss, tap, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	p := &pair{dp: newScripted(sockets[0]), sockets: sockets, clientTLS: clientTLS}
	b, err := quicadapt.New(sockets[0], quicadapt.Config{Null: null, Datapath: p.dp})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	change(b)
	ln, err := b.Listen(serverTLS, config())
	if err != nil {
		t.Fatal(err)
	}
	p.listener = ln
	p.client = dial(t, ctx, null, sockets[1], sockets[0].LocalAddr(), clientConf, clientTLS)
	if p.server, err = ln.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	// A first exchange, as every protocol has it.
	if err := echoOnce(ctx, p.server, p.client, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if p.id, err = p.server.Client(); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestForwardedStreams interleaves streams that a datapath sends with streams of quic-go to a stock peer, over key updates
// and with loss on the way, and checks every byte of every stream.
func TestForwardedStreams(t *testing.T) {
	for _, tc := range []struct {
		name string
		null bool
		loss float64 // of everything on the network
		lost float64 // of forwarded packets besides
		skip float64 // pieces that the datapath does not send at all
	}{
		{"clean", false, 0, 0, 0},
		{"null wire", true, 0, 0, 0},
		{"holes", false, 0, 0, 0.2},
		{"forwarded packets are lost", false, 0, 0.1, 0},
		{"everything is lossy", false, 0.03, 0.02, 0.1},
		{"everything is lossy on the null wire", true, 0.03, 0.02, 0.1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := within(t)
				p := newPair(t, ctx, tc.null, tc.loss, config())
				rnd := rand.New(rand.NewPCG(9, 9))
				p.dp.lose = func() bool { return rnd.Float64() < tc.lost }
				const streams, pieces, size = 150, 6, 1000
				want := make(map[string]int) // contents of streams
				go func() {
					for i := range streams {
						data := pattern(pieces*size, uint64(i))
						source := uint64(2 + 4*i)
						var id uint64
						fast := false
						for k := range pieces {
							if k > 0 && (!fast || rnd.Float64() < tc.skip) {
								continue
							}
							piece := data[k*size : (k+1)*size]
							err := p.dp.forward(p.id, 0, source, &id, piece, uint64(k*size), k == pieces-1)
							if k == 0 {
								fast = err == nil
							}
						}
						time.Sleep(2 * time.Millisecond) // the upstream's packets come in, and records are drained
						var w io.WriteCloser
						p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
						if s := p.server.FastStream(0, source); s != nil {
							w = s
						} else {
							s, err := p.server.OpenUniStreamSync(ctx)
							if err != nil {
								t.Error(err)
								return
							}
							w = s
						}
						for k := range pieces {
							if _, err := w.Write(data[k*size : (k+1)*size]); err != nil {
								t.Errorf("stream %d: %v", i, err)
							}
						}
						if err := w.Close(); err != nil {
							t.Errorf("stream %d: %v", i, err)
						}
					}
				}()
				for i := range streams {
					want[string(pattern(pieces*size, uint64(i)))] = i
				}
				got := make(chan []byte, streams)
				for range streams {
					s, err := p.client.AcceptUniStream(ctx)
					if err != nil {
						t.Fatalf("after %d streams: %v; %+v", len(got), err, p.server.Stats())
					}
					go func() {
						b, err := io.ReadAll(s)
						if err != nil {
							t.Errorf("stream %d: %v", s.StreamID(), err)
						}
						got <- b
					}()
				}
				for range streams {
					select {
					case b := <-got:
						if _, ok := want[string(b)]; !ok {
							t.Fatalf("a stream of %d bytes is not one that was sent", len(b))
						}
						delete(want, string(b))
					case <-ctx.Done():
						t.Fatalf("%d streams hang; %+v", len(want), p.server.Stats())
					}
				}
				if err := echoOnce(ctx, p.server, p.client, pattern(200_000, 1)); err != nil {
					t.Fatalf("quic-go's own streams: %v", err)
				}
				st := p.server.Stats()
				t.Logf("%+v", st)
				if st.FastStreams < streams/2 {
					t.Errorf("only %d of %d streams were fast", st.FastStreams, streams)
				}
				// A key update may cost what is forwarded until the datapath has the new keys.
				if tc.skip+tc.lost+tc.loss == 0 && (st.RepairBytes > 0 || st.LostPackets > pieces) {
					t.Errorf("repairs without need: %+v", st)
				}
				if err := context.Cause(p.client.Context()); err != nil {
					t.Errorf("connection: %v", err)
				}
			})
		})
	}
}

// TestFlowControl forwards more than the peer's windows allow: what the datapath may not send comes when there is credit.
func TestFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		conf := config()
		conf.InitialStreamReceiveWindow, conf.MaxStreamReceiveWindow = 8<<10, 8<<10
		conf.InitialConnectionReceiveWindow, conf.MaxConnectionReceiveWindow = 64<<10, 64<<10
		conf.MaxIncomingUniStreams = 3
		p := newPair(t, ctx, false, 0, conf)
		const streams, size = 40, 20_000
		go func() {
			for i := range streams {
				data := pattern(size, uint64(i))
				var id uint64
				for off := 0; off < size; off += 1000 {
					if p.dp.forward(p.id, 0, uint64(4*i+2), &id, data[off:off+1000], uint64(off), off+1000 == size) != nil && off == 0 {
						break
					}
				}
				time.Sleep(time.Millisecond)
				p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
				var w io.WriteCloser
				if s := p.server.FastStream(0, uint64(4*i+2)); s != nil {
					w = s
				} else {
					s, err := p.server.OpenUniStreamSync(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					w = s
				}
				w.Write(data)
				w.Close()
			}
		}()
		// Streams are read side by side: quic-go accepts an idle reserved stream along with one of a higher ID.
		got := make(chan []byte, streams)
		for i := range streams {
			s, err := p.client.AcceptUniStream(ctx)
			if err != nil {
				t.Fatalf("stream %d: %v; %+v", i, err, p.server.Stats())
			}
			go func() {
				b, err := io.ReadAll(s)
				if err != nil {
					t.Errorf("stream %d: %v", s.StreamID(), err)
				}
				got <- b
			}()
		}
		seen := make(map[int]bool)
		for range streams {
			b := <-got
			for k := range streams {
				if bytes.Equal(b, pattern(size, uint64(k))) {
					seen[k] = true
				}
			}
		}
		if len(seen) != streams {
			t.Errorf("%d of %d streams are as they were sent", len(seen), streams)
		}
		t.Logf("%+v", p.server.Stats())
	})
}

// TestStopSending: the subscriber's STOP_SENDING of a forwarded stream ends it with the right final size, and only it.
func TestStopSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		var id uint64
		if err := p.dp.forward(p.id, 0, 2, &id, pattern(1000, 1), 0, false); err != nil {
			t.Fatal(err)
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		fast := p.server.FastStream(0, 2)
		fast.Write(pattern(1000, 1))
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.CancelRead(7)
		time.Sleep(time.Second)
		if _, err := fast.Write(pattern(10, 2)); err == nil {
			t.Error("a stopped stream takes data")
		}
		if err := p.dp.forward(p.id, 0, 2, &id, pattern(1000, 1), 1000, false); err != nil {
			t.Log("the datapath cannot go on either:", err)
		}
		if err := echoOnce(ctx, p.server, p.client, pattern(5000, 1)); err != nil {
			t.Fatal(err)
		}
		if err := context.Cause(p.client.Context()); err != nil {
			t.Errorf("connection: %v", err)
		}
	})
}

// TestReset resets a stream that was forwarded in part.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		var id uint64
		if err := p.dp.forward(p.id, 0, 2, &id, pattern(1000, 1), 0, false); err != nil {
			t.Fatal(err)
		}
		p.dp.Drain(func(r *datapath.Record) { quicadapt.OnRecord(p.server, r) })
		p.server.FastStream(0, 2).Reset(42)
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(s)
		var se *quic.StreamError
		if !asStreamError(err, &se) || se.ErrorCode != 42 {
			t.Fatalf("read: %v, want a reset with 42", err)
		}
		time.Sleep(2 * time.Second)
		p.dp.mu.Lock()
		defer p.dp.mu.Unlock()
		if len(p.dp.evicted) != 1 {
			t.Errorf("evicted %v, want the one stream", p.dp.evicted)
		}
	})
}

// TestUnclaimedStreamIsReset: a stream whose subscription ended before the relay asked for it does not hang.
func TestUnclaimedStreamIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		var id uint64
		if err := p.dp.forward(p.id, 0, 2, &id, pattern(1000, 1), 0, false); err != nil {
			t.Fatal(err)
		}
		s, err := p.client.AcceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(s)
		var reset *quic.StreamError
		if !asStreamError(err, &reset) || !reset.Remote || reset.ErrorCode != 1 {
			t.Errorf("a stream that nobody writes ended with %v", err)
		}
	})
}

// TestConnectionsLeaveNothing opens and closes connections and looks at what the boundary still knows.
func TestConnectionsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		serverTLS, clientTLS := certificate(t)
		sockets := newNetwork(t, 5, 0, nil, "10.0.0.1", "10.0.0.2")
		dp := newScripted(sockets[0])
		b, err := quicadapt.New(sockets[0], quicadapt.Config{Datapath: dp})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		ln, err := b.Listen(serverTLS, config())
		if err != nil {
			t.Fatal(err)
		}
		tr := &quic.Transport{Conn: sockets[1]}
		defer tr.Close()
		for i := range 20 {
			c, err := tr.Dial(ctx, sockets[0].LocalAddr(), clientTLS, config())
			if err != nil {
				t.Fatal(err)
			}
			s, err := ln.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := echoOnce(ctx, s, c, []byte(fmt.Sprint("hello ", i))); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Client(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Upstream(); err != nil {
				t.Fatal(err)
			}
			c.CloseWithError(0, "")
			<-s.Context().Done()
		}
		time.Sleep(5 * time.Second)
		dp.mu.Lock()
		defer dp.mu.Unlock()
		if n := quicadapt.Known(b); n != 0 {
			t.Errorf("%d things are still known of connections that have ended", n)
		}
		if len(dp.clients) != 0 {
			t.Errorf("%d clients are left in the datapath", len(dp.clients))
		}
	})
}
