package heuristic

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestEveryPolicyIsValid: whatever it is shown, one view after the other, no heuristic makes a policy that is refused, and none panics.
func TestEveryPolicyIsValid(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				h, err := New(name)
				if err != nil {
					t.Fatal(err)
				}
				for range rapid.IntRange(1, 5).Draw(t, "views") {
					v := drawView(t)
					p := h.Policy(v)
					if err := p.Check(); err != nil {
						t.Fatalf("%+v: %v", v, err)
					}
				}
			})
		})
	}
}

// TestNonsenseIsSurvived: views that were found to break something.
func TestNonsenseIsSurvived(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(v *View)
	}{
		{"negative span", func(v *View) { v.Classes[2].Span = -2 * time.Second }},
		{"endless timeout", func(v *View) { v.Timeout = math.MaxInt64 }},
		{"endless deviation", func(v *View) {
			v.Now, v.Timeout = 11200*time.Millisecond, time.Second
			v.Classes[1].Deviation, v.Classes[1].Peak = math.MaxInt64, 0
		}},
		{"far too much of all", func(v *View) { v.Rate, v.Plan, v.Classes[0].Peak = math.MaxUint64, math.MaxInt64, math.MaxUint64 }},
	} {
		for _, name := range Names() {
			h, err := New(name)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				p := h.Policy(video(200_000).with(tc.change))
				if err := p.Check(); err != nil {
					t.Errorf("%s, %s: %v", name, tc.name, err)
				}
			}
		}
	}
}

// drawView draws any view whose classes are in order.
func drawView(t *rapid.T) *View {
	amount := rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(0, 1e7), rapid.Uint64())
	span := rapid.OneOf(rapid.Just(time.Duration(0)), rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "span"))
	}), rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "any span")) }))
	v := &View{
		Now: span.Draw(t, "now"), Rate: amount.Draw(t, "rate"), Window: amount.Draw(t, "window"), InFlight: amount.Draw(t, "in flight"),
		SmoothedRTT: span.Draw(t, "rtt"), MinRTT: span.Draw(t, "min rtt"), Sent: amount.Draw(t, "sent"), Lost: amount.Draw(t, "lost"),
		Backlog: amount.Draw(t, "backlog"), Plan: span.Draw(t, "plan"), LastInterval: span.Draw(t, "last interval"), Timeout: span.Draw(t, "timeout"),
	}
	if rapid.Bool().Draw(t, "report") {
		v.Reported = &Report{Rate: amount.Draw(t, "reported"), Delay: span.Draw(t, "delay"), At: span.Draw(t, "at")}
	}
	importance := -1
	for importance < math.MaxUint16 && rapid.IntRange(0, 9).Draw(t, "more") > 0 {
		importance = rapid.IntRange(importance+1, math.MaxUint16).Draw(t, "importance")
		streams := rapid.OneOf(rapid.Just(uint64(1)), amount)
		v.Classes = append(v.Classes, Class{
			Importance: uint16(importance), Track: rapid.Uint64Range(0, 3).Draw(t, "track"), Rate: amount.Draw(t, "class rate"), Peak: amount.Draw(t, "peak"), Span: span.Draw(t, "stream span"),
			Group: amount.Draw(t, "group"), Streams: streams.Draw(t, "streams"), Begun: span.Draw(t, "begun"), Period: span.Draw(t, "period"),
			Deviation: span.Draw(t, "deviation"), Shed: amount.Draw(t, "shed"),
			Offered: Count{amount.Draw(t, "offered"), amount.Draw(t, "offered streams")}, Dropped: Count{amount.Draw(t, "dropped"), amount.Draw(t, "dropped streams")},
		})
	}
	return v
}

// TestMeterIsTrue: a meter's classes are in order, and count what was offered, whatever was.
func TestMeterIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Meter
		var v View
		var bytes, dropped uint64
		var got, lost Count
		for range rapid.IntRange(1, 200).Draw(t, "frames") {
			v.Now += time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "after"))
			n := rapid.IntRange(-1, 2000).Draw(t, "bytes")
			reason := rapid.SampledFrom(allReasons).Draw(t, "reason")
			m.Offer(v.Now, rapid.Uint16().Draw(t, "importance"), rapid.Uint64Range(0, 2).Draw(t, "track"), rapid.Uint64().Draw(t, "group"), rapid.Uint64Range(0, 100).Draw(t, "stream"), n, reason)
			bytes += uint64(max(n, 0))
			if reason.Dropped() {
				dropped += uint64(max(n, 0))
			}
			if rapid.IntRange(0, 9).Draw(t, "view") == 0 {
				m.View(&v)
				for i, c := range v.Classes {
					if i > 0 && c.Importance <= v.Classes[i-1].Importance || len(v.Classes) > MaxClasses {
						t.Fatalf("classes are not in order, or too many: %+v", v.Classes)
					}
					if c.Offered.Bytes != c.Admitted.Bytes+c.Dropped.Bytes {
						t.Fatalf("offered is not admitted and dropped: %+v", c)
					}
					got.add(c.Offered.Bytes, 0)
					lost.add(c.Dropped.Bytes, 0)
				}
			}
		}
		m.View(&v)
		for _, c := range v.Classes {
			got.add(c.Offered.Bytes, 0)
			lost.add(c.Dropped.Bytes, 0)
		}
		if got.Bytes != bytes || lost.Bytes != dropped {
			t.Fatalf("%d bytes offered and %d dropped were counted, %d and %d were", got.Bytes, lost.Bytes, bytes, dropped)
		}
	})
}

func BenchmarkPolicy(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			h, err := New(name)
			if err != nil {
				b.Fatal(err)
			}
			v := video(200_000)
			for b.Loop() {
				v.Now += Interval
				h.Policy(v)
			}
		})
	}
}

func BenchmarkMeter(b *testing.B) {
	var m Meter
	i := uint64(0)
	for b.Loop() {
		i++
		m.Offer(time.Duration(i)*time.Microsecond, uint16(i%4), 1, i/1000, i/4, 1200, 0)
	}
}
