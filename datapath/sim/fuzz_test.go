package sim_test

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// FuzzIngress sends a frame and checks that nothing but whole packets of known frames comes out, and that the counters
// add up to what happened.
func FuzzIngress(f *testing.F) {
	pub := datapathtest.Builder{From: side(2, 4000), To: side(1, port), CID: datapathtest.CID(1)}
	head := datapathtest.Subgroup(5, 9, 1, "x")
	f.Add(pub.Frame(0, datapathtest.Stream(2, 0, head, false)))
	f.Add(pub.Frame(9, append(datapathtest.Stream(2, 0, head, false), datapathtest.Stream(2, 6, []byte("y"), true)...)))
	f.Add(pub.Frame(1, append(wire.AppendAck(nil, []wire.AckRange{{Smallest: 3, Largest: 4}}, 0, nil), append([]byte{0x0c, 6, 0}, head...)...)))
	f.Add(pub.Frame(1<<30, datapathtest.Datagram(datapathtest.ObjectDatagram(5, 9, 1, "d"))))
	f.Fuzz(func(t *testing.T, frame []byte) {
		sent := 0
		s := sim.New(sim.Config{Port: port, Send: func(out []byte, _ int, _ time.Time) error {
			sent++
			p, err := datapathtest.ParseFrame(out)
			if err != nil {
				t.Fatal(err)
			}
			k, _ := wire.NewKeys(wire.SuiteNull, wire.Version1, nil)
			var o wire.Opened
			if err := k.Open(nil, p.Payload, 8, 0, &o); err != nil {
				t.Fatalf("%x: %v", p.Payload, err)
			}
			var fr wire.Frame
			for b := o.Payload; len(b) > 0; {
				n, err := fr.Parse(b)
				if err != nil || !fr.IsStream() && !fr.IsDatagram() {
					t.Fatalf("frame %#x in %x: %v", fr.Type, o.Payload, err)
				}
				if fr.IsStream() && fr.V[0] != 3 && fr.V[0] != 7 {
					t.Fatalf("stream %d was not reserved", fr.V[0])
				}
				b = b[n:]
			}
			return nil
		}})
		must(t, s.SetUpstream(1, &datapath.Upstream{Remote: pub.From.Addr, CIDs: [][]byte{pub.CID}, Streams: 2,
			Protection: datapath.Protection{Version: wire.Version1}}))
		must(t, s.SetTrack(1, &datapath.Track{Upstream: 1, Alias: 5, Draft: 14}))
		c := side(3, 5000)
		space, err := s.SetClient(1, &datapath.Client{Local: pub.To.Addr, Remote: c.Addr, DCID: make([]byte, 8), MaxSize: 1252,
			Protection: datapath.Protection{Version: wire.Version1}})
		must(t, err)
		space.SetDataLimit(1 << 50)
		space.Reserve(3, 0, 1<<50)
		space.Reserve(7, 1, 1<<50)
		must(t, s.SetSubscription(1, 1, &datapath.Subscription{Alias: 100}))
		s.ClientIngress(datapathtest.UDPFrame(c, pub.To, []byte{0x40}), 2, now)

		s.Ingress(frame, 1, now)
		counters, err := s.Counters()
		must(t, err)
		forwarded := 0
		must(t, s.Drain(func(r *datapath.Record) {
			if r.Reason == datapath.Forwarded {
				forwarded++
			}
		}))
		if forwarded != sent || (counters[datapath.Forwarded] > 0) != (sent > 0) || int(space.Next()) != sent {
			t.Fatalf("%d packets, %d records, next number %d, counters %v", sent, forwarded, space.Next(), counters.Map())
		}
	})
}
