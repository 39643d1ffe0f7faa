package media

import (
	"math/bits"
	"time"
)

// maxSeconds bounds all times (68 years; enough for times since 1970), so that no arithmetic on them overflows.
const maxSeconds = 1<<31 - 1

// scale returns t*to/from, rounded down. t/from is at most maxSeconds, to at most 1e9 or a 32-bit timescale.
func scale(t uint64, from, to uint64) uint64 {
	hi, lo := bits.Mul64(t, to)
	if hi >= from {
		return 1<<63 - 1
	}
	q, _ := bits.Div64(hi, lo, from)
	return q
}

// toDuration converts a time in units of 1/timescale s.
func toDuration(t uint64, timescale uint32) time.Duration {
	return time.Duration(scale(t, uint64(timescale), uint64(time.Second)))
}

// before says whether a, in units of 1/as s, is earlier than b, in units of 1/bs s; exactly.
func before(a uint64, as uint32, b uint64, bs uint32) bool {
	ah, al := bits.Mul64(a, uint64(bs))
	bh, bl := bits.Mul64(b, uint64(as))
	return ah < bh || ah == bh && al < bl
}
