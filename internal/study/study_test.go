package study

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

const short = `
duration = "2s"
[media]
bitrate = "2Mbit"
[[link]]
trace = { kind = "cellular", middle = "1Mbit", low = "100kbit", high = "3Mbit" }
loss = 0.01
[[subscribers]]
count = 2
`

func plan(t *testing.T, out string) *Plan {
	t.Helper()
	p := &Plan{
		Congestions: []string{"scream"}, Heuristics: []string{"none", "live"}, Beside: []string{"cubic"}, Favourite: "live",
		Seeds: 3, Out: out, Traces: TracesFirst,
	}
	for _, name := range []string{"a.toml", "b.toml"} {
		s, err := scenario.Parse(name, short)
		if err != nil {
			t.Fatal(err)
		}
		p.Scenarios = append(p.Scenarios, s)
	}
	p.Scenarios[1].Media.Bitrate = 1e6
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

// conduct runs a plan and writes its results.
func conduct(t *testing.T, p *Plan) *Results {
	t.Helper()
	r, err := Run(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(); err != nil {
		t.Fatal(err)
	}
	return r
}

// files returns all files under a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameFiles(t *testing.T, a, b map[string]string) {
	t.Helper()
	if len(a) != len(b) {
		t.Errorf("%d files and %d", len(a), len(b))
	}
	for name, text := range a {
		if b[name] != text {
			t.Errorf("%s differs", name)
		}
	}
}

// TestDeterminism: with one job at a time and with four, all files are the same, byte for byte.
func TestDeterminism(t *testing.T) {
	one, four := plan(t, t.TempDir()), plan(t, t.TempDir())
	one.Jobs, four.Jobs = 1, 4
	conduct(t, one)
	conduct(t, four)
	a, b := files(t, one.Out), files(t, four.Out)
	sameFiles(t, a, b)
	if n := strings.Count(a["runs.csv"], "\n"); n != 1+2*3*3 {
		t.Errorf("runs.csv has %d lines", n)
	}
	if len(a) != 2+2*3*3+2*(2*3) { // a file for each run, two traces for each first seed
		t.Errorf("%d files", len(a))
	}
}

// TestResume: a study that was interrupted goes on, and ends with what it would have without.
func TestResume(t *testing.T) {
	whole := plan(t, t.TempDir())
	conduct(t, whole)
	p := plan(t, t.TempDir())
	p.Jobs = 1
	ctx, cancel := context.WithCancel(context.Background())
	p.Progress = func(done, _ int) {
		if done == 7 {
			cancel()
		}
	}
	if _, err := Run(ctx, p); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	p.Progress = nil
	r := conduct(t, p)
	if r.Reused < 7 || r.Reused > 9 {
		t.Errorf("%d runs were there, want 7 or a few more", r.Reused)
	}
	sameFiles(t, files(t, whole.Out), files(t, p.Out))
	if r = conduct(t, p); r.Reused != len(r.Runs) {
		t.Errorf("%d of %d runs were there the third time", r.Reused, len(r.Runs))
	}
}

// TestStale: what is there of another configuration, or damaged, or without its traces, is run again.
func TestStale(t *testing.T) {
	p := plan(t, t.TempDir())
	all := len(conduct(t, p).Runs)
	base := filepath.Join(p.Out, Base("a", "scream", "none", 2))
	for _, tc := range []struct {
		name   string
		change func() error
		again  int
	}{
		{"damaged", func() error { return os.WriteFile(base+".json", []byte("{"), 0o644) }, 1},
		{"gone", func() error { return os.Remove(base + ".json") }, 1},
		{"traces gone", func() error { return os.Remove(filepath.Join(p.Out, Base("b", "scream", "none", 1)) + ".qlog") }, 1},
		{"scenario", func() error { p.Scenarios[0].Links[0].Loss = 0.02; return nil }, all / 2},
		{"more seeds", func() error { p.Seeds = 4; return nil }, 6},
	} {
		if err := tc.change(); err != nil {
			t.Fatal(err)
		}
		r := conduct(t, p)
		if n := len(r.Runs) - r.Reused; n != tc.again {
			t.Errorf("%s: %d runs again, want %d", tc.name, n, tc.again)
		}
	}
}

// TestHalfTraces: traces that were begun and not finished are written again, also beside a result from a study without traces.
func TestHalfTraces(t *testing.T) {
	p := plan(t, t.TempDir())
	p.Traces = TracesNone
	conduct(t, p)
	p.Traces = TracesFirst
	base := filepath.Join(p.Out, Base("a", "scream", "none", 1))
	if err := os.Mkdir(base+".qlog", 0o755); err != nil { // where it cannot write, it ends as an interrupt would end it
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), p); err == nil {
		t.Fatal("a directory was written to")
	}
	err := os.Remove(base + ".qlog")
	for _, ext := range []string{".pcap", ".qlog"} {
		err = errors.Join(err, os.WriteFile(base+ext, []byte("half"), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	conduct(t, p)
	for _, ext := range []string{".pcap", ".qlog"} {
		if b, err := os.ReadFile(base + ext); err != nil || len(b) < 100 {
			t.Errorf("%s has %d bytes: %v", ext, len(b), err)
		}
	}
}

// TestSummary: means and confidence intervals are those of the runs.
func TestSummary(t *testing.T) {
	p := plan(t, t.TempDir())
	r := conduct(t, p)
	rows := r.Rows()
	if len(rows) != 6 || rows[2].Congestion != "cubic" || !rows[2].Beside || rows[3].Scenario != "b" || rows[4].Heuristic != "live" {
		t.Fatalf("rows are %+v", rows)
	}
	sum := 0.0
	for _, x := range r.Runs[3:6] {
		sum += x.DecodableFPS()
	}
	if e := rows[1].DecodableFPS; math.Abs(e.Mean-sum/3) > 1e-9 || e.CI <= 0 {
		t.Errorf("%+v, want a mean of %v", e, sum/3)
	}
	var s Summary
	b, err := os.ReadFile(filepath.Join(p.Out, "summary.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil || s.Runs != 18 || len(s.Rows) != 6 || s.Rows[1].DecodableFPS != rows[1].DecodableFPS {
		t.Errorf("summary.json is %+v: %v", s, err)
	}
}

// TestEstimate: 1, 2, 3 have a standard error of 1/√3 and two degrees of freedom.
func TestEstimate(t *testing.T) {
	runs := []*run.Result{{StallTime: 1}, {StallTime: 2}, {StallTime: 3}}
	e := estimate(runs, func(r *run.Result) float64 { return r.StallTime })
	if e.Mean != 2 || math.Abs(e.CI-4.303/math.Sqrt(3)) > 1e-9 {
		t.Errorf("%+v", e)
	}
	if e = estimate(runs[:1], func(r *run.Result) float64 { return r.StallTime }); e != (Estimate{1, 0}) {
		t.Errorf("of one: %+v", e)
	}
	if x := student(60); math.Abs(x-2.000) > 0.002 {
		t.Errorf("t for 60 degrees of freedom is %v", x)
	}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		change func(p *Plan)
		want   string
	}{
		{func(p *Plan) { p.Seeds = 0 }, "seeds must be 1 to 10000, not 0"},
		{func(p *Plan) { p.Traces = "some" }, `traces must be first, all or none, not "some"`},
		{func(p *Plan) { p.Heuristics = nil }, "a study needs"},
		{func(p *Plan) { p.Scenarios[1].Name = "a" }, `two scenarios called "a"`},
	} {
		p := plan(t, t.TempDir())
		tc.change(p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %s", err, tc.want)
		}
	}
	p := plan(t, t.TempDir())
	p.Heuristics = []string{"unknown"}
	if _, err := Run(context.Background(), p); err == nil || !strings.Contains(err.Error(), `a with unknown and scream, seed`) {
		t.Errorf("an unknown heuristic: %v", err)
	}
}

// TestCSV: as many values as columns, no name twice.
func TestCSV(t *testing.T) {
	p := plan(t, t.TempDir())
	lines := bytes.Split(bytes.TrimSpace(conduct(t, p).CSV()), []byte("\n"))
	names := strings.Split(string(lines[0]), ",")
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			t.Errorf("column %s is there twice", n)
		}
		seen[n] = true
	}
	for _, l := range lines {
		if n := bytes.Count(l, []byte(",")) + 1; n != len(names) {
			t.Errorf("%d values for %d columns: %s", n, len(names), l)
		}
	}
}
