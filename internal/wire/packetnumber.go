package wire

// DecodePacketNumber recovers a whole packet number from its n lowest bytes, n being 1 to 4 (RFC 9000, appendix A.3).
// next is the largest number received so far plus one, 0 if there is none yet.
func DecodePacketNumber(next, truncated uint64, n int) uint64 {
	window := uint64(1) << (8 * uint(n))
	half := window / 2
	candidate := next&^(window-1) | truncated
	switch {
	case candidate+half <= next && candidate < 1<<62-window:
		return candidate + window
	case candidate > next+half && candidate >= window:
		return candidate - window
	default:
		return candidate
	}
}

// PacketNumberLen returns the bytes, 1 to 4, in which a receiver recognises pn that may know no number but those
// below next, the largest acknowledged one plus one (RFC 9000, appendix A.2). A number below next, sent
// late, gets as many bytes as its distance asks for.
func PacketNumberLen(pn, next uint64) int {
	distance := pn - next + 1
	if pn < next {
		distance = next - pn + 1
	}
	switch {
	case distance <= 1<<7:
		return 1
	case distance <= 1<<15:
		return 2
	case distance <= 1<<23:
		return 3
	default:
		return 4
	}
}

// AppendPacketNumber appends the n lowest bytes of pn, n being 1 to 4 (RFC 9000, section 17.1).
func AppendPacketNumber(b []byte, pn uint64, n int) []byte {
	for n--; n >= 0; n-- {
		b = append(b, byte(pn>>(8*uint(n))))
	}
	return b
}
