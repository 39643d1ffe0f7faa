package quicadapt

import (
	"net"
	"net/netip"
	"testing"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestForgedHandshakeIDs: long headers are not authenticated, so who sees a connection ID may send any number of them with
// source IDs of its own. What is remembered of them is bounded.
func TestForgedHandshakeIDs(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(pc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	b.useCIDs(clientCIDLen)
	from := netip.MustParseAddrPort("192.0.2.1:443")
	c := newConn(b, from, true)
	c.peerCIDs["original"] = 0
	b.attribute(c, nil)
	ours := []byte("8 bytes.")
	b.learnOut(c, &wire.LongHeader{Type: wire.LongInitial, SCID: ours, DCID: []byte("original")})
	for i := range 10_000 {
		b.learnIn(&wire.LongHeader{Type: wire.LongHandshake, DCID: ours, SCID: []byte{byte(i), byte(i >> 8)}}, from)
	}
	if n := len(c.peerCIDs); n == 0 || n > maxPeerCIDs {
		t.Errorf("%d connection IDs of the peer are remembered", n)
	}
}

// TestLatePacketOfAPredecessor: a connection that has failed still answers what comes late with CONNECTION_CLOSE in long header
// packets, when another one to the same address is the only one known there. Those are not the other one's.
func TestLatePacketOfAPredecessor(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(pc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	b.useCIDs(clientCIDLen)
	to := netip.MustParseAddrPort("192.0.2.1:443")
	c := newConn(b, to, true)
	c.peerCIDs["original"] = 0
	b.attribute(c, nil)
	late := &wire.LongHeader{Type: wire.LongInitial, SCID: []byte("previous"), DCID: []byte("its peer")}
	own := &wire.LongHeader{Type: wire.LongInitial, SCID: []byte("our own."), DCID: []byte("original")}
	for _, h := range []*wire.LongHeader{late, own, late} {
		b.learnOut(b.only(to), h)
	}
	if c.localCIDs[0] != "our own." || b.byCID["previous"] != nil {
		t.Errorf("the connection's ID is %q; all: %v", c.localCIDs[0], b.byCID)
	}
}

// TestTwoConnectionsAtAnAddress: late packets of the peer look like a connection of its own, and quic-go already uses an ID that came
// in a packet which could not be opened here yet. Its long header packets tell whose they are by their source.
func TestTwoConnectionsAtAnAddress(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(pc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	b.useCIDs(clientCIDLen)
	to := netip.MustParseAddrPort("192.0.2.1:443")
	c := newConn(b, to, true)
	c.peerCIDs["original"] = 0
	b.attribute(c, nil)
	b.learnOut(c, &wire.LongHeader{Type: wire.LongInitial, SCID: []byte("our own."), DCID: []byte("original")})
	b.learnIn(&wire.LongHeader{Type: wire.LongInitial, DCID: []byte("our own."), SCID: []byte("its  own")}, to)
	b.attribute(newConn(b, to, false), []byte("late one"))

	p := []byte{0xe0, 0, 0, 0, 1, 8} // Handshake, version 1
	p = append(append(append(p, "its next"...), 8), "our own."...)
	p = append(append(p, 20), make([]byte, 20)...)
	if _, who := b.output(p, to, make([]byte, 100), nil); who != c {
		t.Fatalf("the packet is of %p, not of %p", who, c)
	}
	if b.find(to, []byte("its next")) != c {
		t.Error("the peer's new ID is not known")
	}
}
