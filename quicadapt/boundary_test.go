package quicadapt_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// pattern is data of a stream that shows where it belongs.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// echoOnce sends data both ways over one stream.
func echoOnce(ctx context.Context, server interface {
	AcceptStream(context.Context) (*quic.Stream, error)
}, client interface {
	OpenStreamSync(context.Context) (*quic.Stream, error)
}, data []byte) error {
	done := make(chan error, 1)
	go func() {
		s, err := server.AcceptStream(ctx)
		if err != nil {
			done <- err
			return
		}
		if _, err = io.Copy(s, s); err == nil {
			err = s.Close()
		}
		done <- err
	}()
	s, err := client.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	go func() {
		s.Write(data)
		s.Close()
	}()
	got, err := io.ReadAll(s)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("echo differs: %d of %d bytes", len(got), len(data))
	}
	return <-done
}

func TestBoundaryWithoutDatapath(t *testing.T) {
	for _, tc := range []struct {
		name         string
		null, client bool // null wire; boundary at the client too
		loss         float64
	}{
		{"server only", false, false, 0},
		{"both ends", false, true, 0.02},
		{"null wire", true, true, 0},
		{"null wire with loss", true, true, 0.03},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				serverTLS, clientTLS := certificate(t)
				clear := 0
				tap := func(p simnet.Packet) {
					if bytes.Contains(p.Data, []byte("in the clear")) {
						clear++
					}
				}
				sockets := newNetwork(t, 1, tc.loss, tap, "10.0.0.1", "10.0.0.2")
				ctx := within(t)
				b, err := quicadapt.New(sockets[0], quicadapt.Config{Null: tc.null})
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				ln, err := b.Listen(serverTLS, config())
				if err != nil {
					t.Fatal(err)
				}
				type dialed interface {
					OpenStreamSync(context.Context) (*quic.Stream, error)
					CloseWithError(quic.ApplicationErrorCode, string) error
				}
				var client dialed
				if tc.client {
					cb, err := quicadapt.New(sockets[1], quicadapt.Config{Null: tc.null})
					if err != nil {
						t.Fatal(err)
					}
					defer cb.Close()
					client, err = cb.Dial(ctx, sockets[0].LocalAddr(), clientTLS, config())
					if err != nil {
						t.Fatal(err)
					}
				} else {
					tr := &quic.Transport{Conn: sockets[1]}
					defer tr.Close()
					client, err = tr.Dial(ctx, sockets[0].LocalAddr(), clientTLS, config())
					if err != nil {
						t.Fatal(err)
					}
				}
				server, err := ln.Accept(ctx)
				if err != nil {
					t.Fatal(err)
				}
				data := append(pattern(1<<20, 3), "in the clear"...)
				if err := echoOnce(ctx, server, client, data); err != nil {
					t.Fatal(err)
				}
				if got := clear > 0; got != tc.null {
					t.Errorf("plaintext was seen on the wire: %v, null wire: %v", got, tc.null)
				}
				st := server.Stats()
				if st.OwnPackets == 0 || st.Unopened > 3 {
					t.Errorf("stats %+v", st)
				}
				t.Logf("%+v", st)
				client.CloseWithError(0, "")
				<-server.Context().Done()
			})
		})
	}
}

// TestCongestion: a boundary's paths get the controller that is asked for by name, and an unknown name is refused with those that are known.
func TestCongestion(t *testing.T) {
	for name, want := range map[string]any{
		"": &congestion.Scream{}, "newreno": &congestion.NewReno{}, "cubic": &congestion.Cubic{}, "bbr": &congestion.BBR{}, "scream": &congestion.Scream{},
	} {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b, err := quicadapt.New(pc, quicadapt.Config{Congestion: name})
		if err != nil {
			t.Fatal(err)
		}
		if c := quicadapt.NewController(b); reflect.TypeOf(c) != reflect.TypeOf(want) || c.Window() != 32*1200 {
			t.Errorf("%q makes %T with a window of %d", name, c, c.Window())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, err := quicadapt.New(pc, quicadapt.Config{Congestion: "vegas"}); err == nil || !strings.Contains(err.Error(), "bbr, cubic, newreno, scream") {
		t.Errorf("error %v", err)
	}
}

func TestCloseIsIdempotent(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := quicadapt.New(pc, quicadapt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := quicadapt.New(nil, quicadapt.Config{}); err == nil {
		t.Error("no socket was accepted")
	}
	if _, err := b.Listen(nil, nil); err == nil {
		t.Error("no TLS configuration was accepted")
	}
	if _, err := b.Dial(context.Background(), pc.LocalAddr(), nil, &quic.Config{Allow0RTT: true}); err == nil {
		t.Error("0-RTT was accepted")
	}
	_ = time.Second
}
