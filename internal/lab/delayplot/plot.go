// Package delayplot draws the delays of one or more runs over time, as figure 4.2 of the thesis does: each point is the
// delay of some bytes at the time when they left the publisher. The delay's axis is logarithmic, as the runs to be compared
// differ by orders of magnitude.
package delayplot

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/fastrelay/fastrelay/internal/lab/delay"
)

// Run is one run to draw.
type Run struct {
	Name   string // in the legend
	Result *delay.Result
}

// Size of the picture, at 96 pixels per inch, and of the raster that points are put on: two points in the same place are
// drawn as one.
const (
	width, height = 12 * vg.Inch, 7 * vg.Inch
	rasterX       = 1200
	rasterY       = 600
)

// floor is the least delay that is drawn, in microseconds: those below it, which a logarithmic axis may not have, are drawn there.
const floor = 0.1

// colours of the runs: distinct also for those who do not see all colours.
var colours = []color.NRGBA{{0x1f, 0x77, 0xb4, 0xff}, {0xff, 0x7f, 0x0e, 0xff}, {0x2c, 0xa0, 0x2c, 0xff}, {0x94, 0x67, 0xbd, 0xff}}

// WritePNG writes a picture of the runs. A run without a delay is in the legend only.
func WritePNG(w io.Writer, title string, runs ...Run) error {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = 16
	p.Title.Padding = 8
	p.X.Label.Text = "time since the first byte left the publisher (s)"
	p.Y.Label.Text = "delay from publisher to subscriber"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, ticks{}
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = 13, 12
	}
	p.Legend.Top, p.Legend.Left, p.Legend.Padding, p.Legend.ThumbnailWidth = true, true, 4, 28
	p.Legend.TextStyle.Font.Size = 12
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xd0}, color.Gray{0xd0}
	p.Add(grid)

	e := extent(runs)
	if e.points == 0 {
		return errors.New("there is no delay to draw")
	}
	for i, r := range runs {
		if err := add(p, r, colours[i%len(colours)], e); err != nil {
			return fmt.Errorf("draw %s: %w", r.Name, err)
		}
	}
	// Whole decades; the legend has its place above them.
	p.X.Min, p.X.Max = 0, math.Max(e.seconds, 1e-3)
	p.Y.Min, p.Y.Max = decade(e.least, math.Floor), decade(e.most*1.01, math.Ceil)
	png, err := p.WriterTo(width, height, "png")
	if err != nil {
		return err
	}
	_, err = png.WriteTo(w)
	return err
}

// bounds of all points; delays in microseconds.
type bounds struct {
	seconds, least, most float64
	points               int
}

func extent(runs []Run) bounds {
	e := bounds{least: math.Inf(1), most: floor}
	for _, r := range runs {
		for i := range r.Result.Subscribers {
			for _, p := range r.Result.Subscribers[i].Points {
				y := micros(p.Delay)
				e.seconds = math.Max(e.seconds, p.At.Seconds())
				e.least, e.most = math.Min(e.least, y), math.Max(e.most, y)
				e.points++
			}
		}
	}
	return e
}

func micros(d time.Duration) float64 {
	return math.Max(float64(d)/float64(time.Microsecond), floor)
}

func decade(v float64, round func(float64) float64) float64 {
	return math.Pow(10, round(math.Log10(v)))
}

// add adds the points, the median and the legend of a run.
func add(p *plot.Plot, r Run, c color.NRGBA, e bounds) error {
	var xys plotter.XYs
	seen := make(map[[2]int]struct{})
	for i := range r.Result.Subscribers {
		for _, pt := range r.Result.Subscribers[i].Points {
			x, y := pt.At.Seconds(), micros(pt.Delay)
			cell := [2]int{int(x / math.Max(e.seconds, 1e-9) * rasterX), int(math.Log10(y/e.least) / math.Max(math.Log10(e.most/e.least), 1e-9) * rasterY)}
			if _, ok := seen[cell]; !ok {
				seen[cell] = struct{}{}
				xys = append(xys, plotter.XY{X: x, Y: y})
			}
		}
	}
	d := r.Result.Total
	if d.N == 0 {
		p.Legend.Add(r.Name + ": no delay measured")
		return nil
	}
	points, err := plotter.NewScatter(xys)
	if err != nil {
		return err
	}
	faint := c
	faint.A = 0x70
	points.GlyphStyle = draw.GlyphStyle{Color: faint, Radius: 1.1, Shape: draw.CircleGlyph{}}
	median, err := plotter.NewLine(plotter.XYs{{X: 0, Y: math.Max(d.P50, floor)}, {X: math.Max(e.seconds, 1e-3), Y: math.Max(d.P50, floor)}})
	if err != nil {
		return err
	}
	median.Color, median.Width, median.Dashes = darker(c), 1.6, []vg.Length{8, 4}
	p.Add(points, median)
	swatch := &plotter.Scatter{GlyphStyle: draw.GlyphStyle{Color: c, Radius: 4, Shape: draw.CircleGlyph{}}}
	p.Legend.Add(legend(r.Name, d), swatch, median)
	return nil
}

func darker(c color.NRGBA) color.NRGBA {
	return color.NRGBA{c.R / 10 * 6, c.G / 10 * 6, c.B / 10 * 6, c.A}
}

func legend(name string, d delay.Distribution) string {
	return fmt.Sprintf("%s: p50 %s, p90 %s, p99 %s, p99.9 %s, max %s",
		name, Duration(d.P50), Duration(d.P90), Duration(d.P99), Duration(d.P999), Duration(d.Max))
}

// Duration writes microseconds with three digits and the unit that fits.
func Duration(us float64) string {
	unit := "µs"
	switch a := math.Abs(us); {
	case a >= 999_500:
		us, unit = us/1e6, "s"
	case a >= 999.5:
		us, unit = us/1e3, "ms"
	}
	digits := 0
	for limit := 99.5; digits < 2 && math.Abs(us) < limit; limit /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f %s", digits, us, unit)
}

// ticks marks decades with a label and their parts without.
type ticks struct{}

// Ticks implements plot.Ticker.
func (ticks) Ticks(low, high float64) []plot.Tick {
	var all []plot.Tick
	for v := decade(low, math.Floor); v <= high*1.0001; v *= 10 {
		for k := 1.0; k < 10 && v*k <= high*1.0001; k++ {
			t := plot.Tick{Value: v * k}
			if k == 1 {
				t.Label = label(v)
			}
			if t.Value >= low*0.9999 {
				all = append(all, t)
			}
		}
	}
	return all
}

// label writes a power of ten microseconds.
func label(us float64) string {
	switch {
	case us > 0.9e6:
		return fmt.Sprintf("%g s", math.Round(us/1e6))
	case us > 0.9e3:
		return fmt.Sprintf("%g ms", math.Round(us/1e3))
	default:
		return fmt.Sprintf("%.3g µs", us)
	}
}
