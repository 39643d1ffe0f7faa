package quicadapt

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRanges compares the set with one that is too simple to be wrong.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		var r ranges
		var want [size]bool
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			lo := rapid.Uint64Range(0, size-1).Draw(t, "lo")
			hi := rapid.Uint64Range(lo, size).Draw(t, "hi")
			if rapid.Bool().Draw(t, "add") {
				added := uint64(0)
				for i := lo; i < hi; i++ {
					if !want[i] {
						added++
					}
					want[i] = true
				}
				if got := r.add(lo, hi); got != added {
					t.Fatalf("add(%d, %d) = %d, want %d", lo, hi, got, added)
				}
			} else {
				r.remove(lo, hi)
				for i := lo; i < hi; i++ {
					want[i] = false
				}
			}
			var got [size]bool
			for i, s := range r {
				if s.lo >= s.hi || i > 0 && r[i-1].hi >= s.lo {
					t.Fatalf("spans %v are not disjoint and ascending", r)
				}
				for x := s.lo; x < s.hi; x++ {
					got[x] = true
				}
			}
			if got != want {
				t.Fatalf("set is %v, want %v", got, want)
			}
			prefix := uint64(0)
			for prefix < size && want[prefix] {
				prefix++
			}
			if r.prefix() != prefix {
				t.Fatalf("prefix() = %d, want %d", r.prefix(), prefix)
			}
			end := rapid.Uint64Range(0, size).Draw(t, "end")
			a := uint64(0)
			for a < end && want[a] {
				a++
			}
			b := a
			for b < end && !want[b] {
				b++
			}
			if g, ok := r.gap(end); ok != (a < end) || ok && g != (span{a, b}) {
				t.Fatalf("gap(%d) = %v, %v in %v, want [%d, %d)", end, g, ok, r, a, b)
			}
		}
	})
}
