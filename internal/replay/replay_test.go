package replay

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"pgregory.net/rapid"
)

type nopCloser struct{ *bytes.Buffer }

func (nopCloser) Close() error { return nil }

// recording is a file of a policy and records of decisions that a Space takes.
func recording(t *rapid.T) (file *bytes.Buffer, decisions int) {
	file = new(bytes.Buffer)
	w := NewWriter(nopCloser{file})
	space := datapath.NewSpace(nil, func() uint64 { return 0 })
	space.Reset()
	start := time.Unix(1_000_000, 0)
	now := uint64(0)
	cut, number := map[datapath.TrackID]uint64{}, uint64(1000)
	opened := map[uint64]*datapath.RecordFrame{}
	for range rapid.IntRange(1, 4).Draw(t, "policies") {
		p := datapath.Policy{Rate: rapid.Uint64Range(0, 1e5).Draw(t, "rate"), Burst: rapid.Uint64Range(0, 3000).Draw(t, "burst"), Overflow: 500, Bands: []datapath.Band{
			{UpTo: 100<<8 | 9, Overflow: true}, {UpTo: datapath.MaxImportance, Reserve: 500, Drop: 0.3, Cut: rapid.Bool().Draw(t, "cut")}}}
		if err := space.SetPolicy(&p); err != nil {
			t.Fatal(err)
		}
		w.Policy(Policy{Version: space.PolicyVersion(), Policy: p})
		for range rapid.IntRange(0, 20).Draw(t, "records") {
			now += rapid.Uint64Range(0, 20e6).Draw(t, "pause")
			f := datapath.RecordFrame{UpstreamStream: rapid.Uint64Range(0, 30).Draw(t, "stream")<<2 | 2, Track: 3, Group: rapid.Uint64Range(1, 3).Draw(t, "group"),
				Priority: rapid.Uint8Range(0, 20).Draw(t, "priority"), Subscriber: 100, Length: 200 + rapid.Uint32Range(0, 1000).Draw(t, "length")}
			f.Datagram = rapid.IntRange(0, 3).Draw(t, "kind") == 0
			f.Opened = !f.Datagram && opened[f.UpstreamStream] == nil
			if f.Datagram {
				f.Track = 4
			} else if before := opened[f.UpstreamStream]; before != nil {
				if before.Reason.Dropped() {
					continue // nothing is recorded of it any more
				}
				f.Priority, f.Group, f.Offset = before.Priority, before.Group, before.Offset+uint64(before.Length)
			}
			f.Cut = cut[f.Track]
			o := datapath.Offer{Importance: datapath.Importance(f.Subscriber, f.Priority), Group: f.Group, Sample: f.UpstreamStream >> 2, Size: uint64(f.Length),
				Cut: f.Cut, Started: !f.Datagram && !f.Opened}
			if f.Datagram {
				number += rapid.Uint64Range(0, 2).Draw(t, "packets")
				o.Sample = number
			}
			plan := space.PlanTime()
			f.Plan = time.Duration(plan - min(plan, now))
			reason, cuts := space.Admit(now, &o)
			f.Reason = reason
			if cuts {
				cut[f.Track] = max(f.Cut, f.Group+1)
			}
			if !f.Datagram {
				opened[f.UpstreamStream] = &f
			}
			if reason == datapath.Forwarded {
				space.ChargePlan(now, o.Size)
			}
			w.Record(&datapath.Record{Time: start.Add(time.Duration(now)), Policy: space.PolicyVersion(), UpstreamNumber: o.Sample, Frames: []datapath.RecordFrame{f}})
			decisions++
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file, decisions
}

// TestDecisionsAgree: what a Space decides, the simulator decides again; and if a record is changed, it shows.
func TestDecisionsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		file, decisions := recording(t)
		r, err := Run(bytes.NewReader(file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if r.Decisions != decisions || r.Differ != 0 || r.Unknown != 0 {
			t.Fatalf("%d decisions: %+v", decisions, r)
		}
		if decisions == 0 {
			return
		}
		lines := strings.SplitAfter(file.String(), "\n")
		i := rapid.IntRange(0, len(lines)-1).Filter(func(i int) bool { return strings.Contains(lines[i], "record") }).Draw(t, "line")
		var e Event
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil {
			t.Fatal(err)
		}
		f := &e.Record.Frames[0]
		if f.Reason == datapath.Forwarded {
			f.Reason = datapath.ReasonDropReserve
		} else {
			f.Reason = datapath.Forwarded
		}
		b, _ := json.Marshal(e)
		lines[i] = string(b) + "\n"
		if r, err = Run(strings.NewReader(strings.Join(lines, ""))); err != nil || r.Differ == 0 || len(r.Examples) == 0 {
			t.Fatalf("a changed decision is not noticed: %+v, %v", r, err)
		}
	})
}

func TestReadErrors(t *testing.T) {
	policy := `{"policy":{"client":0,"generation":0,"version":1,"policy":{"Bands":[{"UpTo":65535}]}}}` + "\n"
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{policy, ""},
		{policy + `{"record":{"Fra`, ""}, // the writer was killed
		{`{"policy":{"cli`, "no event of a recording is in it"},
		{policy + "nonsense\n", "line 2: not an event"},
		{policy + "{}\n", "line 2: an event has a policy or a record"},
		{`{"policy":{"policy":{"Bands":[{"UpTo":1}]}}}` + "\n", "line 1: policy's last band"},
		{policy + `{"record":{"Policy":1,"Frames":[{"UpstreamStream":2,"Length":3,"Opened":true}]}}` + "\n", "line 2: frame of 3 bytes cannot"},
	} {
		r, err := Run(strings.NewReader(tc.text))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
		}
		if cut := !strings.HasSuffix("\n"+tc.text, "\n"); err == nil && r.Cut != cut {
			t.Errorf("%q: cut is %v", tc.text, r.Cut)
		}
	}
}
