package wire

import (
	"cmp"
	"slices"
)

// Types of extension headers that a relay has a use for (draft-16, section "Extension Headers").
const (
	ExtDeliveryTimeout          = 0x02
	ExtMaxCacheDuration         = 0x04
	ExtImmutable                = 0x0b
	ExtDefaultPublisherPriority = 0x0e
	ExtPriorGroupIDGap          = 0x3c
	ExtPriorObjectIDGap         = 0x3e
)

// MaxValueLen is the longest value of a key-value pair (draft-14 and draft-16, section "Key-Value-Pair Structure").
const MaxValueLen = 1<<16 - 1

// ExtensionHeader is one key-value pair: an extension header of an object or a track, or a parameter of a control message.
//
//	draft 14: Type (i), [Length (i)], Value (..)        draft 16: Type minus previous Type (i), [Length (i)], Value (..)
type ExtensionHeader struct {
	Type  uint64
	Value uint64 // of an even type
	Bytes []byte // of an odd type; aliases the parsed bytes
}

// kvp reads the next pair. It fails on what is cut off, on a value that is too long, and on a type beyond 2^62-1.
// Draft 16 allows sums up to 2^64-1, yet such a type could not be written by draft 14 nor as a first delta, and none
// is registered.
func (r *moqReader) kvp(d Draft, prev uint64) (e ExtensionHeader, ok bool) {
	e.Type = r.varint()
	if d == Draft16 {
		e.Type += prev
	}
	if e.Type > MaxVarint {
		return e, false
	}
	if e.Type%2 == 0 {
		e.Value = r.varint()
		return e, !r.short
	}
	size := r.varint()
	if size > MaxValueLen {
		return e, false
	}
	e.Bytes = r.take(size)
	return e, !r.short
}

func appendKVP(b []byte, e *ExtensionHeader, d Draft, prev uint64) []byte {
	t := e.Type
	if d == Draft16 {
		t -= prev
	}
	b = AppendVarint(b, t)
	if e.Type%2 == 0 {
		return AppendVarint(b, e.Value)
	}
	b = AppendVarint(b, uint64(len(e.Bytes)))
	return append(b, e.Bytes...)
}

// ParseExtensions calls yield for every extension header in ext until it returns false. It returns ErrMalformed if ext
// is not a whole sequence of them. It allocates nothing itself.
//
// moqtransport v0.9.0 writes and reads absolute types in the objects of draft 16 too. What it wrote is then read
// here as deltas, so types, and the odd/even split with them, come out wrong; blocks passed on verbatim do not suffer.
func ParseExtensions(ext []byte, d Draft, yield func(ExtensionHeader) bool) error {
	r := moqReader{b: ext}
	var prev uint64
	for r.n < len(ext) {
		e, ok := r.kvp(d, prev)
		if !ok {
			return ErrMalformed
		}
		prev = e.Type
		if !yield(e) {
			return nil
		}
	}
	return nil
}

// AppendExtensions appends the headers in the encoding of d. Draft 16 cannot express a falling type, so there they are
// written in order of their types; headers of one type keep their order. The given slice is not changed.
func AppendExtensions(b []byte, hs []ExtensionHeader, d Draft) []byte {
	byType := func(x, y ExtensionHeader) int { return cmp.Compare(x.Type, y.Type) }
	if d == Draft16 && !slices.IsSortedFunc(hs, byType) {
		hs = slices.Clone(hs)
		slices.SortStableFunc(hs, byType)
	}
	var prev uint64
	for i := range hs {
		b = appendKVP(b, &hs[i], d, prev)
		prev = hs[i].Type
	}
	return b
}

// TranscodeExtensions appends ext, which is in the encoding of draft from, to dst in that of draft to. On an error dst is
// returned as it was. It allocates only if draft 14 had the types in an order that draft 16 cannot express.
//
// The value of an immutable extension (0x0b) is itself a sequence of pairs. It stays as it is: relays must not modify it,
// and an end-to-end signature may cover its bytes.
func TranscodeExtensions(dst, ext []byte, from, to Draft) ([]byte, error) {
	start := len(dst)
	r := moqReader{b: ext}
	var prevIn, prevOut uint64
	ordered := true
	for r.n < len(ext) {
		e, ok := r.kvp(from, prevIn)
		if !ok {
			return dst[:start], ErrMalformed
		}
		if to == Draft16 && e.Type < prevOut {
			ordered = false
			break
		}
		dst = appendKVP(dst, &e, to, prevOut)
		prevIn, prevOut = e.Type, e.Type
	}
	if ordered {
		return dst, nil
	}
	var hs []ExtensionHeader
	if err := ParseExtensions(ext, from, func(e ExtensionHeader) bool { hs = append(hs, e); return true }); err != nil {
		return dst[:start], err
	}
	return AppendExtensions(dst[:start], hs, to), nil
}
