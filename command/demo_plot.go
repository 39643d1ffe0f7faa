package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fastrelay/fastrelay/internal/lab/delayplot"
)

// plot writes the delays of all runs over time, and returns the file's name.
func (d *demo) plot(r *demoReport) (string, error) {
	var runs []delayplot.Run
	for i := range r.Runs {
		run := &r.Runs[i]
		runs = append(runs, delayplot.Run{Name: fmt.Sprintf("%s (%s, %s)", run.Mode, run.Datapath, run.Cipher), Result: run.delays})
	}
	path := filepath.Join(d.Out, "delay.png")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	title := fmt.Sprintf("Delay through the relay, %d subscribers, MoQ draft %d", d.Subscribers, d.Draft)
	return path, errors.Join(delayplot.WritePNG(f, title, runs...), f.Close())
}
