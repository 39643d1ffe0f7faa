// Package study runs scenarios with several heuristics, congestion controls and seeds, and compares them.
//
//	scenarios × congestion controls × heuristics × seeds ──► runs ──► runs.csv, summary.json, report.html
//	                                                          │ ▲
//	                                                          ▼ │ what has been run
//	                                                         runs/*.json
//
// The same plan gives the same files, byte for byte, whatever the number of jobs and however often it was interrupted.
package study

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// Plan says what is run.
type Plan struct {
	Scenarios   []*scenario.Scenario
	Congestions []string
	Heuristics  []string
	// Beside are further congestion controls, with which Favourite alone is run, so that queues can be compared.
	Beside    []string
	Favourite string // a heuristic
	Seeds     int    // 1, 2 … Seeds
	// Out is the directory of all results. What was run there with the same configuration is not run again.
	Out string
	// Jobs is how many runs there are at once; 0: as many as there are processors.
	Jobs int
	// Traces says of which runs a pcap and a qlog are written: TracesFirst, TracesAll or TracesNone.
	Traces string
	// Progress is told of runs that are done, from one goroutine at a time; nil for nobody.
	Progress func(done, total int)
}

// Values of Plan.Traces.
const (
	TracesFirst = "first" // the first seed
	TracesAll   = "all"
	TracesNone  = "none"
)

// Results are the runs of a plan, in the order of scenarios, congestion controls, heuristics and seeds.
type Results struct {
	Plan   *Plan
	Runs   []*run.Result
	Reused int // runs that were there already
}

// cell is what is run with each seed: a row of the results.
type cell struct {
	scenario              *scenario.Scenario
	congestion, heuristic string
	beside                bool
}

// cells returns all rows in order.
func (p *Plan) cells() (cells []cell) {
	for _, s := range p.Scenarios {
		for _, cc := range p.Congestions {
			for _, h := range p.Heuristics {
				cells = append(cells, cell{s, cc, h, false})
			}
		}
		for _, cc := range p.Beside {
			cells = append(cells, cell{s, cc, p.Favourite, true})
		}
	}
	return cells
}

// job is one run of a plan.
type job struct {
	config run.Config
	traced bool
}

// jobs returns all runs in order.
func (p *Plan) jobs() (jobs []job) {
	for _, c := range p.cells() {
		for seed := range uint64(p.Seeds) {
			jobs = append(jobs, job{
				run.Config{Scenario: c.scenario, Heuristic: c.heuristic, Congestion: c.congestion, Seed: seed + 1},
				p.Traces == TracesAll || p.Traces == TracesFirst && seed == 0,
			})
		}
	}
	return jobs
}

// Run runs a plan. When it is cancelled it returns the context's error, and what is done is kept for the next time.
func Run(ctx context.Context, p *Plan) (*Results, error) {
	store, err := openStore(p.Out)
	if err != nil {
		return nil, err
	}
	jobs := p.jobs()
	r := &Results{Plan: p, Runs: make([]*run.Result, len(jobs))}
	var (
		mu      sync.Mutex
		done    int
		first   error
		wg      sync.WaitGroup
		pending = make(chan int)
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	finished := func(reused bool, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if first == nil {
				first = err
			}
			cancel()
			return
		}
		if reused {
			r.Reused++
		}
		if done++; p.Progress != nil {
			p.Progress(done, len(jobs))
		}
	}
	n := p.Jobs
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for range min(n, len(jobs)) {
		wg.Go(func() {
			for i := range pending {
				result, reused, err := store.run(&jobs[i])
				r.Runs[i] = result
				finished(reused, err)
			}
		})
	}
feed:
	for i := range jobs {
		select {
		case pending <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(pending)
	wg.Wait()
	if first != nil {
		return nil, first
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

// Bounds of a plan. MaxJobs is more than any machine has processors for.
const (
	MaxSeeds = 10000
	MaxJobs  = 1024
)

// Check says what of a plan is not possible.
func (p *Plan) Check() error {
	switch {
	case len(p.Scenarios) == 0 || len(p.Heuristics) == 0 || len(p.Congestions) == 0:
		return fmt.Errorf("a study needs a scenario, a heuristic and a congestion control")
	case p.Seeds < 1 || p.Seeds > MaxSeeds:
		return fmt.Errorf("seeds must be 1 to %d, not %d", MaxSeeds, p.Seeds)
	case p.Jobs < 0 || p.Jobs > MaxJobs:
		return fmt.Errorf("jobs must be 0 to %d, not %d", MaxJobs, p.Jobs)
	case !slices.Contains([]string{TracesFirst, TracesAll, TracesNone}, p.Traces):
		return fmt.Errorf("traces must be %s, %s or %s, not %q", TracesFirst, TracesAll, TracesNone, p.Traces)
	}
	seen := map[string]bool{}
	for _, s := range p.Scenarios {
		if seen[s.Name] {
			return fmt.Errorf("there are two scenarios called %q", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}
