package capture_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
)

// listen opens a UDP socket in the namespace of an end.
func listen(t *testing.T, e netlab.End) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := e.Namespace.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.Addr(), 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func port(c *net.UDPConn) uint16 { return addr(c).Port() }

func addr(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// start starts a capture in the namespace of an end, on its interface.
func start(t *testing.T, e netlab.End, o capture.Options) *capture.Capture {
	t.Helper()
	o.Interface = e.Interface
	var c *capture.Capture
	err := e.Namespace.Do(func() (err error) {
		c, err = capture.Start(o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop() })
	return c
}

func payload(t *testing.T, p capture.Packet) []byte {
	t.Helper()
	udp, ok := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok {
		t.Fatalf("not a UDP packet: %x", p.Data)
	}
	return udp.Payload
}

func TestCapture(t *testing.T) {
	for name, ipv6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			lab := netlabtest.New(t, netlab.Options{IPv6: ipv6})
			relay, peer, other := listen(t, lab.Upstream.Relay), listen(t, lab.Upstream.Peer), listen(t, lab.Upstream.Peer)
			var pcap bytes.Buffer
			c := start(t, lab.Upstream.Peer, capture.Options{Port: port(peer), Pcap: &pcap})

			const n = 300
			before := time.Now()
			buf := make([]byte, 2000)
			for i := range n {
				send(t, other, addr(relay), []byte("not to be seen"))
				send(t, peer, addr(relay), []byte{byte(i >> 8), byte(i), 'o'})
				send(t, relay, addr(peer), []byte{byte(i >> 8), byte(i), 'i'})
				if _, err := peer.Read(buf); err != nil {
					t.Fatal(err)
				}
			}
			after := time.Now()
			rec, err := c.Stop()
			if err = errors.Join(err, rec.Err()); err != nil {
				t.Fatal(err)
			}
			if len(rec.Packets) != 2*n {
				t.Fatalf("recorded %d packets, want %d", len(rec.Packets), 2*n)
			}
			var in, out int
			for i, p := range rec.Packets {
				if p.Time.Before(before) || p.Time.After(after) {
					t.Errorf("packet %d has time %v, want it from %v to %v", i, p.Time, before, after)
				}
				if i > 0 && p.Time.Before(rec.Packets[i-1].Time) {
					t.Errorf("packet %d is %v before the one before it", i, rec.Packets[i-1].Time.Sub(p.Time))
				}
				count, mark := &in, byte('i')
				if p.Outgoing {
					count, mark = &out, 'o'
				}
				if want := []byte{byte(*count >> 8), byte(*count), mark}; !bytes.Equal(payload(t, p), want) {
					t.Fatalf("packet %d, outgoing %v, has payload %x, want %x", i, p.Outgoing, payload(t, p), want)
				}
				*count++
			}
			if in != n || out != n {
				t.Errorf("recorded %d arriving and %d leaving packets, want %d of both", in, out, n)
			}
			if rec.Late > n {
				t.Errorf("%d of %d packets have not the time of the device", rec.Late, 2*n)
			}
			checkPcap(t, &pcap, rec.Packets)
		})
	}
}

func send(t *testing.T, c *net.UDPConn, to netip.AddrPort, b []byte) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

func checkPcap(t *testing.T, r io.Reader, want []capture.Packet) {
	t.Helper()
	p, err := pcapgo.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	// The file is in the order of the ring, the recording in that of the times.
	times := make(map[time.Time]bool)
	for _, w := range want {
		times[w.Time.UTC()] = true
	}
	for i := range want {
		_, info, err := p.ReadPacketData()
		if err != nil {
			t.Fatalf("pcap ends after %d of %d packets: %v", i, len(want), err)
		}
		if !times[info.Timestamp.UTC()] {
			t.Fatalf("pcap has a packet of %v, the recording has not", info.Timestamp)
		}
	}
	if _, _, err := p.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("pcap goes on after %d packets: %v", len(want), err)
	}
}

// blockedWriter lets the header of the file through and then nothing until it is released.
type blockedWriter struct {
	writes  int
	blocked chan struct{} // closed when a write waits
	release chan struct{}
}

func (w *blockedWriter) Write(b []byte) (int, error) {
	if w.writes++; w.writes == 2 {
		close(w.blocked)
		<-w.release
	}
	return len(b), nil
}

// TestLossIsCounted stops the reader until the ring has run over.
func TestLossIsCounted(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	relay, peer := listen(t, lab.Upstream.Relay), listen(t, lab.Upstream.Peer)
	w := &blockedWriter{blocked: make(chan struct{}), release: make(chan struct{})}
	c := start(t, lab.Upstream.Peer, capture.Options{Port: port(peer), Pcap: w, RingBytes: 1})
	send(t, peer, addr(relay), []byte("the first one"))
	<-w.blocked
	const n = 4000
	big := make([]byte, 1400)
	for range n {
		send(t, peer, addr(relay), big)
	}
	close(w.release)
	rec, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if rec.Dropped == 0 || rec.Err() == nil {
		t.Errorf("%d packets of %d bytes fit a ring of 2 MiB: dropped %d, error %v", n, len(big), rec.Dropped, rec.Err())
	}
	if got := rec.Dropped + uint64(len(rec.Packets)); got != n+1 {
		t.Errorf("recorded %d and dropped %d packets, want %d together", len(rec.Packets), rec.Dropped, n+1)
	}
}

// TestLoad is the load of 20 subscribers at 5 Mbit/s for 4 s, as fast as the receiver takes it: what overruns the queue of a processor is lost
// before it can be recorded.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 50 MB")
	}
	lab := netlabtest.New(t, netlab.Options{})
	relay, sub := listen(t, lab.Downstream.Relay), listen(t, lab.Downstream.Peer)
	c := start(t, lab.Downstream.Peer, capture.Options{Port: port(sub)})
	if err := sub.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const n, batch = 40000, 50
	big := make([]byte, 1250)
	for sent := 0; sent < n; sent += batch {
		for range batch {
			send(t, relay, addr(sub), big)
		}
		for range batch {
			if _, err := sub.Read(big); err != nil {
				t.Fatal(err)
			}
		}
	}
	rec, err := c.Stop()
	if err = errors.Join(err, rec.Err()); err != nil {
		t.Fatal(err)
	}
	if len(rec.Packets) != n {
		t.Errorf("recorded %d packets, want %d", len(rec.Packets), n)
	}
}

func TestStartErrors(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	err := lab.Relay.Do(func() error {
		_, err := capture.Start(capture.Options{Interface: "nowhere"})
		return err
	})
	if err == nil {
		t.Error("captures on an interface that is not there")
	}
}

// TestInterfaceGoesAway checks that a capture whose interface is removed ends with what it has.
func TestInterfaceGoesAway(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	relay, peer := listen(t, lab.Upstream.Relay), listen(t, lab.Upstream.Peer)
	c := start(t, lab.Upstream.Peer, capture.Options{Port: port(peer)})
	send(t, peer, addr(relay), []byte("seen"))
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	rec, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Packets) != 1 {
		t.Errorf("recorded %d packets, want 1", len(rec.Packets))
	}
}
