package quicadapt

import (
	"encoding/json"
	"fmt"
	"math/bits"
)

// A Histogram counts values in buckets that are at most an eighth of their value wide. It takes no memory of its own, and
// can be added to others and kept as JSON. Its zero value is empty.
type Histogram struct {
	Count, Sum, Max uint64

	buckets [histogramBuckets]uint32
}

const (
	histogramBits    = 3 // buckets per power of two, as a power of two
	histogramPowers  = 27
	histogramBuckets = histogramPowers << histogramBits
)

// bucketOf returns the bucket of a value: 0…7 have one each, then eight for each power of two. The last takes the rest.
func bucketOf(v uint64) int {
	if v < 1<<histogramBits {
		return int(v)
	}
	e := bits.Len64(v) - 1 - histogramBits
	return min((e+1)<<histogramBits|int(v>>e&(1<<histogramBits-1)), histogramBuckets-1)
}

// bucketTop returns the largest value of a bucket.
func bucketTop(i int) uint64 {
	if i < 1<<histogramBits {
		return uint64(i)
	}
	e := i>>histogramBits - 1
	return (uint64(1<<histogramBits|i&(1<<histogramBits-1))+1)<<e - 1
}

// Add counts a value.
func (h *Histogram) Add(v uint64) {
	h.Count++
	h.Sum += v
	h.Max = max(h.Max, v)
	h.buckets[bucketOf(v)]++
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	h.Max = max(h.Max, o.Max)
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

// Quantile returns a value that a share q (0 to 1) of those counted does not exceed, at most an eighth too large; 0 if
// nothing was counted.
func (h *Histogram) Quantile(q float64) uint64 {
	if h.Count == 0 {
		return 0
	}
	want := max(uint64(q*float64(h.Count)+0.999999), 1)
	seen := uint64(0)
	for i, n := range h.buckets {
		if seen += uint64(n); seen >= want {
			if i == histogramBuckets-1 {
				break
			}
			return min(bucketTop(i), h.Max)
		}
	}
	return h.Max
}

// Within returns the share (0 to 1) of the values that do not exceed v: of those that are within an eighth of it, it may leave
// some out. It is 0 if nothing was counted.
func (h *Histogram) Within(v uint64) float64 {
	if h.Count == 0 {
		return 0
	}
	if v >= h.Max {
		return 1
	}
	n := uint64(0)
	for i := 0; i < histogramBuckets-1 && bucketTop(i) <= v; i++ {
		n += uint64(h.buckets[i])
	}
	return float64(n) / float64(h.Count)
}

// String returns the count and a few quantiles.
func (h Histogram) String() string {
	return fmt.Sprintf("%d (p50 %d, p90 %d, p99 %d, max %d)", h.Count, h.Quantile(.5), h.Quantile(.9), h.Quantile(.99), h.Max)
}

// histogramJSON is a Histogram as JSON: quantiles for readers, and the buckets that are not empty, by index.
type histogramJSON struct {
	Count   uint64         `json:"count"`
	Sum     uint64         `json:"sum"`
	P50     uint64         `json:"p50"`
	P90     uint64         `json:"p90"`
	P99     uint64         `json:"p99"`
	Max     uint64         `json:"max"`
	Buckets map[int]uint32 `json:"buckets,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (h Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{h.Count, h.Sum, h.Quantile(.5), h.Quantile(.9), h.Quantile(.99), h.Max, make(map[int]uint32)}
	for i, n := range h.buckets {
		if n > 0 {
			j.Buckets[i] = n
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*h = Histogram{Count: j.Count, Sum: j.Sum, Max: j.Max}
	for i, n := range j.Buckets {
		if i < 0 || i >= histogramBuckets {
			return fmt.Errorf("histogram has no bucket %d", i)
		}
		h.buckets[i] = n
	}
	return nil
}
