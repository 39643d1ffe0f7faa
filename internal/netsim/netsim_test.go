package netsim_test

import (
	"bytes"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fastrelay/fastrelay/internal/netsim"
)

var epoch = time.Unix(1000, 0)

// TestPath sends many packets through each kind of path and looks at how many arrive, and when.
func TestPath(t *testing.T) {
	const n, every, size = 20_000, time.Millisecond, 1000
	for _, c := range []struct {
		name                string
		shape               netsim.Shape
		lost, twice, behind float64 // shares; behind: arrive before one that was sent earlier
		min, max            time.Duration
	}{
		{name: "perfect"},
		{name: "delay", shape: netsim.Shape{Delay: 20 * time.Millisecond}, min: 20 * time.Millisecond, max: 20 * time.Millisecond},
		{name: "jitter keeps the order", shape: netsim.Shape{Delay: 20 * time.Millisecond, Jitter: 9 * time.Millisecond}, min: 20 * time.Millisecond, max: 29 * time.Millisecond},
		{name: "loss", shape: netsim.Shape{Loss: 0.1}, lost: 0.1},
		{name: "bursts", shape: netsim.Shape{Burst: netsim.Burst{Enter: 0.02, Leave: 0.2, Loss: 0.8}}, lost: 0.8 / 11},
		{name: "duplicates", shape: netsim.Shape{Duplicate: 0.05}, twice: 0.05},
		{name: "reordering", shape: netsim.Shape{Reorder: 0.1, ReorderBy: 1500 * time.Microsecond}, behind: 0.1 * 0.9, max: 1500 * time.Microsecond},
		{name: "bottleneck", shape: netsim.Shape{Rate: 800_000, Queue: 10_000}, lost: 0.2, min: 1250 * time.Microsecond, max: 12500 * time.Microsecond},
		{name: "too big", shape: netsim.Shape{MTU: 999}, lost: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := netsim.NewPath(c.shape, 7)
			var lost, twice, behind int
			var last time.Time
			for i := range n {
				at := epoch.Add(time.Duration(i) * every)
				arrivals, fate := p.Send(size, at)
				if (len(arrivals) == 0) != (fate >= netsim.Lost) {
					t.Fatalf("packet was %v and arrived %d times", fate, len(arrivals))
				}
				switch {
				case len(arrivals) == 0:
					lost++
					continue
				case len(arrivals) == 2:
					twice++
				}
				if d := arrivals[0].Sub(at); d < c.min || d > c.max {
					t.Fatalf("packet took %v", d)
				}
				if arrivals[0].Before(last) {
					behind++
				}
				last = arrivals[0]
			}
			for _, x := range []struct {
				what      string
				got, want float64
			}{{"lost", float64(lost), c.lost}, {"duplicated", float64(twice), c.twice}, {"overtaken", float64(behind), c.behind}} {
				if math.Abs(x.got/n-x.want) > 0.01 {
					t.Errorf("%s: %.3f, want %.3f", x.what, x.got/n, x.want)
				}
			}
		})
	}
}

// TestSeeds sends the same packets twice: the seed decides what becomes of them.
func TestSeeds(t *testing.T) {
	fates := func(seed uint64) (s string) {
		p := netsim.NewPath(netsim.Shape{Loss: 0.3, Duplicate: 0.3, Reorder: 0.3}, seed)
		for i := range 100 {
			_, f := p.Send(100, epoch.Add(time.Duration(i)))
			s += f.String()
		}
		return s
	}
	if one, again := fates(1), fates(1); one != again || one == fates(2) {
		t.Error("the seed does not decide")
	}
}

func host(t *testing.T, n *netsim.Network, addr string, up, down netsim.Shape) *netsim.Host {
	t.Helper()
	h, err := n.Host(netip.MustParseAddrPort(addr), up, down)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// receive returns what a socket receives within a second.
func receive(t *testing.T, pc net.PacketConn) (out []string) {
	t.Helper()
	if err := pc.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	for {
		n, from, err := pc.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, from.String()+" "+string(b[:n]))
	}
}

func send(t *testing.T, from net.PacketConn, to net.Addr, what string) {
	t.Helper()
	if n, err := from.WriteTo([]byte(what), to); err != nil || n != len(what) {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var trace netsim.Trace
		n, start := netsim.New(1, &trace), time.Now()
		slow := netsim.Shape{Delay: 5 * time.Millisecond}
		a, b := host(t, n, "1.0.0.1:1", slow, slow), host(t, n, "1.0.0.2:2", netsim.Shape{}, slow)
		if _, err := n.Host(netip.MustParseAddrPort("1.0.0.2:2"), slow, slow); err == nil {
			t.Error("two hosts have one address")
		}
		read := make([]byte, 10)
		send(t, a, b.LocalAddr(), "one")
		if _, _, err := b.ReadFrom(read); err != nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v, arrived after %v", err, time.Since(start))
		}
		if err := a.Rebind(netip.MustParseAddrPort("1.0.0.3:3")); err != nil {
			t.Error(err)
		}
		send(t, a, b.LocalAddr(), "two")
		send(t, b, a.LocalAddr(), "to the old address")
		if got := receive(t, b); len(got) != 1 || got[0] != "1.0.0.3:3 two" {
			t.Errorf("after rebinding: %q", got)
		}
		send(t, b, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("1.0.0.3:3")), "back")
		if got := receive(t, a); len(got) != 1 || got[0] != "1.0.0.2:2 back" {
			t.Errorf("to the new address: %q", got)
		}
		a.Die()
		send(t, a, b.LocalAddr(), "three")
		if got := receive(t, b); len(got) != 0 {
			t.Errorf("from the dead: %q", got)
		}
		for _, h := range []*netsim.Host{a, b} {
			if err := errors.Join(h.Close(), h.Close()); err != nil {
				t.Error(err)
			}
			if _, _, err := h.ReadFrom(read); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read from a closed host: %v", err)
			}
			if _, err := h.WriteTo(read, b.LocalAddr()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("written to a closed host: %v", err)
			}
		}

		var text, capture bytes.Buffer
		if err := errors.Join(trace.Write(&text, start), trace.WritePcap(&capture)); err != nil {
			t.Error(err)
		}
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if want := "0.000 ms  1.0.0.1:1 > 1.0.0.2:2     3 bytes short passed  arrives 10.000"; len(lines) != 5 || strings.TrimSpace(lines[0]) != want {
			t.Errorf("trace:\n%s", text.String())
		}
		r, err := pcapgo.NewReader(&capture)
		if err != nil {
			t.Fatal(err)
		}
		for i := range lines {
			if b, _, err := r.ReadPacketData(); err != nil || i == 0 && string(b[28:]) != "one" {
				t.Errorf("packet %d: %q, %v", i, b, err)
			}
		}
	})
}

// TestShaped puts paths before real sockets: one that delays, and one where large packets are lost.
func TestShaped(t *testing.T) {
	listen := func() net.PacketConn {
		pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return pc
	}
	plain := listen()
	defer plain.Close()
	path := func(s netsim.Shape) *netsim.Path { return netsim.NewPath(s, 1) }
	const delay = 20 * time.Millisecond
	slow := netsim.NewShaped(listen(), path(netsim.Shape{Delay: delay}), path(netsim.Shape{Delay: delay, Duplicate: 1}))
	narrow := netsim.NewShaped(listen(), path(netsim.Shape{}), path(netsim.Shape{MTU: 3}))
	start := time.Now()
	send(t, slow, plain.LocalAddr(), "there")
	b := make([]byte, 100)
	n, from, err := plain.ReadFrom(b)
	if err != nil || string(b[:n]) != "there" || time.Since(start) < delay {
		t.Fatalf("%q, %v after %v", b[:n], err, time.Since(start))
	}
	send(t, plain, from, "back")
	for range 2 {
		if n, _, err = slow.ReadFrom(b); err != nil || string(b[:n]) != "back" || time.Since(start) < 2*delay {
			t.Fatalf("%q, %v after %v", b[:n], err, time.Since(start))
		}
	}
	send(t, plain, narrow.LocalAddr(), "lost")
	send(t, plain, slow.LocalAddr(), "passed")
	if _, _, err := slow.ReadFrom(b); err != nil {
		t.Error(err)
	}
	send(t, plain, narrow.LocalAddr(), "ok")
	if n, _, err = narrow.ReadFrom(b); err != nil || string(b[:n]) != "ok" {
		t.Errorf("%q, %v", b[:n], err)
	}
	send(t, slow, plain.LocalAddr(), "last words") // sent by Close
	if err := errors.Join(narrow.Close(), slow.Close()); err != nil {
		t.Error(err)
	}
	if n, _, err = plain.ReadFrom(b); err != nil || string(b[:n]) != "last words" {
		t.Errorf("%q, %v", b[:n], err)
	}
	if _, _, err := narrow.ReadFrom(b); err == nil || narrow.Dropped() != 1 || slow.Dropped() != 0 {
		t.Errorf("%v; dropped %d and %d", err, narrow.Dropped(), slow.Dropped())
	}
}
