package datapath_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
	"pgregory.net/rapid"
)

// TestShare has owners take and give back entries in any order: the table never overflows, whoever has less than its part gets another
// entry, and what is counted beyond the parts is what is held beyond them.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := rapid.IntRange(1, 20).Draw(t, "owners")
		capacity := uint32(rapid.IntRange(1, 500).Draw(t, "capacity"))
		share := datapath.NewShare(capacity, uint32(owners))
		have, rest := make([]uint64, owners), uint64(0)
		greedy := rapid.IntRange(1, 20).Draw(t, "tries")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, owners-1).Draw(t, "owner")
			give := rapid.IntRange(0, 4).Draw(t, "give") == 0
			for range greedy {
				before := have[i]
				switch {
				case !give:
					if got := share.Take(&have[i], &rest); before < share.Part && !got {
						t.Fatalf("owner with %d of its %d entries gets no other one", before, share.Part)
					}
				case before > 0:
					share.Give(&have[i], &rest)
				}
			}
			total, beyond := uint64(0), uint64(0)
			for _, n := range have {
				total += n
				beyond += n - min(n, share.Part)
			}
			if total > uint64(capacity) || beyond != rest {
				t.Fatalf("%v of %d, %d beyond the parts of %d, counted %d", have, capacity, beyond, share.Part, rest)
			}
		}
	})
}

// TestShareOfDefaults: what an owner gets of the default tables when it is alone, and when all before it took all that they could.
func TestShareOfDefaults(t *testing.T) {
	l := datapath.Limits{}.WithDefaults()
	for _, c := range []struct {
		share       datapath.Share
		owners      uint32
		alone, last int
	}{
		{l.StreamShare(), l.Upstreams, 32 + 4096, 32},
		{l.ClientStreamShare(), l.Clients, 32 + 16384, 32},
	} {
		rest, got := uint64(0), make([]int, c.owners)
		for i := range got {
			own := uint64(0)
			for c.share.Take(&own, &rest) {
				got[i]++
			}
		}
		if got[0] != c.alone || got[len(got)-1] != c.last {
			t.Errorf("%+v: the first of %d owners gets %d entries and the last %d", c.share, c.owners, got[0], got[len(got)-1])
		}
	}
}
