package sim

import (
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
)

// TestDrainWhileTheRingGrows reserves records from within a Drain, as packets do that come meanwhile, so that the ring grows:
// each Drain gives the records up to its start, every record comes once, in order.
func TestDrainWhileTheRingGrows(t *testing.T) {
	s := New(Config{})
	next := uint64(0)
	reserve := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for range n {
			e := s.ring.reserve()
			e.record.Number, e.done, e.submitted = next, true, true
			next++
		}
	}
	reserve(10)
	want := uint64(0)
	for round := range 6 {
		end, first := next, true
		if err := s.Drain(func(r *datapath.Record) {
			if r.Number != want {
				t.Fatalf("round %d: record %d, want %d", round, r.Number, want)
			}
			want++
			if first {
				reserve(20 << round)
			}
			first = false
		}); err != nil {
			t.Fatal(err)
		}
		if want != end {
			t.Errorf("round %d: drained up to %d, want %d", round, want, end)
		}
	}
}
