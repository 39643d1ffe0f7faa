package quicadapt

import "math/rand/v2"

// skips decides which packet numbers are never sent, so that a peer that acknowledges everything gives itself away. It
// starts within the first packets that a window allows, and becomes rarer.
type skips struct {
	rnd    *rand.Rand
	next   uint64
	period uint64
}

const (
	firstSkipPeriod = 64
	lastSkipPeriod  = 1 << 14
)

// newSkips draws from a seed which the peer must not know. first is the first number.
func newSkips(seed [32]byte, first uint64) skips {
	s := skips{rnd: rand.New(rand.NewChaCha8(seed)), period: firstSkipPeriod}
	s.next = first + s.draw()
	return s
}

func (s *skips) draw() uint64 { return 1 + s.rnd.Uint64N(2*s.period) }

// due says whether a number is to be skipped, if it is the next one.
func (s *skips) due(number uint64) bool {
	if number < s.next {
		return false
	}
	s.period = min(2*s.period, lastSkipPeriod)
	s.next = number + 1 + s.draw()
	return true
}
