package recovery

import (
	"testing"

	"github.com/fastrelay/fastrelay/internal/congestion"
)

// TestBurst: what may leave at once is what the controller says, and a datagram at least; or half a window, and ten datagrams at least.
func TestBurst(t *testing.T) {
	for _, tc := range []struct {
		name     string
		window   int // datagrams
		rate     uint64
		datagram int
		want     uint64
	}{
		{"newreno", 10, 1, 1200, 12_000},
		{"newreno", 40, 1, 1200, 24_000},
		{"scream", 40, 1, 1200, 2400},
		{"scream", 40, 1, 9000, 9000},
		{"scream", 40, 300_000, 1200, 9000},
	} {
		cc, err := congestion.New(tc.name, 1200, tc.window)
		if err != nil {
			t.Fatal(err)
		}
		s := New(0, Handler[int](&recorder{}), cc)
		if got := s.Burst(tc.rate, tc.datagram); got != tc.want {
			t.Errorf("%s, a window of %d datagrams, %d bytes/s, %d bytes a datagram: %d bytes at once, want %d", tc.name, tc.window, tc.rate, tc.datagram, got, tc.want)
		}
	}
}
