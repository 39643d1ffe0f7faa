package quicadapt

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// ackDefect changes the ACK ranges that quic-go gets, of those that the client sent.
type ackDefect func(told, sent []wire.AckRange) []wire.AckRange

// TestP5 is P5 of docs/invariants.md: quic-go never sees an ACK for a packet whose number on the wire the client did not
// acknowledge, and every acknowledged one in some ACK. Packets of quic-go, the datapath's, losses and ACKs come in any order.
func TestP5(t *testing.T) {
	t.Run("holds", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			if msg := translateAcks(t, nil); msg != "" {
				t.Fatal(msg)
			}
		})
	})
	for name, d := range map[string]ackDefect{
		"ACKs are passed as they are": func(_, sent []wire.AckRange) []wire.AckRange { return sent },
		"what lies between is acknowledged too": func(told, _ []wire.AckRange) []wire.AckRange {
			if len(told) == 0 {
				return nil
			}
			return []wire.AckRange{{Smallest: told[len(told)-1].Smallest, Largest: told[0].Largest}}
		},
		"the oldest range is left out": func(told, _ []wire.AckRange) []wire.AckRange { return told[:max(1, len(told)-1)] },
		"numbers are off by one": func(told, _ []wire.AckRange) []wire.AckRange {
			for i := range told {
				told[i].Largest++
			}
			return told
		},
	} {
		t.Run(name, func(t *testing.T) {
			msg := ""
			rapid.Check(t, func(t *rapid.T) {
				if msg == "" {
					msg = translateAcks(t, d)
				}
			})
			if msg == "" {
				t.Fatal("P5 does not notice")
			}
			t.Log("noticed:", msg)
		})
	}
}

// ackWorld is quic-go and the client of one connection.
type ackWorld struct {
	c          *conn
	quic, wire *wire.Keys // that quic-go seals with, and the client opens
	peer, in   *wire.Keys // that the client seals with, and quic-go opens
	own        uint64
	peerNumber uint64
	ownOf      map[uint64]uint64 // numbers on the wire, and quic-go's
	received   []uint64          // by the client
	acked      map[uint64]bool   // quic-go's numbers that the client has acknowledged
	told       map[uint64]bool
	defect     ackDefect
}

func newAckWorld(first uint64, d ackDefect) *ackWorld {
	server, client := make([]byte, 32), append(make([]byte, 31), 1)
	keys := func(secret []byte) *wire.Keys {
		k, err := wire.NewKeys(wire.SuiteAES128GCM, wire.Version1, secret)
		if err != nil {
			panic(err)
		}
		return k
	}
	b := &Boundary{cfg: Config{}.withDefaults(), start: time.Now(), woken: make(chan struct{}, 1), cidLen: datapath.CIDLen, congestion: newReno}
	w := &ackWorld{c: newConn(b, netip.MustParseAddrPort("192.0.2.1:1"), false), quic: keys(server), wire: keys(server), peer: keys(client),
		in: keys(client), own: first, ownOf: make(map[uint64]uint64), acked: make(map[uint64]bool), told: make(map[uint64]bool), defect: d}
	c := w.c
	c.nextOwn = first
	c.peerCIDLen.Store(4)
	c.startTranslating()
	c.quicOut, c.wireOut, c.quicIn, c.wireIn = keys(server), keys(server), keys(client), keys(client)
	c.joined, c.maxData = true, 1<<30
	return w
}

var clientCID = []byte("peer")

// send is a packet of quic-go's.
func (w *ackWorld) send(lost bool) {
	p := w.quic.Seal(nil, 0, clientCID, w.own, 4, wire.AppendPing(nil))
	out := w.c.outShort(p, w.c.remote, make([]byte, 0, scratchSize))
	var o wire.Opened
	if out == nil || w.wire.Open(nil, out, len(clientCID), w.c.space.Next(), &o) != nil {
		panic("quic-go's packet does not leave")
	}
	w.ownOf[o.PacketNumber] = w.own
	w.own++
	if !lost {
		w.received = append(w.received, o.PacketNumber)
	}
}

// forward is a packet of the datapath's.
func (w *ackWorld) forward(lost bool) {
	n := w.c.space.TakeNumber()
	w.c.record(&datapath.Record{Time: w.c.b.start.Add(time.Duration(n)), Number: n, Size: 100, Generation: w.c.space.Generation()})
	if !lost {
		w.received = append(w.received, n)
	}
}

// ack is the client acknowledging the last of what it has received. It returns what is wrong.
func (w *ackWorld) ack(last int) string {
	if len(w.received) == 0 {
		return ""
	}
	list := slices.Clone(w.received[max(0, len(w.received)-last):])
	slices.Sort(list)
	var sent []wire.AckRange
	for _, n := range slices.Backward(list) {
		if own, ok := w.ownOf[n]; ok {
			w.acked[own] = true
		}
		if k := len(sent); k > 0 && sent[k-1].Smallest == n+1 {
			sent[k-1].Smallest = n
		} else {
			sent = append(sent, wire.AckRange{Smallest: n, Largest: n})
		}
	}
	p := w.peer.Seal(nil, 0, make([]byte, datapath.CIDLen), w.peerNumber, 4, wire.AppendAck(nil, sent, 10, nil))
	w.peerNumber++
	out, again := w.c.inShort(p, scratchSize, w.c.remote, false)
	if again {
		out, _ = w.c.inShort(p, scratchSize, w.c.remote, true)
	}
	var o wire.Opened
	if out == nil || w.in.Open(nil, out, datapath.CIDLen, w.peerNumber, &o) != nil {
		return "quic-go cannot open what it gets"
	}
	var f wire.Frame
	for b := o.Payload; len(b) > 0; {
		n, err := f.Parse(b)
		if err != nil {
			return err.Error()
		}
		b = b[n:]
		if !f.IsAck() {
			continue
		}
		told := f.AppendAckRanges(nil)
		if w.defect != nil {
			told = w.defect(told, sent)
		}
		for _, r := range told {
			for n := r.Smallest; n <= r.Largest; n++ {
				if !w.acked[n] {
					return "quic-go is told of a number that the client did not acknowledge"
				}
				w.told[n] = true
			}
		}
	}
	return ""
}

func translateAcks(t *rapid.T, d ackDefect) string {
	w := newAckWorld(rapid.SampledFrom([]uint64{0, 7, 1<<16 - 3, 1<<32 - 3}).Draw(t, "first number"), d)
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		lost := rapid.IntRange(0, 3).Draw(t, "lost") == 3
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0, 1:
			w.send(lost)
		case 2:
			w.own++ // a number that quic-go skips
		case 3, 4:
			w.forward(lost)
		default:
			if msg := w.ack(rapid.IntRange(1, 60).Draw(t, "numbers named")); msg != "" {
				return msg
			}
		}
	}
	for range 4 { // later ACKs tell of what did not fit
		w.send(false)
		if msg := w.ack(40); msg != "" {
			return msg
		}
	}
	for n := range w.acked {
		if !w.told[n] {
			return "a number that the client has acknowledged is in no ACK"
		}
	}
	return ""
}
