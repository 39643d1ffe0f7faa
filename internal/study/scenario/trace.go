package scenario

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Trace is how a link's rate changes.
type Trace struct {
	// Kind is steps, sawtooth, cellular or file.
	Kind string `toml:"kind"`
	// Steps are of kind steps; the first is at 0s.
	Steps []Step `toml:"steps"`
	// Repeat is after what time the steps, or the file, begin again; default: the last rate stays.
	Repeat Duration `toml:"repeat"`
	// Low and High bound sawtooth and cellular. A sawtooth rises from one to the other within Period, and falls at once.
	Low    Rate     `toml:"low"`
	High   Rate     `toml:"high"`
	Period Duration `toml:"period"`
	// Of cellular: the rate's middle, how far it strays (the standard deviation of its logarithm; default 0.5), how long it
	// remembers (default 3 s), and how often on average it is gone for a handover (default: never) and how long (default 300 ms).
	Middle       Rate     `toml:"middle"`
	Spread       float64  `toml:"spread"`
	Memory       Duration `toml:"memory"`
	Handover     Duration `toml:"handover"`
	HandoverTime Duration `toml:"handover_time"`
	// File has lines of a time and a rate, as "1.5s 2Mbit"; relative to the scenario's.
	File string `toml:"file"`
}

// Step is a rate from a time on.
type Step struct {
	At   Duration `toml:"at"`
	Rate Rate     `toml:"rate"`
}

// rung is how finely curves are cut into steps.
const rung = 100 * time.Millisecond

// RateSteps returns the link's rate over a time as steps, and after what time they begin again, 0 for never. seed makes what is random.
func (l *Link) RateSteps(length time.Duration, seed uint64) (steps []Step, repeat Duration) {
	t := &l.Trace
	switch t.Kind {
	case "":
		return []Step{{0, l.Rate}}, 0
	case "sawtooth":
		n := max(int(time.Duration(t.Period)/rung), 2)
		for i := range n {
			share := (float64(i) + 0.5) / float64(n)
			steps = append(steps, Step{t.Period * Duration(i) / Duration(n), t.Low + (t.High-t.Low)*Rate(share)})
		}
		return steps, t.Period
	case "cellular":
		return t.cellular(length, seed), 0
	}
	return t.Steps, t.Repeat
}

// cellular is the recipe of a radio link's rate: its logarithm goes back to the middle as it strays from it (an
// Ornstein-Uhlenbeck process, a step every 100 ms), and in handovers, whose distances are exponential, nothing passes.
func (t *Trace) cellular(length time.Duration, seed uint64) []Step {
	random := rand.New(rand.NewPCG(seed, 0xce11))
	keep := math.Exp(-float64(rung) / float64(t.Memory))
	kick := t.Spread * math.Sqrt(1-keep*keep)
	x := t.Spread * random.NormFloat64()
	var steps []Step
	for at := time.Duration(0); at < length; at += rung {
		rate := min(max(float64(t.Middle)*math.Exp(x), float64(t.Low)), float64(t.High))
		steps = append(steps, Step{Duration(at), Rate(rate)})
		x = keep*x + kick*random.NormFloat64()
	}
	if t.Handover == 0 {
		return steps
	}
	for at := time.Duration(0); ; {
		at += time.Duration(random.ExpFloat64() * float64(t.Handover))
		if at >= length {
			return steps
		}
		steps = gap(steps, Duration(at), Duration(at)+t.HandoverTime)
		at += time.Duration(t.HandoverTime)
	}
}

// gap has nothing pass from one time to another.
func gap(steps []Step, from, to Duration) []Step {
	after := steps[0].Rate
	for _, s := range steps {
		if s.At <= to {
			after = s.Rate
		}
	}
	steps = slices.DeleteFunc(steps, func(s Step) bool { return s.At >= from && s.At <= to })
	steps = append(steps, Step{from, 0}, Step{to, after})
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return steps
}
