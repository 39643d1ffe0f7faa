package quicadapt_test

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/quicadapt"
)

// rebound is a client's socket behind a translator of addresses: after rebind, what it sends comes from another address.
type rebound struct {
	net.PacketConn
	mu    sync.Mutex
	other net.PacketConn
	in    chan received
	moved bool
	once  sync.Once
}

type received struct {
	data []byte
	from net.Addr
}

func newRebound(first, second net.PacketConn) *rebound {
	r := &rebound{PacketConn: first, other: second, in: make(chan received, 1000)}
	for _, s := range []net.PacketConn{first, second} {
		go func() {
			for {
				b := make([]byte, 1500)
				n, from, err := s.ReadFrom(b)
				if err != nil {
					r.once.Do(func() { close(r.in) })
					return
				}
				select {
				case r.in <- received{b[:n], from}:
				default:
				}
			}
		}()
	}
	return r
}

func (r *rebound) rebind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved = true
}

func (r *rebound) ReadFrom(b []byte) (int, net.Addr, error) {
	x, ok := <-r.in
	if !ok {
		return 0, nil, net.ErrClosed
	}
	return copy(b, x.data), x.from, nil
}

func (r *rebound) WriteTo(b []byte, to net.Addr) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved {
		return r.other.WriteTo(b, to)
	}
	return r.PacketConn.WriteTo(b, to)
}

func (p *pair) remote() string {
	p.dp.mu.Lock()
	defer p.dp.mu.Unlock()
	return p.dp.clients[p.id].Remote.Addr().String()
}

// TestMigration: a stock client moves to another address on purpose, in the middle of forwarded streams; the datapath follows
// when it has moved, not when it probes, and what is lost is a flight.
func TestMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		const streams, pieces, size = 10, 40, 1000
		go func() {
			for i := range streams {
				p.forwardStream(t, uint64(2+4*i), pattern(pieces*size, uint64(i)), pieces, 2*time.Millisecond)
			}
		}()
		go func() {
			time.Sleep(200 * time.Millisecond)
			tr := &quic.Transport{Conn: p.sockets[2]}
			t.Cleanup(func() { tr.Close() })
			path, err := p.client.AddPath(tr)
			if err != nil {
				t.Error(err)
				return
			}
			if err := path.Probe(ctx); err != nil {
				t.Error(err)
				return
			}
			if got := p.remote(); got != "10.0.0.2" {
				t.Errorf("a probe moved the datapath to %s", got)
			}
			if err := path.Switch(); err != nil {
				t.Error(err)
			}
		}()
		p.readStreams(t, ctx, streams, pieces*size)
		st := p.server.Stats()
		t.Logf("%+v", st)
		if got := p.remote(); got != "10.0.0.3" {
			t.Errorf("the datapath sends to %s", got)
		}
		if st.LostPackets > 15 { // 20 ms there and back at 500 packets a second
			t.Errorf("%d packets were lost in the migration", st.LostPackets)
		}
		if err := echoOnce(ctx, p.server, p.client, pattern(50_000, 1)); err != nil {
			t.Error(err)
		}
	})
}

// TestRebinding: a client that does nothing but receive what the datapath forwards gets another address on the way; the
// datapath follows when the path is validated, before quic-go has anything to send there. RTT and congestion start anew.
func TestRebinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		serverTLS, clientTLS := certificate(t)
		sockets := newNetwork(t, 5, 0, nil, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		p := &pair{dp: newScripted(sockets[0]), sockets: sockets}
		b, err := quicadapt.New(sockets[0], quicadapt.Config{Datapath: p.dp})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		ln, err := b.Listen(serverTLS, config())
		if err != nil {
			t.Fatal(err)
		}
		socket := newRebound(sockets[1], sockets[2])
		p.client = dial(t, ctx, false, socket, sockets[0].LocalAddr(), config(), clientTLS)
		if p.server, err = ln.Accept(ctx); err != nil {
			t.Fatal(err)
		}
		if err := echoOnce(ctx, p.server, p.client, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if p.id, err = p.server.Client(); err != nil {
			t.Fatal(err)
		}
		const pieces, size = 100, 1000
		go p.forwardStream(t, 2, pattern(pieces*size, 1), pieces, 2*time.Millisecond)
		time.Sleep(60 * time.Millisecond)
		grown := p.server.Stats().SmoothedRTT
		socket.rebind()
		moved := time.Now()
		for p.remote() != "10.0.0.3" {
			if time.Since(moved) > 40*time.Millisecond {
				t.Fatal("the datapath did not follow within two round trips")
			}
			time.Sleep(time.Millisecond)
		}
		if rtt := p.server.Stats().SmoothedRTT; grown == 0 || rtt != 0 {
			t.Errorf("the RTT of the old path was %v, that of the new one is %v", grown, rtt)
		}
		p.readStreams(t, ctx, 1, pieces*size)
		if err := echoOnce(ctx, p.server, p.client, pattern(50_000, 1)); err != nil {
			t.Error(err)
		}
		sockets[1].Close()
		sockets[2].Close()
	})
}

// TestRotation: a client retires connection IDs all the time, as stock clients do after many packets; the datapath always
// uses one that is valid, and what is lost is nothing.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := within(t)
		p := newPair(t, ctx, false, 0, config())
		cids := make(map[string]bool)
		const streams, pieces, size = 4, 50, 200
		go func() {
			for i := range streams {
				// quic-go takes another connection ID after some 10,000 of its own packets.
				for k := range 6 {
					if err := echoOnce(ctx, p.server, p.client, pattern(1_000_000, uint64(k))); err != nil {
						t.Error(err)
						return
					}
				}
				p.forwardStream(t, uint64(2+4*i), pattern(pieces*size, uint64(i)), pieces, time.Millisecond)
				p.dp.mu.Lock()
				cids[string(p.dp.clients[p.id].DCID)] = true
				p.dp.mu.Unlock()
			}
		}()
		p.readStreams(t, ctx, streams, pieces*size)
		time.Sleep(time.Second)
		if st := p.server.Stats(); len(cids) < 2 || st.LostPackets > 0 {
			t.Errorf("%d connection IDs, %d packets lost; %+v", len(cids), st.LostPackets, st)
		}
	})
}
