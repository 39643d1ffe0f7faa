package datapath

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPolicyIsRefused(t *testing.T) {
	all := func(b ...Band) []Band {
		b[len(b)-1].UpTo = MaxImportance
		return b
	}
	for _, tc := range []struct {
		name string
		p    Policy
		want string
	}{
		{"none", Policy{}, ""},
		{"one band", Policy{Bands: all(Band{})}, ""},
		{"eight bands", Policy{Bands: all(Band{}, Band{UpTo: 1}, Band{UpTo: 2}, Band{UpTo: 3}, Band{UpTo: 4}, Band{UpTo: 5}, Band{UpTo: 6}, Band{})}, ""},
		{"nine bands", Policy{Bands: make([]Band, 9)}, "9 bands"},
		{"end", Policy{Bands: []Band{{UpTo: 7}}}, "must end at 65535"},
		{"order", Policy{Bands: all(Band{UpTo: 5}, Band{UpTo: 5}, Band{})}, "not behind band 0"},
		{"share", Policy{Bands: all(Band{Drop: 1.5})}, "from 0 to 1"},
		{"share", Policy{Bands: all(Band{Drop: nan()})}, "from 0 to 1"},
		{"age", Policy{Bands: all(Band{MaxAge: -1})}, "negative age"},
		{"rate", Policy{Rate: 1 << 50, Bands: all(Band{})}, "rate"},
		{"burst", Policy{Burst: 1 << 50, Bands: all(Band{})}, "burst"},
		{"reserve", Policy{Bands: all(Band{Reserve: 2}, Band{Reserve: 1})}, "not monotone"},
		{"overflow", Policy{Bands: all(Band{}, Band{Overflow: true})}, "not monotone"},
		{"drop", Policy{Bands: all(Band{Drop: 0.5}, Band{Drop: 0.4})}, "not monotone"},
		{"groups", Policy{Bands: all(Band{Drop: 0.5}, Band{Drop: 0.5, ByGroup: true})}, "not monotone"},
	} {
		s := NewSpace(nil, nil)
		s.Reset()
		err := s.SetPolicy(&tc.p)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if v := s.PolicyVersion(); (v == 1) != (err == nil) {
			t.Errorf("%s: version %d with error %v", tc.name, v, err)
		}
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}

// layered is a policy of three bands at 1 MB/s: a millisecond is 1000 bytes.
func layered() *Policy {
	return &Policy{Rate: 1e6, Burst: 10_000, Overflow: 5_000, Bands: []Band{
		{UpTo: 9, Overflow: true}, {UpTo: 19, Reserve: 4000, Cut: true}, {UpTo: MaxImportance, Reserve: 8000, Drop: 0.25}}}
}

func TestAdmit(t *testing.T) {
	const ms = 1e6
	for _, tc := range []struct {
		name string
		plan uint64 // bytes drawn and not given back yet
		o    Offer
		want Reason
		cuts bool
	}{
		{name: "most important", o: Offer{Importance: 9, Size: 1000}, plan: 13_900, want: Forwarded},
		{name: "most important, bucket empty", o: Offer{Importance: 0, Size: 1000}, plan: 14_100, want: ReasonDropReserve},
		{name: "middle", o: Offer{Importance: 10, Size: 1000}, plan: 4_900, want: Forwarded},
		{name: "middle, into the reserve", o: Offer{Importance: 19, Size: 1000}, plan: 5_100, want: ReasonDropReserve, cuts: true},
		{name: "least", o: Offer{Importance: 20, Size: 1000, Sample: 1}, plan: 900, want: Forwarded},
		{name: "least, into the reserve", o: Offer{Importance: 0xffff, Size: 1000, Sample: 1}, plan: 1100, want: ReasonDropReserve},
		{name: "least, sampled", o: Offer{Importance: 20, Size: 1000, Sample: 0}, want: ReasonDropShare},
		{name: "middle, the same sample", o: Offer{Importance: 19, Size: 1000, Sample: 0}, want: Forwarded},
		{name: "started", o: Offer{Importance: 0xffff, Size: 1000, Started: true}, plan: 13_900, want: Forwarded},
		{name: "started, bucket empty", o: Offer{Importance: 15, Size: 1000, Started: true}, plan: 14_100, want: ReasonDropReserve, cuts: true},
		{name: "group was cut", o: Offer{Importance: 0, Size: 1, Group: 7, Cut: 8}, want: ReasonDropGroup},
		{name: "another group was cut", o: Offer{Importance: 0, Size: 1, Group: 8, Cut: 8}, want: Forwarded},
		{name: "started before its group was cut", o: Offer{Importance: 0, Size: 1, Group: 7, Cut: 8, Started: true}, want: Forwarded},
	} {
		s := NewSpace(nil, nil)
		s.Reset()
		now := uint64(1e9)
		s.ChargePlan(now, 1e6) // without a policy nothing is drawn
		if err := s.SetPolicy(layered()); err != nil {
			t.Fatal(err)
		}
		s.ChargePlan(now, tc.plan)
		if got := s.PlanTime(); tc.plan > 0 && (got < now+tc.plan*ms/1000-ms/10 || got > now+tc.plan*ms/1000) {
			t.Errorf("%s: plan is full %d ns after now, drawn were %d bytes", tc.name, got-now, tc.plan)
		}
		got, cuts := s.Admit(now, &tc.o)
		if got != tc.want || cuts != tc.cuts {
			t.Errorf("%s: %v, cuts %v; want %v, %v", tc.name, got, cuts, tc.want, tc.cuts)
		}
	}
}

// TestShareIsASpread: of streams that follow each other the share that is dropped is exact within a few, in every stretch.
func TestShareIsASpread(t *testing.T) {
	s := NewSpace(nil, nil)
	s.Reset()
	for _, share := range []float64{0, 0.1, 0.5, 0.9, 1} {
		if err := s.SetPolicy(&Policy{Bands: []Band{{UpTo: MaxImportance, Drop: share}}}); err != nil {
			t.Fatal(err)
		}
		for from := uint64(0); from < 1000; from += 100 {
			n := 0.0
			for i := range uint64(100) {
				if r, _ := s.Admit(1, &Offer{Sample: from + i}); r == ReasonDropShare {
					n++
				}
			}
			if n < 100*share-3 || n > 100*share+3 {
				t.Errorf("%v of 100 dropped with a share of %v", n, share)
			}
		}
	}
}

func TestWaiting(t *testing.T) {
	s := NewSpace(nil, nil)
	s.Reset()
	if s.Waits(MaxImportance) {
		t.Error("a new client's media wait")
	}
	s.SetWaiting(5)
	if s.Waits(4) || !s.Waits(5) || !s.Waits(6) {
		t.Error("what is as important as what waits, or less, waits; and nothing else")
	}
}

// TestPolicyIsMonotone: whatever policy is accepted, if something is admitted, so is everything that is more important (P8).
func TestPolicyIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Rate: rapid.Uint64Range(0, 1e8).Draw(t, "rate"), Burst: rapid.Uint64Range(0, 1e6).Draw(t, "burst"), Overflow: rapid.Uint64Range(0, 1e6).Draw(t, "overflow")}
		byGroup := rapid.Bool().Draw(t, "by group")
		n := rapid.IntRange(1, Bands).Draw(t, "bands")
		overflow, reserve, share := rapid.IntRange(0, n).Draw(t, "bands that may overflow"), uint64(0), 0.0
		for i := range n {
			if rapid.Bool().Draw(t, "is worse off") {
				reserve += rapid.Uint64Range(0, 2e5).Draw(t, "reserve")
				share += (1 - share) * rapid.Float64Range(0, 0.5).Draw(t, "share")
			}
			p.Bands = append(p.Bands, Band{UpTo: uint16(100*i + 99), Reserve: reserve, Overflow: i < overflow, Drop: share, ByGroup: byGroup,
				Cut: rapid.Bool().Draw(t, "cut")})
		}
		p.Bands[len(p.Bands)-1].UpTo = MaxImportance
		s := NewSpace(nil, nil)
		s.Reset()
		if err := s.SetPolicy(&p); err != nil {
			t.Fatal(err)
		}
		now := uint64(1e12)
		s.ChargePlan(now, rapid.Uint64Range(0, 3e6).Draw(t, "drawn"))
		o := Offer{Importance: rapid.Uint16Range(0, 1000).Draw(t, "importance"), Group: rapid.Uint64Range(0, 3).Draw(t, "group"),
			Sample: rapid.Uint64().Draw(t, "sample"), Size: rapid.Uint64Range(0, 1452).Draw(t, "size"), Started: rapid.Bool().Draw(t, "started"),
			Cut: rapid.Uint64Range(0, 3).Draw(t, "cut")}
		less, _ := s.Admit(now, &o)
		o.Importance = rapid.Uint16Range(0, o.Importance).Draw(t, "more important")
		if more, _ := s.Admit(now, &o); less == Forwarded && more != Forwarded {
			t.Fatalf("%v for importance %d, though the less important was admitted", more, o.Importance)
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	s := NewSpace(nil, nil)
	s.Reset()
	if err := s.SetPolicy(layered()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := range b.N {
		s.Admit(uint64(i), &Offer{Importance: uint16(i), Sample: uint64(i), Size: 1000})
	}
}
