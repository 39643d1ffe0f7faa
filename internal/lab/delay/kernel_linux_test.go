package delay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestKernel measures a relay of stock quic-go across network namespaces, from real captures.
func TestKernel(t *testing.T) {
	for name, ipv6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) { testKernel(t, netlabtest.New(t, netlab.Options{IPv6: ipv6})) })
	}
}

func testKernel(t *testing.T, lab *netlab.Lab) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	listen := func(e netlab.End, addr netip.Addr) *net.UDPConn {
		t.Helper()
		var c *net.UDPConn
		err := e.Namespace.Do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	relay := listen(lab.Upstream.Relay, netip.IPv6Unspecified())
	port := relay.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	record := func(e netlab.End) *capture.Capture {
		t.Helper()
		var c *capture.Capture
		err := e.Namespace.Do(func() (err error) {
			c, err = capture.Start(capture.Options{Interface: e.Interface, Port: port})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Stop() })
		return c
	}
	atPub, atSub := record(lab.Upstream.Peer), record(lab.Downstream.Peer)
	to := func(e netlab.End) net.Addr { return net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.Addr(), port)) }

	w := newQUICWorld(t, ctx, relay)
	const streams, size, subscribers = 4, 200_000, 3
	var subs []net.PacketConn
	for range subscribers {
		subs = append(subs, listen(lab.Downstream.Peer, lab.Downstream.Peer.Addr()))
	}
	w.run(quic.Version1, streams, size, listen(lab.Upstream.Peer, lab.Upstream.Peer.Addr()), to(lab.Upstream.Relay), subs, to(lab.Downstream.Relay))

	in := &Input{Draft: wire.Draft16, KeyLog: w.keyLog.Bytes()}
	for _, c := range []struct {
		c    *capture.Capture
		into *[]capture.Packet
	}{{atPub, &in.Publisher}, {atSub, &in.Subscriber}} {
		rec, err := c.c.Stop()
		if err = errors.Join(err, rec.Err()); err != nil {
			t.Fatal(err)
		}
		*c.into = rec.Packets
	}
	checkQUIC(t, in, streams*(size+header), subscribers)
}
