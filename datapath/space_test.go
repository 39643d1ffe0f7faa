package datapath_test

import (
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
)

// TestNumbersAreTakenOnce is P1 for the shared word: many takers, each number once.
func TestNumbersAreTakenOnce(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	const takers, each = 8, 2000
	got := make([][]uint64, takers)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			for range each {
				got[i] = append(got[i], s.TakeNumber())
			}
		})
	}
	wg.Wait()
	seen := make([]bool, takers*each)
	for _, list := range got {
		for _, n := range list {
			if seen[n] {
				t.Fatalf("number %d was taken twice", n)
			}
			seen[n] = true
		}
	}
	if s.Next() != takers*each {
		t.Errorf("next number is %d", s.Next())
	}
}

// TestCreditUnderRaces is P4 for the shared words: streams are advanced and connection credit charged by many at once.
func TestCreditUnderRaces(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	const limit, steps = 1 << 22, 1 << 19 // long enough for the eight to run at once
	for slot := range uint8(4) {
		if !s.Reserve(uint64(4*slot+3), slot, 1<<40) {
			t.Fatal("pool is full")
		}
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range steps {
				s.Advance(uint8(i%4), uint64(i*(w%3+1)), limit)
				if s.DataUsed() > limit+8*3*steps { // charged and given back by up to 8
					t.Error("credit ran away")
				}
			}
		})
	}
	wg.Wait()
	sum := uint64(0)
	for slot := range uint8(4) {
		word, _ := s.StreamWord(slot)
		sum += word & datapath.StreamOffset
	}
	if sum != s.DataUsed() || sum > limit {
		t.Errorf("streams hold %d bytes, %d are charged, limit %d", sum, s.DataUsed(), limit)
	}
}

func TestCloseStreamFixesFinalSize(t *testing.T) {
	s := datapath.NewSpace(nil, nil)
	s.Reserve(11, 2, 50)
	if !s.Advance(2, 30, 100) || s.Advance(2, 131, 100) {
		t.Error("advance ignores the limit")
	}
	if n := s.CloseStream(2); n != 30 {
		t.Errorf("final size %d, want 30", n)
	}
	word, limit := s.StreamWord(2)
	if word != datapath.StreamClosed|datapath.StreamTag(11)|30 || limit != 50 {
		t.Errorf("stream word %#x, limit %d", word, limit)
	}
	if !s.Advance(2, 40, 100) || s.CloseStream(2) != 40 {
		t.Error("userspace cannot advance a closed stream")
	}
	s.SetStreamLimit(2, 60)
	if _, limit := s.StreamWord(2); limit != 60 || s.DataUsed() != 40 {
		t.Errorf("limit %d, used %d", limit, s.DataUsed())
	}
}

// TestSpaceModel compares a space with plain variables, by any calls.
func TestSpaceModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := datapath.NewSpace(make([]uint64, datapath.SpaceWords+8), nil)
		var used, next uint64
		var pool int
		highest := make(map[uint8]uint64)
		slot := rapid.Uint8Range(0, datapath.Slots-1)
		small := rapid.Uint64Range(0, 100)
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				if n := s.TakeNumber(); n != next {
					t.Fatalf("took %d, want %d", n, next)
				}
				next++
			},
			"charge": func(t *rapid.T) {
				n, limit := small.Draw(t, "n"), used+small.Draw(t, "left")
				if ok := s.Charge(n, limit); ok != (used+n <= limit) {
					t.Fatalf("charge %d of %d on top of %d: %v", n, limit, used, ok)
				} else if ok {
					used += n
				}
			},
			"advance": func(t *rapid.T) {
				i, end, limit := slot.Draw(t, "slot"), small.Draw(t, "end"), used+small.Draw(t, "left")
				growth := max(end, highest[i]) - highest[i]
				if ok := s.Advance(i, end, limit); ok != (used+growth <= limit) {
					t.Fatalf("advance by %d: %v", growth, ok)
				} else if ok {
					highest[i] += growth
					used += growth
				}
			},
			"reserve": func(t *rapid.T) {
				i, id := slot.Draw(t, "slot"), rapid.Uint64Range(0, 1<<48-1).Draw(t, "id")
				if ok := s.Reserve(id, i, 5); ok != (pool < datapath.PoolSize) {
					t.Fatalf("reserve with %d in the pool: %v", pool, ok)
				} else if ok {
					if w := *s.Word(datapath.WordPool + pool); w != uint64(i)<<48|id {
						t.Fatalf("pool word %#x", w)
					}
					pool++
					highest[i] = 0
				}
			},
			"": func(t *rapid.T) {
				if s.DataUsed() != used || s.Next() != next || s.PoolLen() != pool {
					t.Fatalf("used %d, next %d, pool %d; want %d, %d, %d", s.DataUsed(), s.Next(), s.PoolLen(), used, next, pool)
				}
				for i, h := range highest {
					if w, _ := s.StreamWord(i); w&datapath.StreamOffset != h {
						t.Fatalf("slot %d is at %d, want %d", i, w&datapath.StreamOffset, h)
					}
				}
			},
		})
	})
}
