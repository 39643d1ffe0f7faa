package datapathtest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Interfaces of a Stage.
const (
	Publishers  = 0
	Subscribers = 1
	Gone        = 2 // not there any more: what is sent to it fails
)

// Stage is a datapath that traces are played on. It has two interfaces, both with all that a datapath does to a frame, and
// lets its tables be read.
type Stage interface {
	Datapath() datapath.Datapath
	// Inject puts a frame in at an interface and returns when it has been processed. With Gone the frame comes in from the
	// subscribers, and the way back to who sent it is gone.
	Inject(iface int, frame []byte)
	// Collect returns the frames that came out since the last call, by interface.
	Collect() [2][][]byte
	// FailSends makes sending to the subscribers fail, or work again.
	FailSends(fail bool)
	// SetClock stops the datapath's clock at a time in nanoseconds.
	SetClock(ns uint64)
	// Nanos returns a record's time as the datapath's clock has it.
	Nanos(t time.Time) uint64
	// Dump tells what is in the tables.
	Dump(to *Dump)
}

// Step is one step of a trace. It plays the same whatever came before, so that steps can be left out.
type Step struct {
	Text func() string
	do   func(p *player) string // returns what the caller learned
}

// Trace is a sequence of steps made from a seed.
type Trace struct {
	Seed   uint64
	Limits datapath.Limits
	Steps  []Step
}

// String writes a step per line.
func (t *Trace) String() string {
	var b strings.Builder
	for i, s := range t.Steps {
		fmt.Fprintf(&b, "%3d %s\n", i, s.Text())
	}
	return b.String()
}

// player plays steps on a stage.
type player struct {
	Stage
	spaces map[datapath.ClientID]*datapath.Space // also of clients that were removed: userspace may still hold them
	seen   strings.Builder
}

func newPlayer(s Stage) *player {
	return &player{Stage: s, spaces: make(map[datapath.ClientID]*datapath.Space)}
}

// step plays a step and returns what can be seen of it, a fact per line. With all the tables and counters are part of that.
func (p *player) step(s *Step, all bool) string {
	p.seen.Reset()
	if result := s.do(p); result != "" {
		fmt.Fprintf(&p.seen, "result: %s\n", result)
	}
	for i, frames := range p.Collect() {
		for _, f := range frames {
			fmt.Fprintf(&p.seen, "out at %d: %s\n", i, hex.EncodeToString(f))
		}
	}
	if all {
		counters, err := p.Datapath().Counters()
		if err != nil {
			fmt.Fprintf(&p.seen, "counters: %v\n", err)
		}
		for r, n := range counters {
			if n > 0 {
				fmt.Fprintf(&p.seen, "counter %v: %d\n", datapath.Reason(r), n)
			}
		}
		var d Dump
		p.Dump(&d)
		p.seen.WriteString(d.String())
	}
	return p.seen.String()
}

// Divergence is where two stages part.
type Divergence struct {
	Step  int      // index of the step after which they differ
	Lines []string // "-" and what only the first shows, "+" and what only the second does
}

// Compare plays steps on two stages and returns where they first differ, nil if they do not. Results, frames and records
// are compared after each step, tables and counters after every n-th and the last.
func Compare(a, b Stage, steps []Step, every int, ledger *Ledger) *Divergence {
	pa, pb := newPlayer(a), newPlayer(b)
	for i := range steps {
		all := i%every == every-1 || i == len(steps)-1
		va, vb := pa.step(&steps[i], all), pb.step(&steps[i], all)
		if va == vb {
			continue
		}
		if lines := ledger.unaccepted(difference(va, vb)); len(lines) > 0 {
			return &Divergence{i, lines}
		}
	}
	return nil
}

// difference returns the lines that only one of two texts has.
func difference(a, b string) []string {
	count := make(map[string]int)
	for line := range strings.Lines(b) {
		count[line]++
	}
	var lines []string
	for line := range strings.Lines(a) {
		if count[line] > 0 {
			count[line]--
		} else {
			lines = append(lines, "-"+strings.TrimSuffix(line, "\n"))
		}
	}
	for line := range strings.Lines(b) {
		if count[line] > 0 {
			count[line]--
			lines = append(lines, "+"+strings.TrimSuffix(line, "\n"))
		}
	}
	if lines == nil {
		lines = append(lines, "-the same in this order:\n"+a, "+the same in this order:\n"+b)
	}
	return lines
}

// Shrink leaves steps out of a trace as long as two fresh stages still differ, and returns what is left. It plays at
// most tries times.
func Shrink(steps []Step, tries int, compare func([]Step) *Divergence) []Step {
	for size := len(steps) / 2; size > 0 && tries > 0; {
		removed := false
		for at := 0; at < len(steps) && tries > 0; {
			less := append(append([]Step(nil), steps[:at]...), steps[min(at+size, len(steps)):]...)
			tries--
			if d := compare(less); d != nil {
				steps, removed = less[:d.Step+1], true
			} else {
				at += size
			}
		}
		if !removed || size > len(steps) {
			size /= 2
		}
	}
	return steps
}

// Accepted is a divergence that is known and stays.
type Accepted struct {
	What string
	Why  string
	Line func(line string) bool // whether a line of a Divergence belongs to it
}

// Ledger holds the accepted divergences of a comparison. A nil Ledger accepts none.
type Ledger struct {
	entries []Accepted
	seen    []int
}

// NewLedger returns a ledger.
func NewLedger(entries ...Accepted) *Ledger { return &Ledger{entries, make([]int, len(entries))} }

func (l *Ledger) unaccepted(lines []string) []string {
	if l == nil {
		return lines
	}
	var left []string
next:
	for _, line := range lines {
		for i := range l.entries {
			if l.entries[i].Line(line) {
				l.seen[i]++
				continue next
			}
		}
		left = append(left, line)
	}
	return left
}

// Stale returns what was accepted and never seen: it must leave the ledger.
func (l *Ledger) Stale() []string {
	var stale []string
	for i, n := range l.seen {
		if n == 0 {
			stale = append(stale, l.entries[i].What)
		}
	}
	return stale
}

// sentinels are what errors of all backends are told apart by.
var sentinels = []struct {
	name string
	err  error
}{
	{"closed", datapath.ErrClosed}, {"out of range", datapath.ErrOutOfRange}, {"full", datapath.ErrFull},
	{"unknown", datapath.ErrUnknown}, {"cipher", datapath.ErrCipher},
}

// outcome names an error: nil, one or more sentinels, or another one.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var names []string
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			names = append(names, s.name)
		}
	}
	if names == nil {
		return "refused"
	}
	return strings.Join(names, ", ")
}
