package wire

// parseCrypto parses CRYPTO and NEW_TOKEN (RFC 9000, sections 19.6 and 19.7).
func (f *Frame) parseCrypto(b []byte, n int) (int, error) {
	if f.Type == FrameNewToken {
		n, err := f.parseInts(b, n, 1)
		if err != nil {
			return 0, err
		}
		if f.V[0] == 0 {
			return 0, ErrFrameField
		}
		return f.parseData(b, n, f.V[0])
	}
	n, err := f.parseInts(b, n, 2)
	if err != nil {
		return 0, err
	}
	if f.V[1] > MaxVarint-f.V[0] {
		return 0, ErrStreamOffset
	}
	f.Offset = f.V[0]
	return f.parseData(b, n, f.V[1])
}

// AppendCrypto appends a CRYPTO frame (RFC 9000, section 19.6).
func AppendCrypto(b []byte, offset uint64, data []byte) []byte {
	b = appendInts(b, FrameCrypto, offset, uint64(len(data)))
	return append(b, data...)
}

// AppendNewToken appends a NEW_TOKEN frame (RFC 9000, section 19.7). token is not empty.
func AppendNewToken(b []byte, token []byte) []byte {
	b = appendInts(b, FrameNewToken, uint64(len(token)))
	return append(b, token...)
}
