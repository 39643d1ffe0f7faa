package netlab_test

import (
	"net"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
)

// TestLimit sends a burst down a link of 1 Mbit/s: what fits into the queue arrives, never faster than that, and the rest is lost. In the
// other direction nothing is limited.
func TestLimit(t *testing.T) {
	l := netlabtest.New(t, netlab.Options{})
	const rate, size, n, overhead = 125_000, 958, 200, 42
	if err := l.Downstream.Limit(rate); err != nil {
		t.Fatal(err)
	}
	relay, peer := socket(t, l.Downstream.Relay), socket(t, l.Downstream.Peer)
	send := func(from, to *net.UDPConn, at netlab.End) *capture.Recording {
		var c *capture.Capture
		if err := at.Namespace.Do(func() (err error) {
			c, err = capture.Start(capture.Options{Interface: at.Interface, Port: uint16(to.LocalAddr().(*net.UDPAddr).Port)})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		for range n {
			_, _ = from.WriteTo(b, to.LocalAddr()) // the queue refuses some
		}
		for {
			to.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := to.Read(b); err != nil {
				break
			}
		}
		r, err := c.Stop()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := send(relay, peer, l.Downstream.Peer)
	got := len(r.Packets)
	if fits := netlab.QueueBytes(rate) / (size + overhead); got < fits/2 || got > 2*fits {
		t.Fatalf("%d packets of %d arrived, %d fit into the queue", got, n, fits)
	}
	const burst = 5
	took := r.Packets[got-1].Time.Sub(r.Packets[0].Time)
	if least := time.Duration(float64((got-burst)*(size+overhead)) / rate * float64(time.Second)); took < least {
		t.Errorf("%d packets took %v, at that rate %v", got, took, least)
	}
	if r := send(peer, relay, l.Downstream.Relay); len(r.Packets) != n {
		t.Errorf("%d packets of %d arrived in the other direction", len(r.Packets), n)
	}
	if err := l.Downstream.Limit(0); err == nil {
		t.Error("a link was limited to nothing")
	}
}
