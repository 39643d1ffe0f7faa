package wire

// MaxVarint is the largest value that a QUIC variable-length integer holds (RFC 9000, section 16).
const MaxVarint = 1<<62 - 1

// ReadVarint reads a variable-length integer from the start of b (RFC 9000, section 16).
// It returns the value and the number of bytes read, 1, 2, 4 or 8; n is 0 if b is too short.
func ReadVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, 0
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}

// AppendVarint appends v in its shortest encoding. Values above MaxVarint are a caller's error:
// their two highest bits are lost.
func AppendVarint(b []byte, v uint64) []byte {
	return AppendVarintLen(b, v, VarintLen(v))
}

// AppendVarintLen appends v in exactly n bytes (1, 2, 4 or 8), n being at least VarintLen(v).
func AppendVarintLen(b []byte, v uint64, n int) []byte {
	switch n {
	case 1:
		return append(b, byte(v)&0x3f)
	case 2:
		return append(b, byte(v>>8)&0x3f|0x40, byte(v))
	case 4:
		return append(b, byte(v>>24)&0x3f|0x80, byte(v>>16), byte(v>>8), byte(v))
	default:
		return append(b, byte(v>>56)|0xc0, byte(v>>48), byte(v>>40), byte(v>>32),
			byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
}

// VarintLen returns the number of bytes of the shortest encoding of v: 1, 2, 4 or 8.
func VarintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	default:
		return 8
	}
}
