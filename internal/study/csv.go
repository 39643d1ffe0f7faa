package study

import (
	"bytes"
	"strconv"

	"github.com/fastrelay/fastrelay/internal/study/run"
)

// column is a figure of a run.
type column struct {
	name  string
	value func(r *run.Result) string
}

func count(f func(r *run.Result) int) func(*run.Result) string {
	return func(r *run.Result) string { return strconv.Itoa(f(r)) }
}

func count64(f func(r *run.Result) uint64) func(*run.Result) string {
	return func(r *run.Result) string { return strconv.FormatUint(f(r), 10) }
}

func number(f func(r *run.Result) float64) func(*run.Result) string {
	return func(r *run.Result) string { return strconv.FormatFloat(f(r), 'f', 4, 64) }
}

// columns returns those of runs.csv; docs/study.md explains them.
func columns() []column {
	c := []column{
		{"scenario", func(r *run.Result) string { return r.Scenario }},
		{"congestion", func(r *run.Result) string { return r.Congestion }},
		{"heuristic", func(r *run.Result) string { return r.Heuristic }},
		{"seed", count64(func(r *run.Result) uint64 { return r.Seed })},
		{"subscribers", count(func(r *run.Result) int { return r.Subscribers })},
		{"decodable_fps", number((*run.Result).DecodableFPS)},
	}
	for class := run.Class(0); class < run.Classes; class++ {
		of := func(f func(*run.Fate) int) func(*run.Result) string {
			return count(func(r *run.Result) int { return f(&r.Classes[class]) })
		}
		n := class.String()
		c = append(c,
			column{n + "_published", of(func(f *run.Fate) int { return f.Published })},
			column{n + "_delivered", of(func(f *run.Fate) int { return f.Delivered })},
			column{n + "_decodable", of(func(f *run.Fate) int { return f.Decodable })},
			column{n + "_late", of(func(f *run.Fate) int { return f.Late })},
			column{n + "_unfinished", of(func(f *run.Fate) int { return f.Unfinished })},
		)
		for i, cause := range run.Causes() {
			c = append(c,
				column{n + "_dropped_" + cause, of(func(f *run.Fate) int { return f.Dropped[i+1] })},
				column{n + "_reset_" + cause, of(func(f *run.Fate) int { return f.Reset[i+1] })})
		}
	}
	return append(c,
		column{"delay_p50_ms", number(func(r *run.Result) float64 { return r.Delay.At(50) })},
		column{"delay_p95_ms", number(func(r *run.Result) float64 { return r.Delay.At(95) })},
		column{"delay_p99_ms", number(func(r *run.Result) float64 { return r.Delay.At(99) })},
		column{"stalls", count(func(r *run.Result) int { return r.Stalls })},
		column{"stall_s", number(func(r *run.Result) float64 { return r.StallTime })},
		column{"arrived_bytes", count64(func(r *run.Result) uint64 { return r.Arrived })},
		column{"wasted_bytes", count64(func(r *run.Result) uint64 { return r.Wasted })},
		column{"duplicate_bytes", count64(func(r *run.Result) uint64 { return r.Duplicates })},
		column{"resent_bytes", count64(func(r *run.Result) uint64 { return r.Resent })},
		column{"fairness", number(func(r *run.Result) float64 { return r.Fairness })},
		column{"utilisation", number(func(r *run.Result) float64 { return r.Utilisation })},
		column{"queue_p50_ms", number(func(r *run.Result) float64 { return r.Queue.At(50) })},
		column{"queue_p95_ms", number(func(r *run.Result) float64 { return r.Queue.At(95) })},
		column{"queue_max_ms", number(func(r *run.Result) float64 { return r.Queue.At(100) })},
		column{"standing_p50_ms", number(func(r *run.Result) float64 { return r.Standing.At(50) })},
		column{"standing_p95_ms", number(func(r *run.Result) float64 { return r.Standing.At(95) })},
		column{"standing_max_ms", number(func(r *run.Result) float64 { return r.Standing.At(100) })},
		column{"control_sent", count(func(r *run.Result) int { return r.ControlSent })},
		column{"control_in_2rtt", count(func(r *run.Result) int { return r.ControlInTime })},
		column{"control_lost", count(func(r *run.Result) int { return r.ControlLost })},
		column{"control_p99_ms", number(func(r *run.Result) float64 { return r.Control.At(99) })},
		column{"packets", count64(func(r *run.Result) uint64 { return r.Packets })},
		column{"forwarded", count64(func(r *run.Result) uint64 { return r.Forwarded })},
		column{"repairs", count64(func(r *run.Result) uint64 { return r.Repairs })},
		column{"lost", count64(func(r *run.Result) uint64 { return r.Lost })},
		column{"spurious", count64(func(r *run.Result) uint64 { return r.Spurious })},
		column{"probes", count64(func(r *run.Result) uint64 { return r.Probes })},
		column{"queue_drops", count64(func(r *run.Result) uint64 { return r.QueueDrops })},
		column{"link_losses", count64(func(r *run.Result) uint64 { return r.LinkLosses })},
		column{"policies", count(func(r *run.Result) int { return r.Policies })},
		column{"refused", count(func(r *run.Result) int { return r.Refused })},
	)
}

// CSV returns runs.csv: a line for each run.
func (r *Results) CSV() []byte {
	var b bytes.Buffer
	cols := columns()
	for i, c := range cols {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c.name)
	}
	b.WriteByte('\n')
	for _, x := range r.Runs {
		for i, c := range cols {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(c.value(x))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
