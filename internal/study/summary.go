package study

import (
	"encoding/json"
	"math"
	"path/filepath"

	"github.com/fastrelay/fastrelay/internal/study/run"
)

// Estimate is a mean over seeds with the half width of its 95 % confidence interval (Student's t), 0 with one seed.
type Estimate struct {
	Mean float64 `json:"mean"`
	CI   float64 `json:"ci95"`
}

// Row is what a heuristic made of a scenario, over all seeds.
type Row struct {
	Scenario   string `json:"scenario"`
	Congestion string `json:"congestion"`
	Heuristic  string `json:"heuristic"`
	Beside     bool   `json:"beside,omitempty"` // for comparison of the congestion control alone
	Seeds      int    `json:"seeds"`

	DecodableFPS Estimate `json:"decodable_fps"`
	// Shares of what was published, by class.
	Delivered [run.Classes]Estimate `json:"delivered_share"`
	Decodable [run.Classes]Estimate `json:"decodable_share"`

	DelayP50    Estimate `json:"delay_p50_ms"`
	DelayP95    Estimate `json:"delay_p95_ms"`
	Stalls      Estimate `json:"stalls"` // per subscriber
	StallTime   Estimate `json:"stall_s"`
	Wasted      Estimate `json:"wasted_share"` // of the bytes that arrived
	WastedBytes Estimate `json:"wasted_bytes"` // per subscriber
	Fairness    Estimate `json:"fairness"`
	Utilisation Estimate `json:"utilisation"`
	QueueP95    Estimate `json:"queue_p95_ms"`
	StandingP95 Estimate `json:"standing_p95_ms"`
	Control     Estimate `json:"control_in_2rtt_share"`
	ControlLost Estimate `json:"control_lost_share"`
	ControlP99  Estimate `json:"control_p99_ms"`
	// Refused is how many subscribers' heuristics were replaced by the default, in all runs; Refusal why the first was.
	Refused int    `json:"refused,omitempty"`
	Refusal string `json:"refusal,omitempty"`

	// Runs are those of the row, by seed.
	Runs []*run.Result `json:"-"`
}

// Rows returns a row for each scenario, congestion control and heuristic, in the plan's order.
func (r *Results) Rows() []*Row {
	var rows []*Row
	for i, c := range r.Plan.cells() {
		row := newRow(r.Runs[i*r.Plan.Seeds : (i+1)*r.Plan.Seeds])
		row.Beside = c.beside
		rows = append(rows, row)
	}
	return rows
}

func newRow(runs []*run.Result) *Row {
	row := &Row{Scenario: runs[0].Scenario, Congestion: runs[0].Congestion, Heuristic: runs[0].Heuristic, Seeds: len(runs), Runs: runs}
	over := func(f func(*run.Result) float64) Estimate { return estimate(runs, f) }
	row.DecodableFPS = over((*run.Result).DecodableFPS)
	for c := range row.Delivered {
		row.Delivered[c] = over(func(r *run.Result) float64 { return share(r.Classes[c].Delivered, r.Classes[c].Published) })
		row.Decodable[c] = over(func(r *run.Result) float64 { return share(r.Classes[c].Decodable, r.Classes[c].Published) })
	}
	row.DelayP50 = over(func(r *run.Result) float64 { return r.Delay.At(50) })
	row.DelayP95 = over(func(r *run.Result) float64 { return r.Delay.At(95) })
	row.Stalls = over(func(r *run.Result) float64 { return float64(r.Stalls) / float64(r.Subscribers) })
	row.StallTime = over(func(r *run.Result) float64 { return r.StallTime / float64(r.Subscribers) })
	row.Wasted = over(func(r *run.Result) float64 { return float64(r.Wasted) / float64(max(r.Arrived, 1)) })
	row.WastedBytes = over(func(r *run.Result) float64 { return float64(r.Wasted) / float64(r.Subscribers) })
	row.Fairness = over(func(r *run.Result) float64 { return r.Fairness })
	row.Utilisation = over(func(r *run.Result) float64 { return r.Utilisation })
	row.QueueP95 = over(func(r *run.Result) float64 { return r.Queue.At(95) })
	row.StandingP95 = over(func(r *run.Result) float64 { return r.Standing.At(95) })
	row.ControlLost = over(func(r *run.Result) float64 { return float64(r.ControlLost) / float64(max(r.ControlSent, 1)) })
	row.Control = over(func(r *run.Result) float64 { return share(r.ControlInTime, r.ControlSent) })
	row.ControlP99 = over(func(r *run.Result) float64 { return r.Control.At(99) })
	for _, x := range runs {
		if row.Refused == 0 {
			row.Refusal = x.Refusal
		}
		row.Refused += x.Refused
	}
	return row
}

// share returns n of total, 1 of nothing.
func share(n, total int) float64 {
	if total == 0 {
		return 1
	}
	return float64(n) / float64(total)
}

func estimate(runs []*run.Result, f func(*run.Result) float64) Estimate {
	n := float64(len(runs))
	sum := 0.0
	for _, r := range runs {
		sum += f(r)
	}
	e := Estimate{Mean: sum / n}
	if len(runs) < 2 {
		return e
	}
	square := 0.0
	for _, r := range runs {
		d := f(r) - e.Mean
		square += d * d
	}
	e.CI = student(len(runs)-1) * math.Sqrt(square/(n-1)/n)
	return e
}

// t975 are the 97.5 % quantiles of Student's distribution for 1 to 30 degrees of freedom.
var t975 = [...]float64{
	12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
	2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
}

func student(freedom int) float64 {
	if freedom <= len(t975) {
		return t975[freedom-1]
	}
	return 1.96 + 2.4/float64(freedom) // within 0.002
}

// Summary is summary.json.
type Summary struct {
	Seeds int    `json:"seeds"`
	Runs  int    `json:"runs"`
	Rows  []*Row `json:"rows"`
}

// Summary returns what summary.json says.
func (r *Results) Summary() *Summary {
	return &Summary{Seeds: r.Plan.Seeds, Runs: len(r.Runs), Rows: r.Rows()}
}

// Write writes runs.csv and summary.json.
func (r *Results) Write() error {
	b, err := json.MarshalIndent(r.Summary(), "", " ")
	if err != nil {
		return err
	}
	if err := r.WriteFile("summary.json", append(b, '\n')); err != nil {
		return err
	}
	return r.WriteFile("runs.csv", r.CSV())
}

// WriteFile writes a file in the study's directory, whole or not at all.
func (r *Results) WriteFile(name string, b []byte) error {
	return writeFile(filepath.Join(r.Plan.Out, name), b)
}
