package report

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// num writes a number with digits behind the point.
func num(v float64, digits int) string {
	if v == 0 {
		v = 0 // no negative zero
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// percent writes a share.
func percent(v float64, digits int) string { return num(100*v, digits) + " %" }

// svg is a picture that is being drawn. Sizes are in its own units, about pixels.
type svg struct {
	strings.Builder
	width, height float64
}

func newSVG(width, height float64, title string) *svg {
	s := &svg{width: width, height: height}
	s.f(`<svg viewBox="0 0 %s %s" width="%s" role="img" aria-label="%s">`, px(width), px(height), px(width), html.EscapeString(title))
	return s
}

func (s *svg) done() string {
	s.WriteString("</svg>")
	return s.String()
}

func (s *svg) f(format string, args ...any) { fmt.Fprintf(s, format, args...) }

// px writes a coordinate.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func (s *svg) text(x, y float64, class, what string) {
	s.f(`<text x="%s" y="%s" class="%s">%s</text>`, px(x), px(y), class, html.EscapeString(what))
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	s.f(`<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`, px(x1), px(y1), px(x2), px(y2), class)
}

func (s *svg) bar(x, y, width, height float64, class string) {
	s.f(`<rect x="%s" y="%s" width="%s" height="%s" class="%s" rx="1.5"/>`, px(x), px(y), px(max(width, 0)), px(height), class)
}

// scale maps values from low to high to x from left to right.
type scale struct{ low, high, left, right float64 }

func (s scale) at(v float64) float64 {
	return s.left + (s.right-s.left)*(min(max(v, s.low), s.high)-s.low)/(s.high-s.low)
}

// ticks returns about n round values from low to high.
func ticks(low, high float64, n int) (out []float64) {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/float64(n))))
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if (high-low)/(step*f) <= float64(n) {
			step *= f
			break
		}
	}
	for i := math.Ceil(low/step - 1e-9); i*step <= high+step*1e-9; i++ {
		out = append(out, i*step+0) // without a negative zero
	}
	return out
}

// short writes a tick.
func short(v float64) string { return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'g', 4, 64) }

// whisker draws a confidence interval.
func (s *svg) whisker(x scale, y, mean, ci float64, class string) {
	if ci <= 0 {
		return
	}
	a, b := x.at(mean-ci), x.at(mean+ci)
	s.line(a, y, b, y, class)
	s.line(a, y-2.5, a, y+2.5, class)
	s.line(b, y-2.5, b, y+2.5, class)
}
