package wire

// AckRange is a range of acknowledged packet numbers, both ends included.
type AckRange struct{ Smallest, Largest uint64 }

// ackReader walks the ranges of an ACK frame, from the largest down (RFC 9000, section 19.3.1).
type ackReader struct {
	b     []byte
	n     int    // position of the next gap
	left  uint64 // ranges after this one
	rng   AckRange
	first bool
}

// next moves to the next range. It is false, without an error, after the last one.
func (r *ackReader) next() (bool, error) {
	if r.first {
		r.first = false
		return true, nil
	}
	if r.left == 0 {
		return false, nil
	}
	gap, l := ReadVarint(r.b[r.n:])
	if l == 0 {
		return false, ErrFrameTruncated
	}
	size, m := ReadVarint(r.b[r.n+l:])
	if m == 0 {
		return false, ErrFrameTruncated
	}
	if r.rng.Smallest < gap+2 || r.rng.Smallest-gap-2 < size {
		return false, ErrAckRange
	}
	largest := r.rng.Smallest - gap - 2
	r.rng = AckRange{largest - size, largest}
	r.n += l + m
	r.left--
	return true, nil
}

// ackReader returns a reader over b, whose first four fields have been read into V; n is the position after them.
func (f *Frame) ackReader(b []byte, n int) (ackReader, error) {
	if f.V[3] > f.V[0] {
		return ackReader{}, ErrAckRange
	}
	return ackReader{b: b, n: n, left: f.V[2], rng: AckRange{f.V[0] - f.V[3], f.V[0]}, first: true}, nil
}

// ackHeaderLen returns the bytes of a parsed ACK frame before its second range.
func (f *Frame) ackHeaderLen() int {
	n := 1
	for range f.V {
		_, l := ReadVarint(f.Raw[min(n, len(f.Raw)):])
		n += l
	}
	return n
}

func (f *Frame) parseAck(b []byte, n int) (int, error) {
	n, err := f.parseInts(b, n, 4)
	if err != nil {
		return 0, err
	}
	r, err := f.ackReader(b, n)
	if err != nil {
		return 0, err
	}
	for more := true; more; {
		if more, err = r.next(); err != nil {
			return 0, err
		}
	}
	n = r.n
	if f.Type == FrameAckECN {
		for range 3 {
			_, l := ReadVarint(b[n:])
			if l == 0 {
				return 0, ErrFrameTruncated
			}
			n += l
		}
	}
	return n, nil
}

// AppendAckRanges appends the ranges of a parsed ACK frame, the largest first. Of any other frame it appends nothing.
func (f *Frame) AppendAckRanges(dst []AckRange) []AckRange {
	if !f.IsAck() || len(f.Raw) == 0 {
		return dst
	}
	r, err := f.ackReader(f.Raw, f.ackHeaderLen())
	if err != nil {
		return dst
	}
	for {
		more, err := r.next()
		if !more || err != nil {
			return dst
		}
		dst = append(dst, r.rng)
	}
}

// AckECN returns the ECN counts of a parsed ACK frame, zeros if it has none (RFC 9000, section 19.3.2).
func (f *Frame) AckECN() (ect0, ect1, ce uint64) {
	if f.Type != FrameAckECN || len(f.Raw) == 0 {
		return 0, 0, 0
	}
	r, err := f.ackReader(f.Raw, f.ackHeaderLen())
	for more := true; more && err == nil; {
		more, err = r.next()
	}
	if err != nil {
		return 0, 0, 0
	}
	var c [3]uint64
	for i := range c {
		v, l := ReadVarint(f.Raw[r.n:])
		c[i] = v
		r.n += l
	}
	return c[0], c[1], c[2]
}

// AppendAck appends an ACK frame (RFC 9000, section 19.3), with ECN counts ECT(0), ECT(1), CE if ecn is not nil.
// ranges are descending. delay is already scaled by ack_delay_exponent. Ranges that touch or overlap are
// joined, and a range that is out of order is left out, so that the frame never names a number that ranges do not.
// Without any range there is no frame to append, and b is returned as it was.
func AppendAck(b []byte, ranges []AckRange, delay uint64, ecn *[3]uint64) []byte {
	first, _, ok := nextRange(ranges, MaxVarint+2)
	if !ok {
		return b
	}
	count := uint64(0)
	for r, rest, ok := nextRange(ranges, MaxVarint+2); ok; count++ {
		r, rest, ok = nextRange(rest, r.Smallest)
	}
	t := FrameAck
	if ecn != nil {
		t = FrameAckECN
	}
	b = appendInts(b, t, first.Largest, delay, count-1, first.Largest-first.Smallest)
	for r, rest, ok := nextRange(ranges, MaxVarint+2); ok; {
		above := r.Smallest
		if r, rest, ok = nextRange(rest, above); ok {
			b = AppendVarint(b, above-r.Largest-2)
			b = AppendVarint(b, r.Largest-r.Smallest)
		}
	}
	if ecn != nil {
		for _, c := range ecn {
			b = AppendVarint(b, c)
		}
	}
	return b
}

// nextRange returns the first range that ends at least two numbers below below, joined with those that follow and touch it.
func nextRange(ranges []AckRange, below uint64) (r AckRange, rest []AckRange, ok bool) {
	for ; len(ranges) > 0; ranges = ranges[1:] {
		c := ranges[0]
		switch {
		case c.Smallest > c.Largest:
		case !ok:
			if below >= 2 && c.Largest <= below-2 {
				r, ok = c, true
			}
		case c.Largest > r.Largest:
		case c.Largest+1 < r.Smallest:
			return r, ranges, true
		default:
			r.Smallest = min(r.Smallest, c.Smallest)
		}
	}
	return r, nil, ok
}
