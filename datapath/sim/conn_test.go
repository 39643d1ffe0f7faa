package sim_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// relayOn checks that a packet of the publisher reaches the relay's reader unaltered and the subscriber forwarded, by
// what each of the three connections reads.
func relayOn(t *testing.T, inner, publisher, subscriber net.PacketConn) {
	var file bytes.Buffer
	pcap, err := sim.NewPcap(&file)
	must(t, err)
	s := sim.New(sim.Config{Tap: pcap.Tap})
	pc := s.Wrap(inner)
	udp := func(c net.PacketConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
	must(t, s.SetUpstream(1, &datapath.Upstream{Remote: udp(publisher), CIDs: [][]byte{datapathtest.CID(1)}, Streams: 2,
		Protection: datapath.Protection{Version: wire.Version1}}))
	must(t, s.SetTrack(1, &datapath.Track{Upstream: 1, Alias: 5, Draft: 14}))
	space, err := s.SetClient(1, &datapath.Client{Local: udp(inner), Remote: udp(subscriber), DCID: []byte{1, 2}, MaxSize: 1252,
		Protection: datapath.Protection{Version: wire.Version1}})
	must(t, err)
	space.SetDataLimit(1 << 20)
	space.Reserve(3, 0, 1<<20)
	must(t, s.SetSubscription(1, 1, &datapath.Subscription{Alias: 6}))

	b := datapathtest.Builder{CID: datapathtest.CID(1)}
	packet := b.Packet(0, datapathtest.Stream(2, 0, datapathtest.Subgroup(5, 9, 1, "x"), true))
	_, err = publisher.WriteTo(packet, pc.LocalAddr())
	must(t, err)
	buf := make([]byte, 1500)
	n, from, err := pc.ReadFrom(buf)
	must(t, err)
	if !bytes.Equal(buf[:n], packet) || from.String() != publisher.LocalAddr().String() {
		t.Errorf("relay read %x from %v", buf[:n], from)
	}
	n, _, err = subscriber.ReadFrom(buf)
	must(t, err)
	want := append([]byte{0x43, 1, 2, 0, 0, 0, 0}, datapathtest.Stream(3, 0, datapathtest.Subgroup(6, 9, 1, "x"), true)...)
	if want = append(want, make([]byte, 16)...); !bytes.Equal(buf[:n], want) {
		t.Errorf("subscriber read %x, want %x", buf[:n], want)
	}
	_, err = pc.WriteTo([]byte("own"), subscriber.LocalAddr())
	must(t, err)
	if n, _, err = subscriber.ReadFrom(buf); err != nil || string(buf[:n]) != "own" {
		t.Errorf("subscriber read %q, %v", buf[:n], err)
	}
	records := 0
	must(t, s.Drain(func(r *datapath.Record) { records++ }))
	if records != 1 {
		t.Errorf("%d records, want 1", records)
	}

	must(t, pcap.Err())
	r, err := pcapgo.NewReader(&file)
	must(t, err)
	for i := range 2 {
		frame, _, err := r.ReadPacketData()
		must(t, err)
		if _, err := datapathtest.ParseFrame(frame); err != nil {
			t.Errorf("frame %d of the capture: %v", i, err)
		}
	}
}

func TestWrapUDP(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		var c [3]net.PacketConn
		for i := range c {
			pc, err := net.ListenPacket("udp", address)
			if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
				t.Skipf("no loopback for %s: %v", address, err)
			}
			must(t, err)
			defer pc.Close()
			must(t, pc.SetReadDeadline(time.Now().Add(10*time.Second)))
			c[i] = pc
		}
		relayOn(t, c[0], c[1], c[2])
	}
}

func TestWrapSimnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := &simnet.PerfectRouter{}
		var c [3]net.PacketConn
		for i := range c {
			c[i] = simnet.NewSimConn(&net.UDPAddr{IP: net.IPv4(10, 0, 0, byte(i+1)), Port: 4433}, router)
			defer c[i].Close()
		}
		relayOn(t, c[0], c[1], c[2])
	})
}

// plain has nothing but the methods of net.PacketConn.
type plain struct{ net.PacketConn }

func TestWrapOffersWhatTheInnerConnHas(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer udp.Close()
	for _, c := range []struct {
		inner        net.PacketConn
		buffers, raw bool
	}{{udp, true, true}, {plain{udp}, false, false}} {
		pc := sim.New(sim.Config{}).Wrap(c.inner)
		_, buffers := pc.(interface{ SetReadBuffer(int) error })
		_, raw := pc.(syscall.Conn)
		_, msg := pc.(interface {
			ReadMsgUDP(b, oob []byte) (int, int, int, *net.UDPAddr, error)
		})
		if buffers != c.buffers || raw != c.raw || msg {
			t.Errorf("%T: buffers %v, raw %v, ReadMsgUDP %v", c.inner, buffers, raw, msg)
		}
	}
}

func TestReadErrorPasses(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer udp.Close()
	must(t, udp.SetReadDeadline(time.Unix(1, 0)))
	if _, _, err := sim.New(sim.Config{}).Wrap(udp).ReadFrom(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}
