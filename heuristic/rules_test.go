package heuristic

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/google/go-cmp/cmp"
)

// Importances of a view of audio and video, and the last one.
const (
	audio, key, reference, extra = 10, 20, 30, 40
	last                         = datapath.MaxImportance
)

// video is a view of audio and video in groups of a second, on a path that carries carries bytes a second of media. 500 ms of the group have passed.
func video(carries uint64) *View {
	return &View{Now: 10500 * time.Millisecond, Rate: uint64(float64(carries)/payload + 1), Window: 10_000, InFlight: 10_000, SmoothedRTT: 50 * time.Millisecond, Classes: []Class{
		{Importance: audio, Rate: 10_000, Peak: 250, Group: 10_000, Streams: 50, Begun: 10 * time.Second, Period: time.Second},
		{Importance: key, Track: 1, Rate: 60_000, Peak: 60_000, Group: 60_000, Streams: 1, Begun: 10 * time.Second, Period: time.Second},
		{Importance: reference, Track: 1, Rate: 190_000, Peak: 11_000, Group: 190_000, Streams: 19, Begun: 10 * time.Second, Period: time.Second},
		{Importance: extra, Track: 1, Rate: 50_000, Peak: 6_000, Group: 50_000, Streams: 10, Begun: 10 * time.Second, Period: time.Second},
	}}
}

// with changes a view.
func (v *View) with(change func(v *View)) *View {
	change(v)
	return v
}

// TestPolicies: what each heuristic makes of a view. Rates are rounded, so is what follows from them: to thousands of bytes and hundredths.
func TestPolicies(t *testing.T) {
	slow := func(v *View) { v.Rate = 0 }
	for _, tc := range []struct {
		name string
		h    Heuristic
		v    *View
		want datapath.Policy
	}{
		{"none", &TailDrop{}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Bands: []datapath.Band{{UpTo: last}}}},
		{"none, queue", &TailDrop{Queue: time.Second}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 200_000, Bands: []datapath.Band{{UpTo: last}}}},
		{"none, rate not known", &TailDrop{}, video(1).with(slow), datapath.Policy{}},
		{"none, slowest path", &TailDrop{}, video(100), datapath.Policy{Rate: 0, Burst: 8_000, Bands: []datapath.Band{{UpTo: last}}}},

		{"random", &Random{}, video(155_000), datapath.Policy{Rate: 155_000, Burst: 77_000, Bands: []datapath.Band{{UpTo: last, Drop: 0.5}}}},
		{"random, all fits", &Random{}, video(400_000), datapath.Policy{Rate: 400_000, Burst: 200_000, Bands: []datapath.Band{{UpTo: last}}}},

		{"threshold", &Threshold{UpTo: key}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Bands: []datapath.Band{{UpTo: key}, {UpTo: last, Drop: 1}}}},
		{"threshold, all fits", &Threshold{UpTo: key}, video(400_000), datapath.Policy{Rate: 400_000, Burst: 200_000, Bands: []datapath.Band{{UpTo: last}}}},
		{"threshold, default", &Threshold{}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Bands: []datapath.Band{{UpTo: 128<<8 | 64}, {UpTo: last, Drop: 1}}}},
		{"threshold, none", &Threshold{UpTo: last}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Bands: []datapath.Band{{UpTo: last}}}},

		{"thesis", &Thesis{}, video(165_000), datapath.Policy{Rate: 165_000, Burst: 82_000, Bands: []datapath.Band{
			{UpTo: audio}, {UpTo: key}, {UpTo: reference, Drop: 0.5}, {UpTo: last, Drop: 1}}}},
		{"thesis, all fits", &Thesis{}, video(311_000), datapath.Policy{Rate: 311_000, Burst: 155_000, Bands: []datapath.Band{
			{UpTo: audio}, {UpTo: key}, {UpTo: reference}, {UpTo: last}}}},
		{"thesis, nothing came", &Thesis{}, video(1000).with(func(v *View) { v.Classes = nil }), datapath.Policy{}},

		// 60 % of 200 are audio's, which leaves all but 10; of 190 the key frames may have 114 and leave 130, of which reference frames get 78, and what is left 52.
		{"budget", &Budget{}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Bands: []datapath.Band{
			{UpTo: audio}, {UpTo: key}, {UpTo: reference, Drop: 0.59}, {UpTo: last, Drop: 0.59}}}},
		{"budget, half", &Budget{Share: 0.5}, video(60_000), datapath.Policy{Rate: 60_000, Burst: 30_000, Bands: []datapath.Band{
			{UpTo: audio}, {UpTo: key, Drop: 0.58}, {UpTo: reference, Drop: 0.93}, {UpTo: last, Drop: 0.93}}}},

		{"budget, the last has all that is left", &Budget{Share: 0.8}, video(320_000), datapath.Policy{Rate: 320_000, Burst: 160_000, Bands: []datapath.Band{
			{UpTo: audio}, {UpTo: key}, {UpTo: reference}, {UpTo: last}}}},

		{"reserve", &Reserve{}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Overflow: 50_000, Bands: []datapath.Band{
			{UpTo: audio, Overflow: true}, {UpTo: key, Reserve: 0}, {UpTo: reference, Reserve: 60_000}, {UpTo: last, Reserve: 71_000}}}},
		{"reserve, large key frames", &Reserve{}, video(100_000), datapath.Policy{Rate: 100_000, Burst: 50_000, Overflow: 25_000, Bands: []datapath.Band{
			{UpTo: audio, Overflow: true}, {UpTo: key, Reserve: 0}, {UpTo: reference, Reserve: 40_000}, {UpTo: last, Reserve: 40_000}}}},
		{"group", &Reserve{Cut: true}, video(200_000), datapath.Policy{Rate: 200_000, Burst: 100_000, Overflow: 50_000, Bands: []datapath.Band{
			{UpTo: audio, Overflow: true}, {UpTo: key, Cut: true}, {UpTo: reference, Reserve: 60_000, Cut: true}, {UpTo: last, Reserve: 71_000}}}},

		{"age", &Age{}, video(1).with(slow), datapath.Policy{Bands: []datapath.Band{{UpTo: last, MaxAge: 500 * time.Millisecond}}}},
		{"age, timeout", &Age{}, video(1).with(func(v *View) { v.Timeout = time.Second }), datapath.Policy{Bands: []datapath.Band{{UpTo: last, MaxAge: time.Second}}}},

		{"ppd, the window is the group", &PriorityDrop{}, video(1), datapath.Policy{Bands: []datapath.Band{{UpTo: last, MaxAge: 500 * time.Millisecond}}}},
		{"ppd, the group ends", &PriorityDrop{}, video(1).with(func(v *View) { v.Now += 450 * time.Millisecond }),
			datapath.Policy{Bands: []datapath.Band{{UpTo: last, MaxAge: 1050 * time.Millisecond}}}},
		{"ppd, no groups", &PriorityDrop{}, &View{Now: 100 * time.Millisecond}, datapath.Policy{Bands: []datapath.Band{{UpTo: last, MaxAge: 400 * time.Millisecond}}}},
	} {
		if got := tc.h.Policy(tc.v); !cmp.Equal(rounded(got), tc.want) {
			t.Errorf("%s: %s", tc.name, cmp.Diff(tc.want, rounded(got)))
		}
	}
}

// rounded returns a policy whose bytes are whole thousands and whose shares are whole hundredths.
func rounded(p datapath.Policy) datapath.Policy {
	down := func(n uint64) uint64 { return n / 1000 * 1000 }
	p.Rate, p.Burst, p.Overflow = down(p.Rate), down(p.Burst), down(p.Overflow)
	for i := range p.Bands {
		b := &p.Bands[i]
		b.Reserve, b.Drop = (b.Reserve+500)/1000*1000, float64(int(b.Drop*100+0.5))/100
	}
	return p
}

// TestThresholdDoesNotFlap: what was closed by an overload opens again only when there is room to spare.
func TestThresholdDoesNotFlap(t *testing.T) {
	h := &Threshold{UpTo: key}
	for i, tc := range []struct {
		carries uint64
		closed  bool
	}{{320_000, false}, {300_000, true}, {320_000, true}, {360_000, false}, {320_000, false}} {
		v := video(tc.carries)
		v.Now = time.Duration(i) * time.Second
		if p := h.Policy(v); len(p.Bands) == 2 != tc.closed {
			t.Errorf("step %d, %d bytes/s of 310000: %+v", i, tc.carries, p.Bands)
		}
	}
}

// TestPriorityDropWindows: a window begins with a group, or when the last one is over.
func TestPriorityDropWindows(t *testing.T) {
	h := &PriorityDrop{Window: 300 * time.Millisecond}
	for _, tc := range [][2]time.Duration{{0, 300}, {50, 250}, {150, 150}, {250, 350}, {300, 300}, {450, 150}} {
		p := h.Policy(&View{Now: tc[0] * time.Millisecond})
		if got := p.Bands[0].MaxAge; got != tc[1]*time.Millisecond {
			t.Errorf("at %d ms: what comes is given up after %v, want %d ms", tc[0], got, tc[1])
		}
	}
}

// TestPlanner: the plan's rate follows the path's, and what waits counts, not what the last plan believed.
func TestPlanner(t *testing.T) {
	var p Planner
	step := time.Duration(0)
	plan := func(v View) datapath.Policy {
		step += 100 * time.Millisecond
		v.Now = step
		got, ok := p.Plan(&v, 500*time.Millisecond)
		if ok == (v.Rate == 0) {
			t.Errorf("known is %v at a rate of %d", ok, v.Rate)
		}
		return rounded(got)
	}
	const rate = 105_264 // 100,000 of media
	for _, tc := range []struct {
		name        string
		v           View
		rate, burst uint64
	}{
		{"at first", View{Rate: rate, Plan: time.Hour, Backlog: 1e9}, 100_000, 50_000},
		{"as believed", View{Rate: rate, Plan: 200 * time.Millisecond, Backlog: 20_000}, 100_000, 50_000},
		{"more waits than the plan believes", View{Rate: rate, Plan: 200 * time.Millisecond, Backlog: 30_000}, 100_000, 40_000},
		{"less waits", View{Rate: rate, Plan: 200 * time.Millisecond, Backlog: 0}, 100_000, 70_000},
		{"far too much waits", View{Rate: rate, Backlog: 1e9}, 100_000, 8_000},
		{"the rate doubles", View{Rate: 2 * rate}, 120_000, 60_000},
		{"and stays", View{Rate: 2 * rate}, 136_000, 68_000},
		{"not known", View{}, 0, 0},
		{"known again", View{Rate: rate}, 100_000, 50_000},
		{"the client reports a queue", View{Rate: rate, Reported: &Report{Rate: rate / 2, Delay: time.Second, At: step}}, 90_000, 45_000},
		{"the client reports no queue", View{Rate: rate, Reported: &Report{Rate: rate / 2, Delay: time.Millisecond, At: step}}, 92_000, 46_000},
		{"an old report", View{Rate: rate, Reported: &Report{Rate: 1, Delay: time.Second, At: -time.Second}}, 93_000, 46_000},
		{"not known again", View{}, 0, 0},
		{"a window over the RTT of an empty path", View{Rate: 1000 * rate}, 100_000_000, 50_000_000},
		{"over that of a full one", View{Rate: rate}, 340_000, 170_000},
	} {
		if tc.v.Reported != nil && tc.v.Reported.At == 0 {
			tc.v.Reported.At = step
		}
		if got := plan(tc.v); got.Rate != tc.rate || got.Burst != tc.burst {
			t.Errorf("%s: rate %d burst %d, want %d and %d", tc.name, got.Rate, got.Burst, tc.rate, tc.burst)
		}
	}
}

// TestBands: of more classes than a policy has bands, those of which little comes are put together.
func TestBands(t *testing.T) {
	v := &View{}
	for i := range uint16(10) {
		c := Class{Importance: i, Rate: 100, Peak: uint64(100 - i), Streams: 1, Offered: Count{Bytes: 1}}
		if i == 4 || i == 5 || i == 8 {
			c.Rate = 1
		}
		v.Classes = append(v.Classes, c)
	}
	got := bands(v)
	var ends []uint16
	for _, c := range got {
		ends = append(ends, c.Importance)
	}
	if want := []uint16{0, 1, 2, 3, 5, 6, 8, 9}; !cmp.Equal(ends, want) {
		t.Errorf("bands end at %v, want %v", ends, want)
	}
	if five := got[4]; five.Rate != 2 || five.Peak != 96 || five.Streams != 2 || five.Offered.Bytes != 2 {
		t.Errorf("two classes together are %+v", five)
	}
	if len(v.Classes) != 10 || v.Classes[4].Rate != 1 {
		t.Error("the view was changed")
	}
}
