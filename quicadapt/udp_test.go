package quicadapt_test

import (
	"net"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/quicadapt"
)

// TestOverUDP runs the boundary on real sockets, where quic-go uses segmentation offload, ECN and batched reads.
func TestOverUDP(t *testing.T) {
	for _, null := range []bool{false, true} {
		ctx := within(t)
		serverTLS, clientTLS := certificate(t)
		socket := func() net.PacketConn {
			pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			return pc
		}
		b, err := quicadapt.New(socket(), quicadapt.Config{Null: null, Datapath: newScripted(nil)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		ln, err := b.Listen(serverTLS, config())
		if err != nil {
			t.Fatal(err)
		}
		client := dial(t, ctx, null, socket(), b.LocalAddr(), &quic.Config{}, clientTLS)
		server, err := ln.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := echoOnce(ctx, server, client, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Client(); err != nil { // from now on every packet is renumbered
			t.Fatal(err)
		}
		if err := echoOnce(ctx, server, client, pattern(8<<20, 2)); err != nil {
			t.Fatalf("null %v: %v; %+v", null, err, server.Stats())
		}
		t.Logf("null %v: %+v", null, server.Stats())
		client.CloseWithError(0, "")
	}
}
