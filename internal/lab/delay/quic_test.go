package delay

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// tap is a client's socket whose packets are recorded.
type tap struct {
	net.PacketConn
	local netip.AddrPort

	mu  *sync.Mutex // of all
	all *[]capture.Packet
}

func (c *tap) record(outgoing bool, remote net.Addr, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	src, dst := c.local, remote.(*net.UDPAddr).AddrPort()
	if !outgoing {
		src, dst = dst, src
	}
	*c.all = append(*c.all, capture.Packet{Time: time.Now(), Outgoing: outgoing, Data: udpFrame(src, dst, b)})
}

func (c *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	c.record(true, to, b)
	return c.PacketConn.WriteTo(b, to)
}

func (c *tap) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if err == nil {
		c.record(false, from, b[:n])
	}
	return n, from, err
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := endpoint.SelfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// quicWorld is a relay of stock quic-go and clients of it.
type quicWorld struct {
	t        *testing.T
	ctx      context.Context
	keyLog   bytes.Buffer
	listener *quic.Listener
}

func newQUICWorld(t *testing.T, ctx context.Context, socket net.PacketConn) *quicWorld {
	w := &quicWorld{t: t, ctx: ctx}
	conf := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{wire.ALPNDraft16}}
	l, err := quic.Listen(socket, conf, nil)
	w.must(err)
	t.Cleanup(func() { l.Close() })
	w.listener = l
	return w
}

func (w *quicWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// connect connects a client, and returns both ends and the relay's and the client's end of stream 0.
func (w *quicWorld) connect(v quic.Version, socket net.PacketConn, to net.Addr) (client, server *quic.Conn, c0, s0 *quic.Stream) {
	w.t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{wire.ALPNDraft16}, KeyLogWriter: &w.keyLog}
	client, err := quic.Dial(w.ctx, socket, to, conf, &quic.Config{Versions: []quic.Version{v}})
	w.must(err)
	server, err = w.listener.Accept(w.ctx)
	w.must(err)
	c0, err = client.OpenStreamSync(w.ctx)
	w.must(err)
	_, err = c0.Write([]byte{wire.MsgMaxRequestID, 0, 1, 9}) // without data the stream does not exist for the other side
	w.must(err)
	s0, err = server.AcceptStream(w.ctx)
	w.must(err)
	return client, server, c0, s0
}

// subscribe lets asker subscribe to the track, and waits until the answer is there.
func (w *quicWorld) subscribe(asker, answerer *quic.Stream, alias uint64, skip int) {
	w.t.Helper()
	ask, answer := subscribe(wire.Draft16, 0, "video"), subscribeOK(wire.Draft16, 0, alias)
	_, err := asker.Write(ask)
	w.must(err)
	_, err = io.ReadFull(answerer, make([]byte, len(ask)))
	w.must(err)
	_, err = answerer.Write(answer)
	w.must(err)
	_, err = io.ReadFull(asker, make([]byte, skip+len(answer)))
	w.must(err)
}

// TestQUIC measures a relay of stock quic-go with real encryption; with version 1 long enough for key updates. quic-go
// v0.64.1 uses the label of version 1 for key updates of version 2, too, which RFC 9369 (section 3.3.2) has another for.
func TestQUIC(t *testing.T) {
	t.Run("v1", func(t *testing.T) { testQUIC(t, quic.Version1, 4, 100_000) })
	t.Run("v2", func(t *testing.T) { testQUIC(t, quic.Version2, 2, 20_000) })
}

func testQUIC(t *testing.T, v quic.Version, streams, size int) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // of the tap, which is no UDP socket
	var mu sync.Mutex
	in := &Input{Draft: wire.Draft16}
	listen := func(all *[]capture.Packet) net.PacketConn {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		if all == nil {
			return pc
		}
		return &tap{PacketConn: pc, local: pc.LocalAddr().(*net.UDPAddr).AddrPort(), mu: &mu, all: all}
	}
	w := newQUICWorld(t, ctx, listen(nil))
	const subscribers = 3
	var subs []net.PacketConn
	for range subscribers {
		subs = append(subs, listen(&in.Subscriber))
	}
	w.run(v, streams, size, listen(&in.Publisher), w.listener.Addr(), subs, w.listener.Addr())
	mu.Lock()
	defer mu.Unlock()
	in.KeyLog = w.keyLog.Bytes()
	checkQUIC(t, in, uint64(streams*(size+header)), subscribers)
}

// run lets the publisher send streams through the relay to subscribers, one stream after the other.
func (w *quicWorld) run(v quic.Version, streams, size int, publisher net.PacketConn, toPub net.Addr, subscribers []net.PacketConn, toSub net.Addr) {
	w.t.Helper()
	t, ctx := w.t, w.ctx
	pub, upstream, p0, u0 := w.connect(v, publisher, toPub)
	w.subscribe(u0, p0, pubAlias, 4) // after MAX_REQUEST_ID
	aliases := []uint64{3, 300, 70000}
	var subs, downstreams []*quic.Conn
	for i, socket := range subscribers {
		sub, downstream, c0, s0 := w.connect(v, socket, toSub)
		_, err := io.ReadFull(s0, make([]byte, 4))
		w.must(err)
		w.subscribe(c0, s0, aliases[i], 0)
		subs, downstreams = append(subs, sub), append(downstreams, downstream)
	}
	content := make([]byte, size)
	rand.Read(content)
	for g := range streams {
		out, err := pub.OpenUniStreamSync(ctx)
		w.must(err)
		go func() {
			out.Write(stream(wire.Draft16, pubAlias, uint64(g), 0, wire.SubgroupZero, content))
			out.Close()
		}()
		from, err := upstream.AcceptUniStream(ctx)
		w.must(err)
		var done sync.WaitGroup
		data, err := io.ReadAll(from)
		w.must(err)
		for i := range subs {
			to, err := downstreams[i].OpenUniStreamSync(ctx)
			w.must(err)
			done.Go(func() {
				h, err := wire.ParseSubgroupHeader(data, wire.Draft16)
				if err == nil {
					_, err = to.Write(append(wire.RewriteAlias(nil, data, &h, aliases[i]), data[h.Len:]...))
				}
				if err != nil {
					t.Error(err)
				}
				to.Close()
			})
			back, err := subs[i].AcceptUniStream(ctx)
			w.must(err)
			n, err := io.Copy(io.Discard, back)
			if err != nil || n < int64(size) {
				t.Fatalf("subscriber read %d bytes: %v", n, err)
			}
		}
		done.Wait()
	}
}

func checkQUIC(t *testing.T, in *Input, bytesEach uint64, subscribers int) {
	t.Helper()
	r, err := Analyze(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if len(r.Subscribers) != subscribers || r.Total.N != uint64(subscribers)*bytesEach {
		t.Errorf("%d bytes at %d subscribers, want %d at %d", r.Total.N, len(r.Subscribers), uint64(subscribers)*bytesEach, subscribers)
	}
	for _, s := range r.Subscribers {
		if s.Missing != 0 || s.Delay.P50 <= 0 || s.Delay.Max < s.Delay.P99 {
			t.Errorf("%s: %d missing, %+v", s.Name, s.Missing, s.Delay)
		}
		for _, p := range s.Points {
			if p.Delay <= 0 {
				t.Errorf("%s: bytes arrive %v before they left", s.Name, -p.Delay)
				break
			}
		}
	}
	// Of a key log that lacks a connection nothing can be read, and the result says so.
	in.KeyLog = in.KeyLog[bytes.LastIndexByte(in.KeyLog[:len(in.KeyLog)/2], '\n')+1:]
	if r, err = Analyze(in); err != nil || r.Err() == nil {
		t.Errorf("with half of the key log: errors %v, %v", err, r.Err())
	}
}
