package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/internal/study"
	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// Measures that plots share.
const (
	plotWidth = 1040.0
	labels    = 150.0 // room for the names on the left
	rowHeight = 22.0
	barHeight = 12.0
)

// drawn marks a finished picture as HTML: all text in it was escaped when it was drawn.
func drawn(s *svg) template.HTML { return template.HTML(s.done()) }

// names writes the names of rows on the left.
func (s *svg) names(rows []row, top float64) {
	for i := range rows {
		s.text(labels-12, top+rowHeight*(float64(i)+0.5)+4, "end", rows[i].Name)
	}
}

// fates draws for each class how much was delivered, and how much could be decoded.
func fates(rows []row) template.HTML {
	const top, bottom, gap = 34.0, 24.0, 62.0
	s := newSVG(plotWidth, top+bottom+rowHeight*float64(len(rows)), "Delivered and decodable frames by priority")
	s.names(rows, top)
	panel := (plotWidth - labels) / run.Classes
	titles := [run.Classes]string{"audio", "key frames", "reference frames", "non-reference frames"}
	for c := range titles {
		left := labels + panel*float64(c)
		x := scale{0, 1, left, left + panel - gap}
		s.text(left, 14, "title", titles[c])
		for _, t := range []float64{0, 0.5, 1} {
			s.line(x.at(t), top-4, x.at(t), top+rowHeight*float64(len(rows)), "grid")
			s.text(x.at(t), top+rowHeight*float64(len(rows))+16, "tick mid", num(100*t, 0))
		}
		for i := range rows {
			y := top + rowHeight*float64(i) + (rowHeight-barHeight)/2
			d, e := rows[i].Delivered[c], rows[i].Decodable[c]
			s.bar(left, y, x.at(d.Mean)-left, barHeight, fmt.Sprintf("soft c%d", rows[i].Color))
			s.bar(left, y, x.at(e.Mean)-left, barHeight, fmt.Sprintf("fill c%d", rows[i].Color))
			s.whisker(x, y+barHeight/2, e.Mean, e.CI, "whisker")
			s.text(x.right+44, y+barHeight-2, "value", num(100*e.Mean, 1))
		}
	}
	return drawn(s)
}

// delays draws what share of the published video could be decoded within a time.
func delays(rows []row, sc *scenario.Scenario) template.HTML {
	const width, height, left, top, bottom = 620.0, 300.0, 46.0, 26.0, 38.0
	playout := float64(time.Duration(sc.Playout)) / 1e6
	x := scale{0, 1.04 * playout, left, width - 12}
	most := 0.0
	for i := range rows {
		_, share := quantile(&rows[i], 100)
		most = max(most, share)
	}
	y := scale{0, above(most), height - bottom, top}
	s := newSVG(width, height, "Share of the published video by delay")
	s.text(left, 13, "title", "% of the published video that could be decoded within …")
	for _, t := range ticks(0, y.high, 5) {
		s.line(x.left, y.at(t), x.right, y.at(t), "grid")
		s.text(x.left-7, y.at(t)+4, "tick end", short(100*t))
	}
	for _, t := range ticks(0, x.high, 8) {
		s.line(x.at(t), y.at(0), x.at(t), y.at(0)+4, "axis")
		s.text(x.at(t), y.at(0)+17, "tick mid", short(t))
	}
	s.text(x.right, height-4, "tick end", "ms from capture")
	s.line(x.at(playout), y.at(0), x.at(playout), top, "limit")
	s.text(x.right, top-13, "tick end", "play-out")
	for i := range rows {
		var path strings.Builder
		for q := range 101 {
			at, share := quantile(&rows[i], q)
			if at > x.high {
				break
			}
			letter := "L"
			if q == 0 {
				letter = "M"
			}
			fmt.Fprintf(&path, "%s%s %s", letter, px(x.at(at)), px(y.at(share)))
		}
		s.f(`<path d="%s" class="curve s%d"><title>%s</title></path>`, path.String(), rows[i].Color, template.HTMLEscapeString(rows[i].Name))
	}
	return drawn(s)
}

// above returns the end of an axis for shares up to v.
func above(v float64) float64 {
	for _, end := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8} {
		if v <= end {
			return end
		}
	}
	return 1
}

// quantile returns the delay within which q % of the decodable video came, and what share of all video that is; means over seeds.
func quantile(r *row, q int) (ms, share float64) {
	for _, x := range r.Runs {
		published := 0
		for class := run.Key; class < run.Classes; class++ {
			published += x.Classes[class].Published
		}
		ms += x.VideoDelay.At(q) / float64(len(r.Runs))
		share += float64(x.VideoDelay.N) / float64(max(published, 1)) * float64(q) / 100 / float64(len(r.Runs))
	}
	return ms, share
}

// figure is a panel of forest.
type figure struct {
	title  string
	of     func(*study.Row) study.Estimate
	factor float64
	digits int
	fixed  float64 // end of the axis, 0: by the largest value
}

// forest draws further figures as points with their confidence intervals.
func forest(rows []row) template.HTML {
	figures := [...]figure{
		{"stalls per subscriber", func(r *study.Row) study.Estimate { return r.Stalls }, 1, 1, 0},
		{"stalled, s", func(r *study.Row) study.Estimate { return r.StallTime }, 1, 1, 0},
		{"bytes wasted, %", func(r *study.Row) study.Estimate { return r.Wasted }, 100, 1, 0},
		{"queue p95, ms", func(r *study.Row) study.Estimate { return r.QueueP95 }, 1, 0, 0},
		{"link used, %", func(r *study.Row) study.Estimate { return r.Utilisation }, 100, 1, 100},
		{"fairness (Jain)", func(r *study.Row) study.Estimate { return r.Fairness }, 1, 3, 1},
	}
	const top, bottom, gap = 34.0, 24.0, 54.0
	s := newSVG(plotWidth, top+bottom+rowHeight*float64(len(rows)), "Stalls, waste, queues, utilisation and fairness")
	s.names(rows, top)
	panel := (plotWidth - labels) / float64(len(figures))
	for c, f := range figures {
		left := labels + panel*float64(c)
		x := scale{0, f.fixed, left + 4, left + panel - gap}
		for i := range rows {
			e := f.of(rows[i].Row)
			x.high = max(x.high, f.factor*(e.Mean+e.CI))
		}
		if f.fixed > 0 {
			x.high = f.fixed
		}
		x.high = max(x.high, 1e-3)
		s.text(left, 14, "title", f.title)
		for _, t := range []float64{0, niceBelow(x.high)} {
			s.line(x.at(t), top-4, x.at(t), top+rowHeight*float64(len(rows)), "grid")
			s.text(x.at(t), top+rowHeight*float64(len(rows))+16, "tick mid", short(t))
		}
		for i := range rows {
			y := top + rowHeight*(float64(i)+0.5)
			e := f.of(rows[i].Row)
			s.line(x.left, y, x.right, y, "rule")
			s.whisker(x, y, f.factor*e.Mean, f.factor*e.CI, fmt.Sprintf("interval s%d", rows[i].Color))
			s.f(`<circle cx="%s" cy="%s" r="4" class="fill c%d"/>`, px(x.at(f.factor*e.Mean)), px(y), rows[i].Color)
			s.text(x.right+44, y+4, "value", num(f.factor*e.Mean, f.digits))
		}
	}
	return drawn(s)
}

// niceBelow returns the largest round number up to v.
func niceBelow(v float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{5, 2.5, 2} {
		if step*f <= v*(1+1e-9) {
			return step * f
		}
	}
	return step
}
