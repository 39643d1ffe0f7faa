package netlab_test

import (
	"errors"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
)

func socket(t *testing.T, e netlab.End) (pc *net.UDPConn) {
	t.Helper()
	err := e.Namespace.Do(func() (err error) {
		pc, err = net.ListenUDP("udp", &net.UDPAddr{IP: e.Addr().AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

// TestLose sends packets in both directions of a link that loses a fifth of them: the counter has what does not arrive, and a capture
// at the receiver does not see it.
func TestLose(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		l := netlabtest.New(t, netlab.Options{IPv6: v6})
		loss, err := l.Downstream.Lose(0.2)
		if err != nil {
			t.Fatal(err)
		}
		relay, peer := socket(t, l.Downstream.Relay), socket(t, l.Downstream.Peer)
		before := uint64(0)
		for _, d := range []struct {
			from, to *net.UDPConn
			at       netlab.End
		}{{relay, peer, l.Downstream.Peer}, {peer, relay, l.Downstream.Relay}} {
			var c *capture.Capture
			port := d.to.LocalAddr().(*net.UDPAddr).Port
			if err := d.at.Namespace.Do(func() (err error) {
				c, err = capture.Start(capture.Options{Interface: d.at.Interface, Port: uint16(port)})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			const n = 5000
			arrived, b := 0, make([]byte, 100)
			receive := func(wait time.Duration) {
				for {
					d.to.SetReadDeadline(time.Now().Add(wait))
					if _, err := d.to.Read(b); errors.Is(err, os.ErrDeadlineExceeded) {
						return
					} else if err != nil {
						t.Fatal(err)
					}
					arrived++
				}
			}
			for i := range n {
				if _, err := d.from.WriteTo([]byte("packet"), d.to.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				if i%50 == 0 {
					receive(time.Millisecond)
				}
			}
			dropped := uint64(0)
			// A processor that others have taken away may deliver late.
			for end := time.Now().Add(20 * time.Second); uint64(arrived)+dropped < n && time.Now().Before(end); {
				receive(100 * time.Millisecond)
				all, err := loss.Dropped()
				if err != nil {
					t.Fatal(err)
				}
				dropped = all - before
			}
			before += dropped
			r, err := c.Stop()
			if err != nil {
				t.Fatal(err)
			}
			if uint64(arrived)+dropped != n || math.Abs(float64(dropped)/n-0.2) > 0.03 || len(r.Packets) != arrived {
				t.Errorf("IPv6 %v: of %d packets %d arrived, %d were lost, %d captured", v6, n, arrived, dropped, len(r.Packets))
			}
		}
		if err := errors.Join(loss.Close(), loss.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestLoseRefuses(t *testing.T) {
	for _, share := range []float64{-0.1, 0.51, math.NaN(), math.Inf(1)} {
		if _, err := new(netlab.Link).Lose(share); err == nil {
			t.Errorf("a loss of %v was accepted", share)
		}
	}
}
