package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

func sample(t *testing.T, l media.Layout) *media.Clip {
	t.Helper()
	c, err := media.Open(filepath.Join("..", "media", "sample", "sample.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	c.SetLayout(l)
	return c
}

// network returns the sockets of two hosts that are latency apart.
func network(t *testing.T, latency time.Duration) (client, server *simnet.SimConn) {
	t.Helper()
	n := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
	link := simnet.NodeBiDiLinkSettings{
		Downlink: simnet.LinkSettings{MTU: 1500}, Uplink: simnet.LinkSettings{MTU: 1500}, Latency: latency,
	}
	client = n.NewEndpoint(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1000}, link)
	server = n.NewEndpoint(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 2000}, link)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return client, server
}

// direct runs a publisher that has dialed a subscriber, with nothing between them.
// The publisher is stopped when ctx ends.
func direct(ctx context.Context, t *testing.T, d wire.Draft, pc PublishConfig, sc SubscribeConfig) (*Published, *Received) {
	t.Helper()
	client, server := network(t, 10*time.Millisecond)
	cert, err := SelfSigned(time.Now(), net.IPv4(10, 0, 0, 2))
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: server}
	ln, err := tr.Listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{d.ALPN()}}, quicConfig(DefaultTimeout))
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		r   *Received
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := accept(t.Context(), ln, d, sc)
		done <- result{r, err}
	}()
	tc, err := Trust{CA: PEM(cert)}.TLS("10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := Dial(t.Context(), DialConfig{Addr: server.LocalAddr(), TLS: tc, Draft: d, PacketConn: client})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Publish(ctx, conn, pc)
	if err != nil {
		t.Error("publish:", err)
	}
	got := <-done
	if got.err != nil {
		t.Error("subscribe:", got.err)
	}
	if err := errors.Join(conn.Close(), ln.Close(), tr.Close(), server.Close()); err != nil {
		t.Error(err)
	}
	return p, got.r
}

// accept is Subscribe for a connection that the publisher has dialed.
func accept(ctx context.Context, ln *quic.Listener, d wire.Draft, sc SubscribeConfig) (*Received, error) {
	qc, err := ln.Accept(ctx)
	if err != nil {
		return nil, err
	}
	announced := make(chan struct{}, 1)
	s, err := moq.Accept(ctx, qc, moq.Handlers{Announce: func([]string) error {
		announced <- struct{}{}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	<-announced
	sub := newSubscriber(&Conn{quic: qc, moq: qc, draft: d}, s, sc.withDefaults())
	err = sub.run(ctx)
	sub.unsubscribe()
	sub.stop()
	return sub.result(err)
}

func TestPublishAndSubscribe(t *testing.T) {
	for _, tt := range []struct {
		name   string
		draft  wire.Draft
		layout media.Layout
		pc     PublishConfig
	}{
		{"draft16 per frame", wire.Draft16, media.PerFrame, PublishConfig{}},
		{"draft14 per layer", wire.Draft14, media.PerLayer, PublishConfig{}},
		{"draft16 datagrams", wire.Draft16, media.PerFrame, PublishConfig{AudioDatagrams: true}},
		{"draft14 datagrams", wire.Draft14, media.PerFrame, PublishConfig{AudioDatagrams: true, Limit: 3 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clip := sample(t, tt.layout)
			file := filepath.Join(t.TempDir(), "out.mp4")
			synctest.Test(t, func(t *testing.T) {
				tt.pc.Clip = clip
				begin := time.Now()
				p, r := direct(t.Context(), t, tt.draft, tt.pc, SubscribeConfig{File: file})
				if t.Failed() {
					return
				}
				c := Compare(p, []*Received{r})
				if !c.Complete() || c.Published != c.Expected {
					t.Errorf("comparison %+v, violations %q", c, r.Violations)
				}
				want := len(schedule(append(clip.Tracks, clip.CatalogTrack()), 0, tt.pc.Limit))
				if c.Published != want {
					t.Errorf("published %d objects, want %d", c.Published, want)
				}
				// A start delay and the clip in real time, with a second to linger.
				length := clip.Duration
				if tt.pc.Limit > 0 {
					length = tt.pc.Limit
				}
				if took := time.Since(begin); took < length || took > length+3*time.Second {
					t.Errorf("took %v for %v of media", took, length)
				}
				checkDelays(t, p, r)
				var datagrams int
				for _, o := range r.Objects {
					if o.Datagram {
						datagrams++
					}
				}
				if (datagrams > 0) != tt.pc.AudioDatagrams {
					t.Errorf("%d objects came in datagrams", datagrams)
				}
			})
			if _, err := media.Verify(file); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkDelays wants every object within a few round trips of being sent: nothing waits for what follows it.
func checkDelays(t *testing.T, p *Published, r *Received) {
	t.Helper()
	sent := make(map[objectKey]time.Time)
	for _, o := range p.Objects {
		sent[objectKey{o.Track, o.Group, o.ID}] = o.Time
	}
	for _, o := range r.Objects {
		if d := o.Time.Sub(sent[objectKey{o.Track, o.Group, o.ID}]); d < 10*time.Millisecond || d > 100*time.Millisecond {
			t.Errorf("%s group %d object %d took %v", o.Track, o.Group, o.ID, d)
		}
	}
}

func TestPublishLoop(t *testing.T) {
	clip := sample(t, media.PerFrame)
	file := filepath.Join(t.TempDir(), "out.mp4")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*clip.Duration+clip.Duration/2)
		defer cancel()
		p, r := direct(ctx, t, wire.Draft16, PublishConfig{Clip: clip, Loop: true}, SubscribeConfig{File: file})
		if t.Failed() {
			return
		}
		if !p.Stopped {
			t.Error("the publisher does not say that it was stopped")
		}
		first := clip.Tracks[0].Objects
		groups := make(map[uint64]bool)
		for _, o := range r.Objects {
			if o.Track == clip.Tracks[0].Name {
				groups[o.Group] = true
			}
		}
		perRound := first[len(first)-1].Group + 1
		for g := range 2*perRound + 1 {
			if !groups[g] {
				t.Errorf("no object of group %d", g)
			}
		}
	})
	rep, err := media.Verify(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range rep.Tracks {
		if tr.End-tr.Start < 2*clip.Duration {
			t.Errorf("%s is %v long: the times of the second round do not go on", tr.Kind, tr.End-tr.Start)
		}
	}
}
