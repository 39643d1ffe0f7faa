package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/study"
	"github.com/fastrelay/fastrelay/internal/study/report"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

type studyCmd struct {
	List       bool     `help:"List the scenarios, heuristics and congestion controls, and end."`
	Scenario   []string `placeholder:"NAME|FILE" help:"Scenarios to run: shipped ones by name, others by a file that ends in .toml. Default: all shipped."`
	Heuristic  []string `default:"all" placeholder:"NAME" help:"Heuristics to compare, or all (default: ${default}). none and random are always among them."`
	Congestion []string `placeholder:"NAME" help:"Congestion controls, of ${congestion}. Default: scream, and for the table of queues cubic too."`
	Seeds      int      `default:"5" help:"Runs of each, with other random numbers (default: ${default})."`
	Out        string   `default:"out/study" placeholder:"DIR" help:"Directory for the results (default: ${default})."`
	Jobs       int      `help:"Runs at once. Default: as many as there are processors."`
	Traces     string   `default:"first" enum:"first,all,none" help:"Runs of which a pcap and a qlog are written: the first seed of each row, all, or none (default: ${default})."`
}

// Help is shown by --help.
func (*studyCmd) Help() string {
	return `Simulates a relay and its subscribers over bottlenecks, in virtual time, and compares what heuristics make of them. The decisions
are those of the relay; docs/study.md says what is modelled, how to write a scenario, and what the figures mean.

  fastrelay study --scenario half-rate --heuristic all

A study that was interrupted goes on where it was. What the same build of this program has left there with the same configuration is not run again.`
}

func (c *studyCmd) Validate() error {
	if c.Seeds < 1 || c.Seeds > study.MaxSeeds {
		return fmt.Errorf("--seeds must be 1 to %d, not %d", study.MaxSeeds, c.Seeds)
	}
	if c.Jobs < 0 || c.Jobs > study.MaxJobs {
		return fmt.Errorf("--jobs must be 0 to %d, not %d", study.MaxJobs, c.Jobs)
	}
	for _, cc := range c.Congestion {
		if _, err := congestion.ByName(cc); err != nil {
			return fmt.Errorf("--congestion: %w", err)
		}
	}
	if _, err := chooseHeuristics(c.Heuristic); err != nil {
		return fmt.Errorf("--heuristic: %w", err)
	}
	return nil
}

func (c *studyCmd) Run(ctx context.Context, a *app) error {
	if c.List {
		return c.list(a)
	}
	p := &study.Plan{Congestions: unique(c.Congestion), Favourite: heuristic.Default, Seeds: c.Seeds, Out: c.Out, Jobs: c.Jobs, Traces: c.Traces}
	if len(p.Congestions) == 0 {
		p.Congestions, p.Beside = []string{congestion.Live}, []string{"cubic"}
	}
	if len(c.Scenario) == 0 {
		c.Scenario = scenario.Names()
	}
	for _, name := range c.Scenario {
		s, err := scenario.Load(name)
		if err != nil {
			return err
		}
		p.Scenarios = append(p.Scenarios, s)
	}
	var err error
	if p.Heuristics, err = chooseHeuristics(c.Heuristic); err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return err
	}
	bar := a.progress("simulating")
	p.Progress = bar.set
	r, err := study.Run(ctx, p)
	bar.finish()
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted; the same command goes on from here")
	}
	if err != nil {
		return err
	}
	if err := r.Write(); err != nil {
		return err
	}
	page, err := report.HTML(r)
	if err != nil {
		return err
	}
	if err := r.WriteFile("report.html", page); err != nil {
		return err
	}
	if a.json {
		a.event(r.Summary())
		return nil
	}
	a.say("%d runs, %d of them from before; results in %s, the page is %s", len(r.Runs), r.Reused, c.Out, filepath.Join(c.Out, "report.html"))
	return printStudy(a, r)
}

// printStudy prints a table for each scenario.
func printStudy(a *app, r *study.Results) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	last := ""
	for _, row := range r.Rows() {
		if row.Beside {
			continue
		}
		if row.Scenario != last {
			fmt.Fprintf(w, "%s\t\tfps decodable\taudio\tkey\treference\tnon-ref.\tdelay p95\tstalls\twasted\tqueue p95\tstanding\tlink used\tcontrol<2RTT\t\n", row.Scenario)
			last = row.Scenario
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f", row.Heuristic, row.Congestion, row.DecodableFPS.Mean)
		if row.Seeds > 1 { // one seed has no interval
			fmt.Fprintf(w, " ± %.2f", row.DecodableFPS.CI)
		}
		fmt.Fprint(w, "\t")
		for _, e := range row.Decodable {
			fmt.Fprintf(w, "%.1f %%\t", 100*e.Mean)
		}
		fmt.Fprintf(w, "%.0f ms\t%.1f\t%.1f %%\t%.0f ms\t%.0f ms\t%.1f %%\t%.1f %%\t\n", row.DelayP95.Mean, row.Stalls.Mean, 100*row.Wasted.Mean,
			row.QueueP95.Mean, row.StandingP95.Mean, 100*row.Utilisation.Mean, 100*row.Control.Mean)
	}
	return w.Flush()
}

// unique leaves out what was there before.
func unique(names []string) (out []string) {
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// baselines are in every table.
var baselines = []string{"none", "random"}

// chooseHeuristics returns the heuristics of a study, the baselines first.
func chooseHeuristics(names []string) ([]string, error) {
	known := heuristic.Names()
	var out []string
	for _, n := range append(slices.Clone(baselines), names...) {
		switch {
		case n == "all":
			for _, k := range known {
				if !slices.Contains(out, k) {
					out = append(out, k)
				}
			}
		case !slices.Contains(known, n):
			if slices.Contains(baselines, n) && !slices.Contains(names, n) {
				continue
			}
			return nil, fmt.Errorf("there is no heuristic %q; there are all, %s", n, strings.Join(known, ", "))
		case !slices.Contains(out, n):
			out = append(out, n)
		}
	}
	return out, nil
}

func (c *studyCmd) list(a *app) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tSUBSCRIBERS\tLENGTH\tWHAT IT IS FOR")
	for _, n := range scenario.Names() {
		s, err := scenario.Shipped(n)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t%v\t%s\n", n, s.Clients(), s.Duration, s.Description)
	}
	fmt.Fprintf(w, "\nheuristics: %s\ncongestion: %s\n", strings.Join(heuristic.Names(), ", "), strings.Join(congestion.Names(), ", "))
	return w.Flush()
}
