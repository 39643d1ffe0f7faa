package heuristic

import (
	"strings"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

func TestNames(t *testing.T) {
	for _, n := range Names() {
		h, err := New(n)
		if err != nil || h.Name() != n {
			t.Errorf("New(%q) is %v, %v", n, h, err)
		}
	}
	if _, err := New(Default); err != nil {
		t.Error(err)
	}
	if _, err := New("nonsense"); err == nil || !strings.Contains(err.Error(), strings.Join(Names(), ", ")) {
		t.Errorf("an unknown name: %v; want what there is", err)
	}
	if Register(Default, nil) == nil || Register("", nil) == nil {
		t.Error("a name that is taken, or none, can be registered")
	}
}

// TestMeter: a second of two classes, one of which the policy drops.
func TestMeter(t *testing.T) {
	var m Meter
	var v View
	for i := range uint64(100) {
		v.Now += 10 * time.Millisecond
		reason := datapath.Forwarded
		if i >= 50 {
			reason = datapath.ReasonDropReserve
		}
		m.Offer(v.Now, 20, 1, i/50, 1000+i/2, 600, reason) // two frames a stream
		if i%50 == 0 {
			m.Offer(v.Now, 10, 1, i/50, i, 6000, datapath.ReasonPaced)
		}
	}
	m.View(&v)
	if len(v.Classes) != 2 {
		t.Fatalf("classes are %+v", v.Classes)
	}
	key, rest := v.Classes[0], v.Classes[1]
	if want := (Count{12000, 2}); key.Importance != 10 || key.Offered != want || key.Admitted != want || key.Peak != 6000 || key.Group != 6000 {
		t.Errorf("key frames are %+v", key)
	}
	if rest.Offered != (Count{60000, 50}) || rest.Admitted != (Count{30000, 25}) || rest.Dropped != (Count{30000, 25}) || rest.Peak != 1200 || rest.Group != 30000 {
		t.Errorf("the rest is %+v", rest)
	}
	if rest.Rate < 55000 || rest.Rate > 65000 {
		t.Errorf("rate is %d, 60000 bytes were offered in the one second that there was", rest.Rate)
	}
	v.Now += 100 * time.Millisecond
	m.View(&v)
	if v.Classes[0].Offered != (Count{}) || v.LastInterval != 100*time.Millisecond {
		t.Errorf("a view later: %+v", v)
	}
	v.Now += time.Minute
	if m.View(&v); len(v.Classes) != 0 {
		t.Errorf("a minute later: %+v", v.Classes)
	}
}

func TestMeterDoesNotAllocate(t *testing.T) {
	var m Meter
	var v View
	m.Offer(0, 0, 0, 0, 0, 1, 0)
	m.View(&v)
	var i uint64
	if n := testing.AllocsPerRun(1000, func() {
		i++
		m.Offer(time.Duration(i)*time.Millisecond, uint16(i%100), i%3, i, i, 1000, 0)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// allReasons are those of package datapath.
var allReasons = func() (all []datapath.Reason) {
	for r := range datapath.Reason(datapath.ReasonCount) {
		all = append(all, r)
	}
	return all
}()

// TestMeterGroups: when groups begin, how long they are, and what was dropped of the last one.
func TestMeterGroups(t *testing.T) {
	var m Meter
	var v View
	offer := func(at time.Duration, group, stream uint64, n int, r datapath.Reason) {
		v.Now = at * time.Millisecond
		m.Offer(v.Now, 5, 1, group, stream, n, r)
	}
	see := func() Class {
		m.View(&v)
		return v.Classes[0]
	}
	offer(100, 7, 1, 10, datapath.ReasonDropReserve)
	offer(130, 7, 1, 10, datapath.ReasonDropStream)
	if c := see(); c.Begun != 100*time.Millisecond || c.Period != 0 || c.Shed != 1 || c.Streams != 1 || c.Span != 30*time.Millisecond {
		t.Errorf("in the first group: %+v", c)
	}
	offer(1100, 8, 2, 10, 0)
	offer(1110, 7, 1, 10, 0) // of the group before, late
	offer(1200, 8, 3, 5, 0)
	if c := see(); c.Begun != 1100*time.Millisecond || c.Period != time.Second || c.Deviation != 0 || c.Shed != 0 || c.Streams != 2 || c.Group != 20 {
		t.Errorf("in the second group: %+v", c)
	}
	offer(2500, 9, 4, 10, 0)
	if c := see(); c.Period != 1100*time.Millisecond || c.Deviation != 100*time.Millisecond {
		t.Errorf("after a longer group: %+v", c)
	}
	offer(20_000, 1, 5, 1, 0) // the publisher begins anew
	if c := see(); c.Begun != 20*time.Second || c.Period != 1100*time.Millisecond || c.Streams != 1 || c.Group != 1 || c.Peak != 1 {
		t.Errorf("long after: %+v", c)
	}
}

// TestMeterTracks: of two tracks of one importance the first one's groups count, as long as something comes of it.
func TestMeterTracks(t *testing.T) {
	var m Meter
	var v View
	see := func(at time.Duration, track, group uint64) Class {
		v.Now = at * time.Millisecond
		m.Offer(v.Now, 5, track, group, uint64(at), 10, 0)
		m.View(&v)
		return v.Classes[0]
	}
	see(100, 1, 7)
	see(600, 2, 900)
	see(1100, 1, 8)
	if c := see(1600, 2, 901); c.Track != 1 || c.Period != time.Second || c.Begun != 1100*time.Millisecond || c.Streams != 1 {
		t.Errorf("two tracks: %+v", c)
	}
	for at := time.Duration(2); at < 12; at++ {
		see(at*1000+600, 2, uint64(900+at))
	}
	if c := see(12_600, 2, 912); c.Track != 2 || c.Begun != 11_600*time.Millisecond && c.Begun != 12_600*time.Millisecond {
		t.Errorf("the first has ended: %+v", c)
	}
}

// TestMeterIsBounded: importances beyond what it can tell apart are counted with their neighbours.
func TestMeterIsBounded(t *testing.T) {
	var m Meter
	var v View
	for i := range uint16(1000) {
		m.Offer(time.Second, i*7, 1, 0, uint64(i), 1, 0)
	}
	m.View(&v)
	var sum uint64
	for _, c := range v.Classes {
		sum += c.Offered.Streams
	}
	if len(v.Classes) != MaxClasses || sum != 1000 {
		t.Errorf("%d classes with %d streams, want %d with 1000", len(v.Classes), sum, MaxClasses)
	}
}
