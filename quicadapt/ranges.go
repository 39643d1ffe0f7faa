package quicadapt

// span is a range of stream offsets, hi excluded.
type span struct{ lo, hi uint64 }

// ranges is a set of offsets: disjoint spans in ascending order that do not touch. Streams of media have one, seldom a few.
type ranges []span

// add adds [lo, hi) and returns how many of its offsets were not in the set.
func (r *ranges) add(lo, hi uint64) (added uint64) {
	if lo >= hi {
		return 0
	}
	s := *r
	i := 0
	for i < len(s) && s[i].hi < lo {
		i++
	}
	j, nlo, nhi, had := i, lo, hi, uint64(0)
	for j < len(s) && s[j].lo <= hi {
		had += overlap(s[j], lo, hi)
		nlo, nhi = min(nlo, s[j].lo), max(nhi, s[j].hi)
		j++
	}
	switch {
	case j == i:
		s = append(s, span{})
		copy(s[i+1:], s[i:])
	case j > i+1:
		s = append(s[:i+1], s[j:]...)
	}
	s[i] = span{nlo, nhi}
	*r = s
	return hi - lo - had
}

func overlap(s span, lo, hi uint64) uint64 {
	if a, b := max(s.lo, lo), min(s.hi, hi); a < b {
		return b - a
	}
	return 0
}

// size returns how many offsets are in the set.
func (r ranges) size() (n uint64) {
	for _, x := range r {
		n += x.hi - x.lo
	}
	return n
}

// remove takes [lo, hi) out of the set.
func (r *ranges) remove(lo, hi uint64) {
	if lo >= hi {
		return
	}
	s := *r
	for i := 0; i < len(s); i++ {
		switch x := s[i]; {
		case x.hi <= lo || x.lo >= hi:
		case x.lo < lo && x.hi > hi:
			s = append(s, span{})
			copy(s[i+2:], s[i+1:])
			s[i], s[i+1] = span{x.lo, lo}, span{hi, x.hi}
			*r = s
			return
		case x.lo < lo:
			s[i].hi = lo
		case x.hi > hi:
			s[i].lo = hi
		default:
			s = append(s[:i], s[i+1:]...)
			i--
		}
	}
	*r = s
}

// prefix returns the end of the span that begins at 0.
func (r ranges) prefix() uint64 {
	if len(r) > 0 && r[0].lo == 0 {
		return r[0].hi
	}
	return 0
}

// gap returns the first span of [0, end) that is not in the set.
func (r ranges) gap(end uint64) (span, bool) {
	at := uint64(0)
	for _, s := range r {
		if s.lo > at {
			break
		}
		at = s.hi
	}
	if at >= end {
		return span{}, false
	}
	for _, s := range r {
		if s.lo > at {
			return span{at, min(s.lo, end)}, true
		}
	}
	return span{at, end}, true
}
