package run

import (
	"math"
	"slices"
)

// samples are durations in microseconds.
type samples []int32

func (s *samples) add(ns int64) { *s = append(*s, int32(min(max(ns/1000, 0), math.MaxInt32))) }

// Distribution is what is kept of durations, in milliseconds: the quantiles 0, 1 … 100 %.
type Distribution struct {
	N         int       `json:"n"`
	Quantiles []float64 `json:"quantiles,omitempty"`
}

// least returns the smallest of each n samples in a row.
func (s samples) least(n int) samples {
	var out samples
	for i := n; i <= len(s); i++ {
		out = append(out, slices.Min(s[i-n:i]))
	}
	return out
}

// distribution sorts the samples.
func (s samples) distribution() Distribution {
	d := Distribution{N: len(s)}
	if len(s) == 0 {
		return d
	}
	slices.Sort(s)
	for i := range 101 {
		d.Quantiles = append(d.Quantiles, float64(s[(len(s)-1)*i/100])/1000)
	}
	return d
}

// At returns the quantile of a percentage, in milliseconds; 0 without samples.
func (d *Distribution) At(percent int) float64 {
	if d.N == 0 {
		return 0
	}
	return d.Quantiles[percent]
}
