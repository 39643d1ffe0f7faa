package wire

import (
	"testing"

	"pgregory.net/rapid"
)

func TestReplayWindow(t *testing.T) {
	var w ReplayWindow
	if _, ok := w.Largest(); ok || w.Next() != 0 {
		t.Fatal("an empty window has a largest number")
	}
	for i, step := range []struct {
		pn   uint64
		want ReplayVerdict
		next uint64
	}{
		{0, Fresh, 1},
		{0, Duplicate, 1},
		{5, Fresh, 6},
		{3, Fresh, 6},
		{3, Duplicate, 6},
		{5, Duplicate, 6},
		{5 + ReplayWindowSize, Fresh, 6 + ReplayWindowSize},
		{5, TooOld, 6 + ReplayWindowSize},
		{3, Duplicate, 6 + ReplayWindowSize}, // its slot has not been taken yet
		{4, Fresh, 6 + ReplayWindowSize},     // never seen, so not a replay, however late
		{1 << 40, Fresh, 1<<40 + 1},
		{0, TooOld, 1<<40 + 1},
		{MaxVarint, Fresh, MaxVarint + 1},
		{MaxVarint, Duplicate, MaxVarint + 1},
	} {
		if got := w.Check(step.pn); got != step.want || w.Next() != step.next {
			t.Fatalf("step %d: Check(%d) = %v, next %d; want %v, %d", i, step.pn, got, w.Next(), step.want, step.next)
		}
	}
	if pn, ok := w.Largest(); !ok || pn != MaxVarint {
		t.Errorf("Largest() = %d, %v", pn, ok)
	}
}

// No number is Fresh twice, a Duplicate has been seen, and what is TooOld has a higher number in its slot.
func TestReplayWindowAgainstSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w ReplayWindow
		seen := map[uint64]bool{}
		base := rapid.SampledFrom([]uint64{0, 1<<16 - 100, 1<<32 - 100}).Draw(t, "base")
		for range rapid.IntRange(1, 200).Draw(t, "packets") {
			pn := base + rapid.OneOf(rapid.Uint64Max(20), rapid.Uint64Range(ReplayWindowSize-3, ReplayWindowSize+20), rapid.Uint64Max(3*ReplayWindowSize)).Draw(t, "pn")
			higher := false
			for other := range seen {
				higher = higher || other > pn && other%ReplayWindowSize == pn%ReplayWindowSize
			}
			want := Fresh
			switch {
			case higher:
				want = TooOld
			case seen[pn]:
				want = Duplicate
			}
			if got := w.Check(pn); got != want {
				t.Fatalf("Check(%d) = %v, want %v", pn, got, want)
			}
			seen[pn] = true
			if pn >= w.Next() {
				t.Fatalf("next is %d after %d", w.Next(), pn)
			}
		}
	})
}

func BenchmarkReplayWindow(b *testing.B) {
	var w ReplayWindow
	for i := range b.N {
		w.Check(uint64(i))
	}
}
