// Package report draws what a study found: a page of HTML that needs nothing else, with its plots as SVG.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"path/filepath"
	"slices"

	"github.com/fastrelay/fastrelay/internal/study"
	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"num": num, "pct": func(v float64) string { return num(100*v, 1) }, "file": filepath.ToSlash,
}).Parse(pageHTML))

// content is what the page shows.
type content struct {
	Style     template.CSS
	Seeds     int
	Runs      int
	Traces    bool     // there are files that rows link to
	Names     []string // of the rows of every section
	Overview  []overview
	Scenarios []string
	Sections  []section
	Queues    []queue
	Favourite string
	Controls  []string // congestion controls of Queues
}

// overview is a row of the first table: a heuristic in all scenarios.
type overview struct {
	Name  string
	Color int
	Cells []overviewCell
}

type overviewCell struct {
	Value string
	Ratio string // to tail drop, "" without
	Best  bool
	Below bool    // less than tail drop
	Share float64 // of the best, for the bar
}

// section is a scenario.
type section struct {
	*scenario.Scenario
	Facts  string
	Rows   []row
	Fates  template.HTML
	Delays template.HTML
	Forest template.HTML
}

// row is a row of a section.
type row struct {
	*study.Row
	Name       string
	Color      int
	Pcap, Qlog string // if there are traces
	Audio      study.Estimate
	Key        study.Estimate
	Reference  study.Estimate
	Rest       study.Estimate
	Best       bool
}

// queue is a row of the table of queues.
type queue struct {
	Scenario string
	Rows     []*study.Row // by congestion control; nil where there is none
}

// HTML returns the report of a study.
func HTML(r *study.Results) ([]byte, error) {
	rows := r.Rows()
	c := content{Style: template.CSS(styleCSS), Seeds: r.Plan.Seeds, Runs: len(r.Runs), Traces: r.Plan.Traces != study.TracesNone, Favourite: r.Plan.Favourite}
	for _, s := range r.Plan.Scenarios {
		c.Scenarios = append(c.Scenarios, s.Name)
		c.Sections = append(c.Sections, newSection(r, s, rows))
	}
	for i, x := range c.Sections[0].Rows {
		c.Names = append(c.Names, x.Name)
		o := overview{Name: x.Name, Color: x.Color}
		for _, s := range c.Sections {
			o.Cells = append(o.Cells, s.cell(i))
		}
		c.Overview = append(c.Overview, o)
	}
	c.queues(r, rows)
	var b bytes.Buffer
	if err := page.Execute(&b, &c); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// visible is the least rate of frames that is not shown as 0.
const visible = 0.05

// baseline is the heuristic that others are compared with.
const baseline = "none"

func newSection(r *study.Results, s *scenario.Scenario, rows []*study.Row) section {
	x := section{Scenario: s, Facts: facts(s)}
	for _, row := range rows {
		if row.Scenario == s.Name && !row.Beside {
			x.Rows = append(x.Rows, newRow(r, row))
		}
	}
	best := slices.MaxFunc(x.Rows, func(a, b row) int {
		if a.DecodableFPS.Mean < b.DecodableFPS.Mean {
			return -1
		}
		return 1
	})
	for i := range x.Rows {
		x.Rows[i].Best = x.Rows[i].DecodableFPS.Mean == best.DecodableFPS.Mean && best.DecodableFPS.Mean >= visible
	}
	x.Fates, x.Delays, x.Forest = fates(x.Rows), delays(x.Rows, s), forest(x.Rows)
	return x
}

func newRow(r *study.Results, x *study.Row) row {
	y := row{Row: x, Name: x.Heuristic, Color: color(r.Plan.Heuristics, x.Heuristic)}
	if len(r.Plan.Congestions) > 1 {
		y.Name += " · " + x.Congestion
	}
	base := study.Base(x.Scenario, x.Congestion, x.Heuristic, 1)
	y.Pcap, y.Qlog = base+".pcap", base+".qlog"
	d := &x.Decodable
	y.Audio, y.Key, y.Reference, y.Rest = d[run.Audio], d[run.Key], d[run.Reference], d[run.NonReference]
	return y
}

// color returns the color of a heuristic: 0 and 1 are the baselines', the others follow.
func color(names []string, name string) int {
	switch name {
	case baseline:
		return 0
	case "random":
		return 1
	}
	i := 2
	for _, n := range names {
		if n == name {
			break
		}
		if n != baseline && n != "random" {
			i++
		}
	}
	return min(i, 2+(i-2)%colors)
}

// colors is how many there are besides the baselines'.
const colors = 8

func (s *section) cell(i int) overviewCell {
	x := s.Rows[i]
	c := overviewCell{Value: num(x.DecodableFPS.Mean, 1), Best: x.Best}
	best := 0.0
	for _, y := range s.Rows {
		best = max(best, y.DecodableFPS.Mean)
		if y.Heuristic != baseline || y.Congestion != x.Congestion || x.Heuristic == baseline {
			continue
		}
		c.Below = x.DecodableFPS.Mean < y.DecodableFPS.Mean
		if y.DecodableFPS.Mean >= visible {
			c.Ratio = "×" + num(x.DecodableFPS.Mean/y.DecodableFPS.Mean, 2)
		}
	}
	if best >= visible {
		c.Share = x.DecodableFPS.Mean / best
	}
	return c
}

// queues fills the table of queues: of the favourite heuristic with each congestion control.
func (c *content) queues(r *study.Results, rows []*study.Row) {
	c.Controls = slices.Concat(r.Plan.Congestions, r.Plan.Beside)
	favourite := r.Plan.Favourite
	if !slices.Contains(r.Plan.Heuristics, favourite) {
		favourite = r.Plan.Heuristics[len(r.Plan.Heuristics)-1]
		c.Favourite = favourite
	}
	for _, s := range r.Plan.Scenarios {
		q := queue{Scenario: s.Name, Rows: make([]*study.Row, len(c.Controls))}
		for _, row := range rows {
			if i := slices.Index(c.Controls, row.Congestion); row.Scenario == s.Name && row.Heuristic == favourite && i >= 0 {
				q.Rows[i] = row
			}
		}
		c.Queues = append(c.Queues, q)
	}
}

// facts says in a line what a scenario is.
func facts(s *scenario.Scenario) string {
	m := &s.Media
	what := fmt.Sprintf("%v of media", m.Bitrate)
	if m.Clip != nil {
		what = m.File
		if m.Bitrate > 0 {
			what += fmt.Sprintf(" at %v", m.Bitrate)
		}
	} else {
		what += fmt.Sprintf(", %d frames/s in groups of %d", m.FPS, m.Group)
	}
	for _, l := range s.Links {
		rate := l.Rate.String()
		if l.Trace.Kind != "" {
			rate = l.Trace.Kind
		}
		what += fmt.Sprintf(" · link %s, %v each way, queue %v", rate, *l.Delay, l.Queue)
		if l.Loss > 0 {
			what += fmt.Sprintf(", loss %s", percent(l.Loss, 1))
		}
	}
	if n := s.Clients(); n > 1 {
		what += fmt.Sprintf(" · %d subscribers", n)
	}
	return what + fmt.Sprintf(" · play-out after %v · %v long", s.Playout, s.Duration)
}
