package heuristic

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/google/go-cmp/cmp"
)

// custom is a heuristic of a test.
type custom func(v *View) datapath.Policy

func (custom) Name() string                     { return "custom" }
func (c custom) Policy(v *View) datapath.Policy { return c(v) }

func oneBand(b datapath.Band) custom {
	b.UpTo = datapath.MaxImportance
	return func(*View) datapath.Policy { return datapath.Policy{Bands: []datapath.Band{b}} }
}

// TestGuard: nonsense is refused once, by name, and the default decides from then on.
func TestGuard(t *testing.T) {
	v := &View{Now: time.Second, Rate: 1e6, Classes: []Class{{Importance: 5, Rate: 1e5, Peak: 1e4, Streams: 10, Period: time.Second}}}
	var block = make(chan struct{})
	defer close(block)
	calls := 0
	for _, tc := range []struct {
		name string
		h    custom
		want string
	}{
		{"valid", oneBand(datapath.Band{Drop: 0.5}), ""},
		{"share beyond 1", oneBand(datapath.Band{Drop: 2}), "from 0 to 1"},
		{"share is no number", oneBand(datapath.Band{Drop: math.NaN()}), "from 0 to 1"},
		{"negative age", oneBand(datapath.Band{MaxAge: -1}), "negative age"},
		{"not monotone", func(*View) datapath.Policy {
			return datapath.Policy{Bands: []datapath.Band{{UpTo: 1, Reserve: 2}, {UpTo: datapath.MaxImportance}}}
		}, "not monotone"},
		{"panics", func(v *View) datapath.Policy { _ = v.Classes[len(v.Classes)]; return datapath.Policy{} }, "panicked"},
		{"never returns", func(*View) datapath.Policy { <-block; return datapath.Policy{} }, "took too long"},
		{"valid, then not", func(*View) datapath.Policy {
			if calls++; calls > 1 {
				return datapath.Policy{Bands: []datapath.Band{{}}}
			}
			return datapath.Policy{}
		}, "must end at 65535"},
	} {
		var errs []error
		g := NewGuard(tc.h, time.Hour, func(name string, err error) {
			if name != "custom" {
				t.Errorf("%s: refused is %q", tc.name, name)
			}
			errs = append(errs, err)
		})
		if tc.name == "never returns" {
			late := make(chan time.Time, 1)
			late <- time.Time{}
			g.after = func(time.Duration) (<-chan time.Time, func() bool) { return late, func() bool { return true } }
		}
		var last datapath.Policy
		for range 4 {
			last = g.Policy(v)
			if err := last.Check(); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		if tc.want == "" {
			if len(errs) > 0 || g.Name() != "custom" || len(last.Bands) != 1 || last.Bands[0].Drop != 0.5 {
				t.Errorf("%s: %v, policy %+v of %q", tc.name, errs, last, g.Name())
			}
			continue
		}
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), tc.want) || !strings.Contains(errs[0].Error(), `"custom"`) {
			t.Errorf("%s: %v, want one of %q", tc.name, errs, tc.want)
		}
		if g.Name() != Default || last.Rate == 0 {
			t.Errorf("%s: %+v of %q, want one of the default", tc.name, last, g.Name())
		}
	}
}

// TestGuardLimit: the limit is the wall clock's, and an abandoned heuristic has a view of its own.
func TestGuardLimit(t *testing.T) {
	v := &View{Rate: 1e6, Classes: []Class{{Importance: 5}}, Reported: &Report{Rate: 1}}
	began, release, seen := make(chan *View, 1), make(chan struct{}), make(chan uint16, 1)
	var got error
	g := NewGuard(custom(func(v *View) datapath.Policy {
		began <- v
		<-release
		seen <- v.Classes[0].Importance
		return datapath.Policy{}
	}), 0, func(_ string, err error) { got = err })
	late := make(chan time.Time)
	g.after = func(d time.Duration) (<-chan time.Time, func() bool) {
		if d != Limit {
			t.Errorf("limit is %v", d)
		}
		go func() { // once it is at it
			own := <-began
			if own == v || own.Reported == v.Reported {
				t.Error("the heuristic has the caller's view")
			}
			late <- time.Time{}
		}()
		return late, func() bool { return true }
	}
	g.Policy(v)
	if !errors.Is(got, ErrTooSlow) {
		t.Errorf("refused for %v", got)
	}
	v.Classes[0].Importance = 6
	close(release)
	if s := <-seen; s != 5 {
		t.Errorf("it sees a class of importance %d, which came after its view", s)
	}
}

// TestGuardInline: without a limit there is no goroutine, so nothing depends on the machine.
func TestGuardInline(t *testing.T) {
	v := &View{}
	g := NewGuard(custom(func(own *View) datapath.Policy {
		if own != v {
			t.Error("the view is a copy")
		}
		panic("nonsense")
	}), -1, nil)
	g.after = nil // would panic
	if p := g.Policy(v); !cmp.Equal(p, (&Live{}).Policy(v)) || g.Name() != Default {
		t.Errorf("policy %+v of %q", p, g.Name())
	}
}

// TestGuardCopies: a heuristic may use its bands again for the next policy.
func TestGuardCopies(t *testing.T) {
	bands := make([]datapath.Band, 1)
	g := NewGuard(custom(func(v *View) datapath.Policy {
		bands[0] = datapath.Band{UpTo: datapath.MaxImportance, Drop: float64(v.Rate) / 10}
		return datapath.Policy{Bands: bands}
	}), -1, nil)
	first := g.Policy(&View{Rate: 1})
	g.Policy(&View{Rate: 2})
	if first.Bands[0].Drop != 0.1 {
		t.Errorf("the first policy drops %v after the second was made", first.Bands[0].Drop)
	}
}
