package quicadapt

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHistogram: quantiles are those of the sorted values, at most an eighth too large; merging and JSON lose nothing.
func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Uint64Range(0, 1<<27), 1, 200).Draw(t, "values")
		var whole, a, b Histogram
		for i, v := range values {
			whole.Add(v)
			if i%2 == 0 {
				a.Add(v)
			} else {
				b.Add(v)
			}
		}
		a.Merge(&b)
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var back Histogram
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if back != whole {
			t.Fatalf("%v merged and kept is %v", whole, back)
		}
		slices.Sort(values)
		for _, q := range []float64{0, .5, .9, .99, 1} {
			want := values[min(max(int(q*float64(len(values))+0.999999), 1), len(values))-1]
			if got := whole.Quantile(q); got < want || got > want+want/8+1 {
				t.Fatalf("quantile %v: %d, of %d", q, got, want)
			}
		}
		v := rapid.Uint64Range(0, 1<<28).Draw(t, "within")
		below := func(v uint64) float64 {
			n, _ := slices.BinarySearch(values, v+1)
			return float64(n) / float64(len(values))
		}
		if got := whole.Within(v); got > below(v) || got < below(v-v/8) {
			t.Fatalf("%v of the values within %d, want %v to %v", got, v, below(v-v/8), below(v))
		}
	})
	if w := new(Histogram).Within(5); w != 0 {
		t.Errorf("of nothing, %v is within 5", w)
	}
	if err := new(Histogram).UnmarshalJSON([]byte(`{"buckets":{"5000":1}}`)); err == nil {
		t.Error("a bucket that there is not was taken")
	}
	var h Histogram
	h.Add(1 << 40)
	if h.Quantile(.5) != 1<<40 {
		t.Errorf("a value beyond the buckets: %v", h)
	}
}
