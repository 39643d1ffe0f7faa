package delay

import (
	"slices"
	"sort"
	"time"
)

// segment is some bytes of a stream that were first seen in one packet.
type segment struct {
	start uint64
	data  []byte
	time  time.Time
}

func (s *segment) end() uint64 { return s.start + uint64(len(s.data)) }

// coverage is which bytes of a stream were seen, and when first: segments in order, without overlap.
type coverage []segment

// add adds bytes, which it keeps a reference to; those that are there already stay as they are.
func (c *coverage) add(s segment) {
	if len(s.data) == 0 {
		return
	}
	if n := len(*c); n == 0 || (*c)[n-1].end() <= s.start {
		*c = append(*c, s)
		return
	}
	// The first segment that ends behind the new one's start; before it there is nothing to do.
	i := sort.Search(len(*c), func(i int) bool { return (*c)[i].end() > s.start })
	for ; len(s.data) > 0; i++ {
		if i == len(*c) || s.end() <= (*c)[i].start {
			*c = slices.Insert(*c, i, s)
			return
		}
		next := (*c)[i]
		if s.start < next.start {
			k := next.start - s.start
			*c = slices.Insert(*c, i, segment{s.start, s.data[:k], s.time})
			i++
		}
		s.data = s.data[min(uint64(len(s.data)), next.end()-s.start):]
		s.start = next.end()
	}
}

// appendPrefix appends the bytes from position 0 on, as far as there is no gap and at most limit.
func (c coverage) appendPrefix(b []byte, limit int) []byte {
	at := uint64(0)
	for i := range c {
		if c[i].start != at || len(b) >= limit {
			break
		}
		b = append(b, c[i].data[:min(len(c[i].data), limit-len(b))]...)
		at = c[i].end()
	}
	return b
}

// from returns the coverage of the bytes from position start on, which becomes position 0.
func (c coverage) from(start uint64) coverage {
	var out coverage
	for _, s := range c {
		if s.end() <= start {
			continue
		}
		if s.start < start {
			s.data = s.data[start-s.start:]
			s.start = start
		}
		s.start -= start
		out = append(out, s)
	}
	return out
}

// first returns when the first byte was seen. c is not empty.
func (c coverage) first() time.Time {
	t := c[0].time
	for i := range c {
		if c[i].time.Before(t) {
			t = c[i].time
		}
	}
	return t
}

func (c coverage) bytes() uint64 {
	n := uint64(0)
	for i := range c {
		n += uint64(len(c[i].data))
	}
	return n
}

// merge returns the coverage of two streams with the same content.
func merge(a, b coverage) coverage {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(x, y segment) int { return x.time.Compare(y.time) })
	var out coverage
	for _, s := range all {
		out.add(s)
	}
	return out
}
