package heuristic

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Limit is how long a heuristic may take for a policy, by default.
const Limit = 50 * time.Millisecond

// ErrTooSlow is the reason why a heuristic was replaced that took longer than its limit.
var ErrTooSlow = errors.New("it took too long")

// Guard is a heuristic of which nothing has to be believed: a policy that datapath.Policy.Check refuses, a panic, or taking too long
// replaces it by the default, for this client and for good.
type Guard struct {
	h, byDefault Heuristic
	refused      func(name string, err error)
	limit        time.Duration
	after        func(time.Duration) (<-chan time.Time, func() bool)
}

// NewGuard guards h. refused is called once, if h is replaced, with its name and why; nil is possible. limit is how long h may take by the
// wall clock, 0 for Limit; with a negative one it is called on the caller's goroutine and may take for ever, as simulations want that must
// not depend on how busy the machine is.
//
// With a limit h is called on a goroutine of its own, which is left to itself if it does not come back. So a guard's h gets a copy of the view.
func NewGuard(h Heuristic, limit time.Duration, refused func(name string, err error)) *Guard {
	if limit == 0 {
		limit = Limit
	}
	return &Guard{h: h, byDefault: &Live{}, refused: refused, limit: limit, after: func(d time.Duration) (<-chan time.Time, func() bool) {
		t := time.NewTimer(d)
		return t.C, t.Stop
	}}
}

// Name returns the name of who makes the policies now.
func (g *Guard) Name() string {
	if g.h != nil {
		return g.h.Name()
	}
	return g.byDefault.Name()
}

// Policy returns a policy that is valid.
func (g *Guard) Policy(v *View) datapath.Policy {
	if g.h != nil {
		p, err := g.ask(v)
		if err == nil {
			return p
		}
		name := g.h.Name()
		g.h = nil
		if g.refused != nil {
			g.refused(name, fmt.Errorf("heuristic %q is replaced by %q: %w", name, g.byDefault.Name(), err))
		}
	}
	p := g.byDefault.Policy(v)
	if p.Check() != nil { // a defect of ours: rather without a policy than without media
		return datapath.Policy{}
	}
	return p
}

type answer struct {
	p   datapath.Policy
	err error
}

// ask gets a policy from the guarded heuristic, or says why not.
func (g *Guard) ask(v *View) (datapath.Policy, error) {
	if g.limit < 0 {
		a := call(g.h, v)
		return a.p, a.err
	}
	own := *v
	own.Classes = slices.Clone(v.Classes)
	if v.Reported != nil {
		r := *v.Reported
		own.Reported = &r
	}
	done := make(chan answer, 1)
	go func(h Heuristic) { done <- call(h, &own) }(g.h)
	late, stop := g.after(g.limit)
	defer stop()
	select {
	case a := <-done:
		return a.p, a.err
	case <-late:
		return datapath.Policy{}, fmt.Errorf("%w: more than %v", ErrTooSlow, g.limit)
	}
}

// call asks a heuristic for a policy and checks it. What it returns is the caller's alone.
func call(h Heuristic, v *View) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{err: fmt.Errorf("it panicked: %v", r)}
		}
	}()
	p := h.Policy(v)
	p.Bands = slices.Clone(p.Bands)
	return answer{p, p.Check()}
}
