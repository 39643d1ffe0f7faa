package run

import (
	"bytes"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
)

// TestWaits: what is not more important than what waits in userspace waits too, though the budget has room.
func TestWaits(t *testing.T) {
	w, err := newWorld(Config{Scenario: load(t, "half-rate"), Heuristic: "admit-all", Congestion: "scream", Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := w.clients[0]
	key, audio := w.program.streams[w.program.objects[0].stream].first, int32(-1)
	for _, o := range w.program.objects {
		if o.class == Audio {
			audio = w.program.streams[o.stream].first
			break
		}
	}
	c.space.SetWaiting(uint32(c.importanceOf(w.program.pieces[key].stream)))
	c.egress(key)
	c.egress(audio)
	if c.stats.forwarded != 1 || c.pieces[audio]&pieceFlight == 0 || c.pieces[key]&pieceFlight != 0 || c.held != uint64(w.program.pieces[key].size) {
		t.Errorf("%d were sent, %d bytes are held; want the audio sent, and the key frame held", c.stats.forwarded, c.held)
	}
	c.flush()
	if c.stats.repairs != 1 || c.held != 0 || c.space.Waits(datapath.MaxImportance) {
		t.Errorf("userspace sent %d packets, %d bytes are held; want all sent, and nothing waiting", c.stats.repairs, c.held)
	}
}

// TestDecodable: a frame counts if it was in time, and so was everything that it needs.
func TestDecodable(t *testing.T) {
	s := load(t, "half-rate")
	w, err := newWorld(Config{Scenario: s, Heuristic: "admit-all", Congestion: "scream", Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := w.clients[0]
	frame := 0
	for i, o := range w.program.objects {
		c.receiver.delivered[i] = epoch + o.at + int64(50*time.Millisecond)
		if o.track == trackVideo {
			switch frame++; frame {
			case 5: // a reference frame of the first group is missing: 1, 2, 3, 4 and nothing else of it
				c.receiver.delivered[i] = 0
			case 32: // the second of the second group is late: its key frame and nothing else
				c.receiver.delivered[i] += s.Playout.Nanoseconds()
			case 63: // the third of the third group, which nothing needs
				c.receiver.delivered[i] = 0
			}
		}
	}
	var r Result
	var all, video samples
	c.look(&r, make([]bool, len(w.program.objects)), s.Playout.Nanoseconds(), &all, &video)
	want := 900 - 26 - 29 - 1
	if got := r.Classes[Key].Decodable + r.Classes[Reference].Decodable + r.Classes[NonReference].Decodable; got != want || len(video) != want {
		t.Errorf("%d frames are decodable, %d delays; want %d", got, len(video), want)
	}
	if r.Classes[Key].Decodable != 30 || r.Classes[NonReference].Decodable != 300-9-10-1 || r.Classes[Reference].Late != 1 {
		t.Errorf("%+v", r.Classes)
	}
	if r.Stalls != 2 { // the rests of two groups
		t.Errorf("%d stalls of %.2f s, want 2", r.Stalls, r.StallTime)
	}
}

// TestAcknowledgments: every second packet, and 25 ms after one alone.
func TestAcknowledgments(t *testing.T) {
	s := parse(t, `
duration = "10s"
control = "59s"
[media]
bitrate = "1Mbit"
fps = 20
group = 20
key = 1.0
reference = 1.0
every = 0
audio = 0.0
variation = 0.0
[[link]]
rate = "10Mbit"
`)
	var pcap, qlog bytes.Buffer
	trace, err := NewTrace(&pcap, &qlog, "")
	if err != nil {
		t.Fatal(err)
	}
	r := simulate(t, Config{Scenario: s, Heuristic: heuristic.Default, Seed: 1, Trace: trace})
	if err := trace.Close(); err != nil {
		t.Fatal(err)
	}
	// A frame is five packets: two ACKs at once, and one for the last.
	acks := readQlog(t, &qlog)["transport:packet_received"]
	if frames := uint64(200); r.Forwarded != 5*frames || acks < 3*frames-2 || acks > 3*frames+acks/ownEvery {
		t.Errorf("%d ACKs for %d packets of %d frames", acks, r.Forwarded, frames)
	}
}

// TestLostControl: control messages that are lost are sent again, until they arrive. Where nothing waits, no others are late.
func TestLostControl(t *testing.T) {
	s := parse(t, `
duration = "20s"
control = "50ms"
[media]
bitrate = "500kbit"
[[link]]
rate = "10Mbit"
loss = 0.1
`)
	r := simulate(t, Config{Scenario: s, Heuristic: heuristic.Default, Seed: 1})
	if r.ControlSent < 390 || r.Control.N < r.ControlSent-1 || r.ControlInTime > r.ControlSent*97/100 || r.ControlLost != r.ControlSent-r.ControlInTime {
		t.Errorf("%d sent, %d arrived, %d within two round trips, %d others lost", r.ControlSent, r.Control.N, r.ControlInTime, r.ControlLost)
	}
}
