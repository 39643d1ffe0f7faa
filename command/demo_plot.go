package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fastrelay/fastrelay/internal/lab/delayplot"
)

// runName names a run in the plot.
func runName(r *demoRun) string {
	if r.Heuristic != "" {
		return fmt.Sprintf("%s (%s, %s, %s)", r.Mode, r.Datapath, r.Cipher, r.Heuristic)
	}
	return fmt.Sprintf("%s (%s, %s)", r.Mode, r.Datapath, r.Cipher)
}

// plot writes the delays of all runs over time, and returns the file's name.
func (d *demo) plot(r *demoReport) (string, error) {
	var runs []delayplot.Run
	for i := range r.Runs {
		run := &r.Runs[i]
		runs = append(runs, delayplot.Run{Name: runName(run), Result: run.delays})
	}
	path := filepath.Join(d.Out, "delay.png")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	through := "the relay"
	if d.Hops > 1 {
		through = relays(d.Hops)
	}
	title := fmt.Sprintf("Delay through %s, %s, MoQ draft %d", through, subscribers(d.Subscribers), d.Draft)
	if d.Rate > 0 {
		title += fmt.Sprintf(", bottleneck of %v", d.Rate)
	}
	return path, errors.Join(delayplot.WritePNG(f, title, runs...), f.Close())
}
