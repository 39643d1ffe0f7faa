package run

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// TestTrace: capture and qlog have each packet of the run, with its size and what it carries, and tracing changes nothing.
func TestTrace(t *testing.T) {
	s := parse(t, `
duration = "5s"
description = "a \"quoted\" name"
[media]
bitrate = "2Mbit"
[[link]]
rate = "1Mbit"
loss = 0.02
`)
	c := Config{Scenario: s, Heuristic: heuristic.Default, Seed: 1}
	plain := simulate(t, c)
	var pcap, qlog bytes.Buffer
	var err error
	if c.Trace, err = NewTrace(&pcap, &qlog, `a "quoted" name, ü`); err != nil {
		t.Fatal(err)
	}
	r := simulate(t, c)
	if err := c.Trace.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Packets != plain.Packets || r.Classes != plain.Classes {
		t.Errorf("with traces %+v, without %+v", r, plain)
	}
	sent, acks := readPcap(t, &pcap)
	if sent != r.Packets || acks == 0 {
		t.Errorf("%d packets and %d ACKs are captured, %d packets were sent", sent, acks, r.Packets)
	}
	events := readQlog(t, &qlog)
	if events["transport:packet_sent"] != sent || events["transport:packet_received"] != acks || events["recovery:packet_lost"] != r.Lost {
		t.Errorf("events are %v; %d sent, %d ACKs, %d lost", events, sent, acks, r.Lost)
	}
	gone := uint64(0)
	for _, f := range r.Classes {
		gone += uint64(sum(&f.Dropped))
	}
	if events["fastrelay:stream_dropped"] != gone || gone == 0 || events["fastrelay:policy_set"] == 0 || events["recovery:metrics_updated"] < acks/2 || events["recovery:metrics_updated"] > acks {
		t.Errorf("events are %v; %d streams were dropped", events, gone)
	}
}

func readPcap(t *testing.T, b *bytes.Buffer) (sent, acks uint64) {
	t.Helper()
	r, err := pcapgo.NewReader(b)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if err != nil {
			return sent, acks
		}
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || info.Length > maxSize+udpIP+14 || info.CaptureLength > snap || int(udp.Length)+20+14 != info.Length {
			t.Fatalf("%+v: %v", info, p)
		}
		quic := udp.Payload
		number := uint64(quic[1+dcidLen])<<24 | uint64(quic[2+dcidLen])<<16 | uint64(quic[3+dcidLen])<<8 | uint64(quic[4+dcidLen])
		fromRelay := udp.SrcPort == 4433
		want := acks
		if fromRelay {
			want = sent
		}
		if number != want {
			t.Fatalf("packet number %d, want %d", number, want)
		}
		var f wire.Frame
		if _, err := f.Parse(append(quic[5+dcidLen:], make([]byte, maxSize)...)); err != nil {
			t.Fatalf("packet %d: %v", number, err)
		}
		if fromRelay {
			sent++
		} else {
			if !f.IsAck() {
				t.Fatalf("the subscriber sends %+v", f)
			}
			acks++
		}
	}
}

func readQlog(t *testing.T, b *bytes.Buffer) map[string]uint64 {
	t.Helper()
	events := map[string]uint64{}
	last := -1.0
	for i, line := range bytes.Split(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("\n")) {
		text, ok := bytes.CutPrefix(line, []byte{0x1e})
		var e struct {
			Time  float64
			Name  string
			Data  map[string]any
			Trace map[string]any
		}
		if err := json.Unmarshal(text, &e); err != nil || !ok {
			t.Fatalf("line %d: %v: %q", i, err, line)
		}
		if i == 0 {
			if e.Trace == nil {
				t.Fatalf("the first line is %s", line)
			}
			continue
		}
		if e.Time < last || e.Name == "" || e.Data == nil {
			t.Fatalf("line %d is %s, after %v", i, line, last)
		}
		last = e.Time
		events[e.Name]++
	}
	return events
}
