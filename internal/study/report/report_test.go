package report

import (
	"context"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/internal/study"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// TestHTML: the page has all rows, links to what is there, and pictures that are well-formed.
func TestHTML(t *testing.T) {
	p := &study.Plan{
		Congestions: []string{"scream", "newreno"}, Heuristics: []string{"none", "random", "live"}, Beside: []string{"cubic"}, Favourite: "live",
		Seeds: 2, Out: t.TempDir(), Traces: study.TracesFirst,
	}
	for _, name := range []string{"one", "two"} {
		s, err := scenario.Parse(name+".toml", `
description = "less < more & <b>"
duration = "1s"
[media]
bitrate = "1Mbit"
[[link]]
rate = "500kbit"
`)
		if err != nil {
			t.Fatal(err)
		}
		p.Scenarios = append(p.Scenarios, s)
	}
	r, err := study.Run(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := HTML(r)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, bad := range []string{"NaN", "Inf", "no value", "ZgotmplZ", "%!", "<b>&", "more & <b>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, want := range []string{"live · scream", "random · newreno", "less &lt; more &amp; &lt;b&gt;", `<th>cubic</th>`, `id="two"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	links := regexp.MustCompile(`href="(runs/[^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(links) != 2*2*3*2 { // scenarios, congestion controls, heuristics, traces
		t.Errorf("%d links to traces", len(links))
	}
	for _, l := range links {
		if _, err := os.Stat(filepath.Join(p.Out, filepath.FromSlash(l[1]))); err != nil {
			t.Error(err)
		}
	}
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if len(pictures) != 2*3 {
		t.Errorf("%d pictures", len(pictures))
	}
	for i, s := range pictures {
		d := xml.NewDecoder(strings.NewReader(s))
		for err == nil {
			_, err = d.Token()
		}
		if err != io.EOF {
			t.Errorf("picture %d: %v", i, err)
		}
		err = nil
	}
	if strings.Contains(page, "http") {
		t.Error("the page needs something else")
	}
	p.Traces = study.TracesNone
	if b, err = HTML(r); err != nil || strings.Contains(string(b), `href="runs/`) || strings.Contains(string(b), ">traces<") {
		t.Errorf("without traces there are links to them, or a column: %v", err)
	}
}

func TestTicks(t *testing.T) {
	for _, tc := range []struct {
		low, high float64
		n         int
		want      []float64
	}{{0, 1, 5, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}}, {0, 1000, 4, []float64{0, 250, 500, 750, 1000}}, {3, 17, 3, []float64{5, 10, 15}}} {
		got := ticks(tc.low, tc.high, tc.n)
		if !slices.EqualFunc(got, tc.want, func(a, b float64) bool { return short(a) == short(b) }) {
			t.Errorf("ticks from %v to %v are %v, want %v", tc.low, tc.high, got, tc.want)
		}
	}
	for v, want := range map[float64]string{0.9: "0.5", 1: "1", 2.4: "2", 30: "25", 99: "50"} {
		if got := short(niceBelow(v)); got != want {
			t.Errorf("below %v: %s, want %s", v, got, want)
		}
	}
}
