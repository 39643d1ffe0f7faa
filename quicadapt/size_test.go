package quicadapt

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// searched runs a search from a size to a largest one over a path that takes a size, and loses a share of all packets. It returns what was
// proven and how many packets that took.
func searched(t interface{ Fatalf(string, ...any) }, from, most, path int, loss float64, r *rand.Rand) (s sizeSearch, packets int) {
	for {
		size := s.next(from, most)
		if size == 0 {
			return s, packets
		}
		if size <= max(from, s.proven) || size > most {
			t.Fatalf("asked for %d bytes, of %d to %d", size, max(from, s.proven)+1, most)
		}
		if packets++; packets > 40 {
			t.Fatalf("does not end: %+v", s)
		}
		s.ask(size)
		if again := s.next(from, most); again != 0 {
			t.Fatalf("asked for %d bytes while a packet is on its way", again)
		}
		s.answer(size, size <= path && r.Float64() >= loss)
	}
}

func TestSizeSearch(t *testing.T) {
	for _, tt := range []struct{ from, most, path, proven, packets int }{
		{1280, 1452, 1500, 1452, 1},  // Ethernet: one packet
		{1441, 1452, 1452, 1452, 1},  // behind what quic-go found
		{1452, 1452, 1500, 0, 0},     // nothing to find
		{1452, 1400, 1500, 0, 0},     // the peer takes less
		{1280, 1452, 1280, 0, 21},    // the path takes no more: 1452, 1366, 1323, 1301, 1290, 1285, 1282, three of each
		{1395, 1452, 1400, 1398, 13}, // 1452, 1423, 1409, 1402 and at last 1398
		{1280, 1452, 1399, 1398, 15}, // 1452, 1366, 1409, 1387, 1398, 1403, 1400
	} {
		s, n := searched(t, tt.from, tt.most, tt.path, 0, rand.New(rand.NewPCG(1, 1)))
		if s.proven != tt.proven || n != tt.packets {
			t.Errorf("from %d to %d on a path of %d: proven %d in %d packets, want %d in %d", tt.from, tt.most, tt.path, s.proven, n, tt.proven, tt.packets)
		}
	}
}

// TestSizeSearchEnds: what is proven is what the path takes, to sizePrecision, or less with losses.
func TestSizeSearchEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(1200, 1452).Draw(t, "from")
		most := rapid.IntRange(1200, 1452).Draw(t, "most")
		path := rapid.IntRange(from, 1500).Draw(t, "path")
		loss := rapid.SampledFrom([]float64{0, 0.1, 0.9}).Draw(t, "loss")
		s, _ := searched(t, from, most, path, loss, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
		found := max(s.proven, from)
		if s.proven > path || s.proven > most {
			t.Fatalf("proven %d of %d, %d", s.proven, path, most)
		}
		if can := min(path, most); loss == 0 && can-found > sizePrecision {
			t.Fatalf("proven %d of %d", found, can)
		}
	})
}

// TestSizeSearchLate: what was taken for lost arrives after all, and quic-go finds more meanwhile.
func TestSizeSearchLate(t *testing.T) {
	var s sizeSearch
	for range maxSizeAsked {
		s.ask(s.next(1280, 1452))
		s.answer(1452, false)
	}
	if got := s.next(1280, 1452); got != 1366 {
		t.Fatalf("after the largest size was lost it asks for %d", got)
	}
	s.ask(1366)
	s.answer(1452, true)
	s.answer(1366, false)
	if s.proven != 1452 || s.next(1280, 1452) != 0 {
		t.Errorf("%+v asks for %d", s, s.next(1280, 1452))
	}
}
