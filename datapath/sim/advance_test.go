package sim

import (
	"sync"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
)

// TestAdvanceAgainstUserspace lets the datapath and userspace move one stream at once: what is charged is what it grew by.
func TestAdvanceAgainstUserspace(t *testing.T) {
	space := datapath.NewSpace(nil, nil)
	space.Reserve(3, 0, 1<<40)
	space.SetDataLimit(1 << 40)
	const end = 1 << 20 // long enough for the four to run at once
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range uint64(end) {
				if r := advance(space, 0, 3, i+1, false); r != datapath.Forwarded && r != datapath.ReasonContended {
					t.Errorf("offset %d: %v", i, r)
				}
			}
		})
		wg.Go(func() {
			for i := range uint64(end) {
				space.Advance(0, i+1, 1<<40)
			}
		})
	}
	wg.Wait()
	if word, _ := space.StreamWord(0); word&datapath.StreamOffset != end || space.DataUsed() != end {
		t.Errorf("stream is at %d with %d charged, want %d", word&datapath.StreamOffset, space.DataUsed(), end)
	}
}

func TestPoolIsTakenOnce(t *testing.T) {
	space := datapath.NewSpace(nil, nil)
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	const ids = 20000
	wg.Go(func() {
		for i := uint64(0); i < ids; {
			if space.Reserve(4*i+3, uint8(i%datapath.Slots), 0) {
				i++
			}
		}
	})
	for range 3 {
		wg.Go(func() {
			for {
				mu.Lock()
				done := len(seen) == ids
				mu.Unlock()
				if done {
					return
				}
				if word, r := takePool(space); r == datapath.Forwarded {
					mu.Lock()
					if seen[word] {
						t.Errorf("word %#x was taken twice", word)
					}
					seen[word] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}
