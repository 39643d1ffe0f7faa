package relay

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	for _, c := range []struct {
		failed int
		random float64
		want   time.Duration
	}{
		{0, 0.5, first}, {0, 0, first / 2}, {1, 0.5, 2 * first}, {3, 0.5, 8 * first}, {6, 0.5, most}, {1000, 0.5, most},
		{1000, 0, most / 2}, {2, 0.75, 5 * first},
	} {
		if got := backoff(first, most, c.failed, c.random); got != c.want {
			t.Errorf("after %d failures, random %v: %v, want %v", c.failed, c.random, got, c.want)
		}
	}
	if got := backoff(1<<60, 1<<62, 40, 0.5); got != 1<<62 {
		t.Errorf("overflow: %v", got)
	}
}
