package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// site is a relay on a simulated network.
type site struct {
	t     *testing.T
	net   *simnet.Simnet
	relay *relay.Relay
	addr  net.Addr
	trust Trust
	null  bool
	hosts []*simnet.SimConn // not used yet
	done  sync.WaitGroup
}

func newSite(t *testing.T, fast, null bool) *site {
	t.Helper()
	s := &site{t: t, net: &simnet.Simnet{Router: &simnet.PerfectRouter{}}, null: null}
	link := simnet.NodeBiDiLinkSettings{
		Downlink: simnet.LinkSettings{MTU: 1500}, Uplink: simnet.LinkSettings{MTU: 1500}, Latency: 5 * time.Millisecond,
	}
	for i := range byte(5) { // all that a test needs: none can be added later
		addr := &net.UDPAddr{IP: net.IPv4(10, 0, 0, i+1), Port: 4001 + int(i)}
		s.hosts = append(s.hosts, s.net.NewEndpoint(addr, link))
	}
	var pc net.PacketConn = s.host()
	s.addr = pc.LocalAddr()
	if err := s.net.Start(); err != nil {
		t.Fatal(err)
	}
	cert, err := SelfSigned(time.Now(), s.addr.(*net.UDPAddr).IP)
	if err != nil {
		t.Fatal(err)
	}
	s.trust = Trust{CA: PEM(cert)}
	cfg := relay.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Null: null}
	socket := pc
	if fast {
		dp := sim.New(sim.Config{})
		t.Cleanup(func() {
			if err := dp.Close(); err != nil {
				t.Error(err)
			}
		})
		cfg.Datapath, pc = dp, dp.Wrap(pc)
	}
	cfg.Conn = pc
	if s.relay, err = relay.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.done.Go(func() {
		if err := s.relay.Serve(context.Background()); !errors.Is(err, relay.ErrClosed) {
			t.Error("serve:", err)
		}
	})
	t.Cleanup(func() {
		err := s.relay.Close()
		_ = socket.Close() // the boundary may have closed it
		s.done.Wait()
		if err := errors.Join(err, s.net.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// host returns the socket of the next host.
func (s *site) host() *simnet.SimConn {
	h := s.hosts[0]
	s.hosts = s.hosts[1:]
	return h
}

func (s *site) dial(d wire.Draft) *Conn {
	s.t.Helper()
	c, err := s.tryDial(d)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *site) tryDial(d wire.Draft) (*Conn, error) {
	tc, err := s.trust.TLS("10.0.0.1")
	if err != nil {
		return nil, err
	}
	return Dial(context.Background(), DialConfig{Addr: s.addr, TLS: tc, Draft: d, Null: s.null, PacketConn: s.host()})
}

type publishResult struct {
	p   *Published
	err error
}

// publish starts a publisher and returns when its namespace is announced.
func (s *site) publish(ctx context.Context, conn *Conn, cfg PublishConfig) <-chan publishResult {
	announced, out := make(chan struct{}), make(chan publishResult, 1)
	cfg.OnAnnounced = func() { close(announced) }
	s.done.Go(func() {
		p, err := Publish(ctx, conn, cfg)
		out <- publishResult{p, err}
	})
	<-announced
	return out
}

// TestThroughRelay sends the clip to three subscribers who come together, in all modes. On an idle machine, which virtual time
// makes of any, nearly all of it takes the fast path.
func TestThroughRelay(t *testing.T) {
	clip := sample(t, media.PerFrame)
	layers := sample(t, media.PerLayer)
	for _, tt := range []struct {
		fast, null bool
		draft      wire.Draft
		clip       *media.Clip
		datagrams  bool
	}{
		{fast: false, draft: wire.Draft16, clip: clip},
		{fast: true, draft: wire.Draft16, clip: clip},
		{fast: true, draft: wire.Draft14, clip: layers},
		{fast: true, null: true, draft: wire.Draft16, clip: clip, datagrams: true},
		{fast: false, null: true, draft: wire.Draft14, clip: layers, datagrams: true},
	} {
		t.Run(fmt.Sprintf("fast=%v null=%v %v datagrams=%v", tt.fast, tt.null, tt.draft, tt.datagrams), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, tt.fast, tt.null)
				pub := s.dial(tt.draft)
				defer pub.Close()
				published := s.publish(t.Context(), pub, PublishConfig{Clip: tt.clip, Limit: 5 * time.Second, AudioDatagrams: tt.datagrams})
				received := make([]*Received, 3)
				var wg sync.WaitGroup
				for i := range received {
					conn := s.dial(tt.draft)
					defer conn.Close()
					wg.Go(func() {
						var err error
						if received[i], err = Subscribe(t.Context(), conn, SubscribeConfig{Subscriber: i}); err != nil {
							t.Error("subscribe:", err)
						}
					})
				}
				wg.Wait()
				p := <-published
				if p.err != nil {
					t.Fatal("publish:", p.err)
				}
				c := Compare(p.p, received)
				if !c.Complete() || c.Expected != 3*c.Published {
					t.Errorf("%+v", c)
				}
				media := uint64(0)
				for _, r := range received {
					media += r.WireBytes
					if len(r.Violations) > 0 {
						t.Errorf("violations: %q", r.Violations)
					}
				}
				st := s.relay.Stats()
				share := float64(st.Boundary.ForwardedBytes) / float64(media)
				t.Logf("the datapath was first to send %.4f of %d bytes; %v", share, media, st.Reasons)
				if want := 0.95; tt.fast && share < want || !tt.fast && share > 0 {
					t.Errorf("the datapath was first to send %.4f of the bytes, want %v or more with it and 0 without: %v", share, want, st.Reasons)
				}
			})
		})
	}
}

// TestJoinLater subscribes in the middle of the clip and wants whole groups of all tracks from one group on.
func TestJoinLater(t *testing.T) {
	clip := sample(t, media.PerFrame)
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, true, false)
		pub := s.dial(wire.Draft16)
		defer pub.Close()
		published := s.publish(t.Context(), pub, PublishConfig{Clip: clip})
		first := s.dial(wire.Draft16)
		defer first.Close()
		var received [2]*Received
		var wg sync.WaitGroup
		wg.Go(func() { received[0], _ = Subscribe(t.Context(), first, SubscribeConfig{}) })
		// Between two catalogs: these come half a start delay before their group.
		<-time.After(DefaultStartDelay + clip.Groups[1] + 200*time.Millisecond)
		late := s.dial(wire.Draft16)
		defer late.Close()
		var err error
		if received[1], err = Subscribe(t.Context(), late, SubscribeConfig{Subscriber: 1}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		p := <-published
		c := Compare(p.p, received[:])
		if !c.Complete() || c.Expected <= c.Published || c.Expected >= 2*c.Published {
			t.Errorf("%+v", c)
		}
		for _, tr := range received[1].Tracks {
			if tr.FirstGroup != 2 {
				t.Errorf("%s starts with group %d, want 2", tr.Track, tr.FirstGroup)
			}
		}
	})
}

// TestOtherCipher: the handshake comes about, as it is never without protection, and then nobody understands the other. It ends with Timeout.
func TestOtherCipher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, false, false)
		s.null = true // the clients alone
		for _, try := range []func(c *Conn) error{
			func(c *Conn) error {
				_, err := Publish(context.Background(), c, PublishConfig{Namespace: "a", Clip: sample(t, media.PerFrame)})
				return err
			},
			func(c *Conn) error {
				_, err := Subscribe(context.Background(), c, SubscribeConfig{Namespace: "a"})
				return err
			},
		} {
			start := time.Now()
			c := s.dial(wire.Draft16)
			err := try(c)
			if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "same --cipher") || took > DefaultTimeout+time.Second {
				t.Errorf("after %v: %v", took, err)
			}
			_ = c.Close() // it has failed
		}
	})
}

// TestEnds is about what ends before its time.
func TestEnds(t *testing.T) {
	clip := sample(t, media.PerFrame)
	t.Run("unknown namespace", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, false, false)
			conn := s.dial(wire.Draft16)
			defer conn.Close()
			if _, err := Subscribe(t.Context(), conn, SubscribeConfig{Namespace: "not/there"}); err == nil || errors.Is(err, ErrRelayGone) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("unknown track", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, false, false)
			ctx, cancel := context.WithCancel(t.Context())
			pub := s.dial(wire.Draft16)
			defer pub.Close()
			published := s.publish(ctx, pub, PublishConfig{Clip: clip})
			conn := s.dial(wire.Draft16)
			defer conn.Close()
			if _, err := Subscribe(t.Context(), conn, SubscribeConfig{Tracks: []string{"smell"}}); err == nil {
				t.Error("no error")
			}
			cancel()
			if p := <-published; p.err != nil || !p.p.Stopped {
				t.Errorf("publisher: %+v", p)
			}
		})
	})
	t.Run("relay gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, false, false)
			pub := s.dial(wire.Draft16)
			defer pub.Close()
			published := s.publish(t.Context(), pub, PublishConfig{Clip: clip})
			conn := s.dial(wire.Draft16)
			defer conn.Close()
			time.AfterFunc(4*time.Second, func() { _ = s.relay.Close() })
			r, err := Subscribe(t.Context(), conn, SubscribeConfig{})
			if !errors.Is(err, ErrRelayGone) || len(r.Objects) == 0 {
				t.Errorf("subscriber: %v", err)
			}
			if p := <-published; !errors.Is(p.err, ErrRelayGone) || len(p.p.Objects) == 0 {
				t.Errorf("publisher: %v", p.err)
			}
		})
	})
	t.Run("publisher gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, true, false)
			pub := s.dial(wire.Draft16)
			published := s.publish(t.Context(), pub, PublishConfig{Clip: clip})
			conn := s.dial(wire.Draft16)
			defer conn.Close()
			time.AfterFunc(4*time.Second, func() { _ = pub.Close() })
			r, err := Subscribe(t.Context(), conn, SubscribeConfig{})
			if err != nil || len(r.Objects) == 0 {
				t.Errorf("subscriber: %v", err)
			}
			for _, tr := range r.Tracks {
				if tr.Done || tr.Failed == "" {
					t.Errorf("%s is said to have ended regularly", tr.Track)
				}
			}
			<-published
		})
	})
	t.Run("duration", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, true, false)
			ctx, cancel := context.WithCancel(t.Context())
			pub := s.dial(wire.Draft16)
			defer pub.Close()
			published := s.publish(ctx, pub, PublishConfig{Clip: clip, Loop: true})
			conn := s.dial(wire.Draft16)
			defer conn.Close()
			begin := time.Now()
			r, err := Subscribe(t.Context(), conn, SubscribeConfig{Duration: 3 * time.Second})
			if err != nil || len(r.Objects) == 0 {
				t.Errorf("subscriber: %v", err)
			}
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("took %v", took)
			}
			cancel()
			<-published
		})
	})
	t.Run("no relay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, false, false)
			s.addr = &net.UDPAddr{IP: net.IPv4(10, 0, 0, 99), Port: 1}
			if _, err := s.tryDial(wire.Draft16); !errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("not trusted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, false, false)
			for _, trust := range []Trust{{}, {Fingerprint: fmt.Sprintf("%064x", 1)}} {
				s.trust = trust
				if c, err := s.tryDial(wire.Draft16); err == nil {
					t.Errorf("%+v: connected", trust)
					_ = c.Close()
				}
			}
		})
	})
}
