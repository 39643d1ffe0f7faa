package heuristic

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/google/go-cmp/cmp"
)

// TestLive: how many bytes may wait when a stream of each class begins. The path carries 200,000 bytes a second, of 310,000 that come, and
// a second of that may wait at most.
func TestLive(t *testing.T) {
	const full = 200_000
	at := func(phase time.Duration) func(v *View) {
		return func(v *View) { v.Now = 10*time.Second + phase*time.Millisecond }
	}
	video := func(change ...func(v *View)) *View {
		v := video(full)
		for _, c := range change {
			c(v)
		}
		return v
	}
	type band struct {
		depth         uint64
		overflow, cut bool
	}
	top := band{full, true, false}
	for _, tc := range []struct {
		name string
		v    *View
		want []band
	}{
		// Reference frames have 190,000 bytes/s beside the audio; those that nothing needs have nothing.
		{"begin of a group", video(at(0)), []band{top, top, {190_000, false, true}, {0, false, false}}},
		{"half of it", video(at(500)), []band{top, top, {95_000, false, true}, {0, false, false}}},
		{"late in it", video(at(800)), []band{top, top, {38_000, false, true}, {0, false, false}}},
		{"before the next", video(at(900)), []band{top, top, {190_000, false, true}, {0, false, false}}},
		{"the next is late", video(at(1200)), []band{top, top, {190_000, false, true}, {0, false, false}}},
		{"it has been cut", video(at(800), func(v *View) { v.Classes[2].Shed = 1 }), []band{top, top, {190_000, false, true}, {0, false, false}}},
		{"groups vary", video(at(500), func(v *View) { v.Classes[1].Deviation = 100 * time.Millisecond }),
			[]band{top, top, {114_000, false, true}, {0, false, false}}},
		{"key frame begins before reference frames do", video(at(500), func(v *View) { v.Classes[2].Begun = 0 }),
			[]band{top, top, {95_000, false, true}, {0, false, false}}},

		{"reference frames fit", video(at(500), func(v *View) { v.Classes[2].Rate = 100_000 }),
			[]band{top, top, {95_000, false, true}, {45_000, false, false}}},
		{"all fits", video(at(500), func(v *View) { v.Classes[2].Rate = 70_000 }),
			[]band{top, top, {95_000, false, true}, {85_000, false, false}}},
		{"all fits, late", video(at(1000), func(v *View) { v.Classes[2].Rate = 70_000 }),
			[]band{top, top, {190_000, false, true}, {25_000, false, false}}},

		// With short groups the frames that nothing needs may wait until the references are gone.
		{"short groups", video(at(100), func(v *View) {
			v.Classes[2].Rate = 200_000
			for i := range v.Classes {
				v.Classes[i].Period = 500 * time.Millisecond
			}
		}), []band{top, top, {76_000, false, true}, {76_000, false, false}}},

		{"no groups yet", video(at(500), func(v *View) {
			for i := range v.Classes {
				v.Classes[i].Period = 0
			}
		}), []band{top, top, {190_000, false, true}, {0, false, false}}},
		{"one importance", video(at(500), func(v *View) {
			c := v.Classes[2]
			c.Peak = 60_000
			v.Classes = []Class{v.Classes[0], c}
		}), []band{top, {95_000, false, true}}},
		{"audio alone", video(func(v *View) { v.Classes = v.Classes[:1] }), []band{top}},
		{"no audio", video(at(500), func(v *View) { v.Classes = v.Classes[1:] }), []band{top, {100_000, false, true}, {5_000, false, false}}},

		// A catalog begins no groups of audio, and audio does not follow key frames because it is less important than they are.
		{"catalog", video(at(500), catalog(1000, 0)), []band{top, top, top, {95_000, false, true}, {0, false, false}}},
		{"catalog in each group", video(at(500), catalog(1000, time.Second)), []band{top, top, top, {95_000, false, true}, {0, false, false}}},
		{"large catalog in each group", video(at(500), catalog(7000, time.Second)), []band{top, top, top, {92_000, false, true}, {0, false, false}}},
		{"catalog and audio", video(at(500), catalog(1000, time.Second), func(v *View) { v.Classes = v.Classes[:2] }), []band{top, top}},
		{"audio behind key frames", video(at(500), func(v *View) {
			v.Classes[0], v.Classes[1] = v.Classes[1], v.Classes[0]
			v.Classes[0].Importance, v.Classes[1].Importance = audio, key
		}), []band{top, top, {95_000, false, true}, {0, false, false}}},

		// A second track is sent from what the first leaves: 200,000 less 10,000, 60,000 and 110,000.
		{"second track", video(at(500), func(v *View) {
			v.Classes[2].Rate = 110_000
			v.Classes[3] = v.Classes[1]
			v.Classes[3].Importance, v.Classes[3].Rate, v.Classes[3].Track = 40, 5_000, 2
			more := v.Classes[2]
			more.Importance, more.Track = 50, 2
			v.Classes = append(v.Classes, more)
		}), []band{top, top, {95_000, false, true}, {20_000, false, false}, {10_000, false, true}}},

		{"a layer that fits", video(func(v *View) { layered(v, 100_000) }), []band{top, top, {100_000, false, false}}},
		{"half of a layer fits", video(func(v *View) { layered(v, 180_000) }), []band{top, top, {100_000, false, false}}},
		{"a layer that does not fit", video(func(v *View) { layered(v, 1_000_000) }), []band{top, top, {0, false, false}}},
		{"a layer of which more may fit", video(func(v *View) { layered(v, 700_000); v.InFlight = 0 }), []band{top, top, {100_000, false, false}}},
	} {
		p := (&Live{}).Policy(tc.v)
		if err := p.Check(); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		var got []band
		for _, b := range p.Bands {
			got = append(got, band{(p.Burst - min(b.Reserve, p.Burst) + 500) / 1000 * 1000, b.Overflow, b.Cut})
		}
		if o := rounded(p).Overflow; len(tc.v.Classes) == 4 && o != 170_000 && tc.v.Classes[1].Peak == 60_000 {
			t.Errorf("%s: overflow is %d, a quarter of what may wait and two key frames are 170000", tc.name, o)
		}
		if !cmp.Equal(got, tc.want, cmp.AllowUnexported(band{})) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// catalog adds one of n bytes to a view, most important.
func catalog(n uint64, period time.Duration) func(v *View) {
	return func(v *View) {
		v.Classes = append([]Class{{Importance: 1, Track: 9, Rate: n, Peak: n, Group: n, Streams: 1, Begun: 10 * time.Second, Period: period}}, v.Classes...)
	}
}

// layered makes a view that of two layers, a stream for each in a group; rate is that of the second.
func layered(v *View, rate uint64) {
	for i := range 2 {
		c := &v.Classes[i+1]
		c.Rate, c.Peak, c.Group, c.Streams, c.Span = 90_000, 90_000, 90_000, 1, 900*time.Millisecond
	}
	v.Classes[2].Rate = rate
	v.Classes = v.Classes[:3]
}

// TestLiveAges: what is given up, and when.
func TestLiveAges(t *testing.T) {
	for _, tc := range []struct {
		name    string
		timeout time.Duration
		rate    uint64
		burst   uint64
		want    [3]time.Duration
	}{
		// Without a deadline of the subscriber's, a second.
		{"none", 0, 100_000, 200_000, [3]time.Duration{time.Second, time.Second, time.Second}},
		// Of a deadline the path's own delay is taken off: of 400 ms there are 310 in which to wait.
		{"400 ms", 400 * time.Millisecond, 100_000, 62_000, [3]time.Duration{400 * time.Millisecond, 400 * time.Millisecond, 400 * time.Millisecond}},
		// Half of the second layer fits: as much of it as waits for no longer than anything may.
		{"half of a layer", 400 * time.Millisecond, 200_000, 62_000, [3]time.Duration{400 * time.Millisecond, 400 * time.Millisecond, 310 * time.Millisecond}},
	} {
		v := video(200_000)
		layered(v, tc.rate)
		v.Timeout = tc.timeout
		p := (&Live{}).Policy(v)
		var got [3]time.Duration
		for i, b := range p.Bands {
			got[i] = b.MaxAge.Round(10 * time.Millisecond)
		}
		if burst := rounded(p).Burst; got != tc.want || burst != tc.burst {
			t.Errorf("%s: ages are %v of a burst of %d; want %v, %d", tc.name, got, burst, tc.want, tc.burst)
		}
	}
}

// TestLiveUnknown: until something is known everything is admitted, and given up when it is of no use any more.
func TestLiveUnknown(t *testing.T) {
	for _, v := range []*View{{}, {Rate: 1000}, video(1).with(func(v *View) { v.Rate = 0 })} {
		for timeout, age := range map[time.Duration]time.Duration{0: time.Second, 300 * time.Millisecond: 300 * time.Millisecond} {
			v.Timeout = timeout
			want := datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, MaxAge: age}}}
			if p := (&Live{}).Policy(v); !cmp.Equal(p, want) {
				t.Errorf("%+v: %+v", v, p)
			}
		}
	}
}

// TestLiveOvertaken: with a deadline of a second and 50 ms of RTT, what is still there when the next key frame comes, which takes 300 ms, is given up if
// it cannot be in time behind it.
func TestLiveOvertaken(t *testing.T) {
	for _, tc := range []struct{ phase, deviation, want time.Duration }{
		{200, 0, 900}, {400, 0, 700}, {600, 0, 1000}, {900, 0, 1000}, {400, 50, 800},
	} {
		v := video(200_000)
		v.Now, v.Timeout = 10*time.Second+tc.phase*time.Millisecond, time.Second
		v.Classes[1].Deviation = tc.deviation * time.Millisecond
		p := (&Live{}).Policy(v)
		for i, want := range []time.Duration{1000, 1000, tc.want, tc.want} {
			if got := p.Bands[i].MaxAge; got != want*time.Millisecond {
				t.Errorf("%d ms after the group began, class %d is given up after %v, want %d ms", tc.phase, i, got, want)
			}
		}
	}
}
