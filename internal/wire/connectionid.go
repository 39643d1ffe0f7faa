package wire

const resetTokenLen = 16

// parseNewConnectionID parses NEW_CONNECTION_ID (RFC 9000, section 19.15).
func (f *Frame) parseNewConnectionID(b []byte, n int) (int, error) {
	n, err := f.parseInts(b, n, 2)
	if err != nil {
		return 0, err
	}
	if f.V[1] > f.V[0] {
		return 0, ErrFrameField
	}
	if n >= len(b) {
		return 0, ErrFrameTruncated
	}
	size := b[n]
	if size < 1 || size > MaxCIDLen {
		return 0, ErrFrameField
	}
	n, err = f.parseData(b, n+1, uint64(size))
	if err != nil {
		return 0, err
	}
	if len(b)-n < resetTokenLen {
		return 0, ErrFrameTruncated
	}
	return n + resetTokenLen, nil
}

// ResetToken returns the stateless reset token of a parsed NEW_CONNECTION_ID frame, nil of any other.
func (f *Frame) ResetToken() []byte {
	if f.Type != FrameNewConnectionID || len(f.Raw) < resetTokenLen {
		return nil
	}
	return f.Raw[len(f.Raw)-resetTokenLen:]
}

// AppendNewConnectionID appends a NEW_CONNECTION_ID frame (RFC 9000, section 19.15). cid is 1 to 20 bytes long.
func AppendNewConnectionID(b []byte, sequence, retirePriorTo uint64, cid []byte, token [16]byte) []byte {
	b = appendInts(b, FrameNewConnectionID, sequence, retirePriorTo)
	b = append(b, byte(len(cid)))
	b = append(b, cid...)
	return append(b, token[:]...)
}

// AppendRetireConnectionID appends a RETIRE_CONNECTION_ID frame (RFC 9000, section 19.16).
func AppendRetireConnectionID(b []byte, sequence uint64) []byte {
	return appendInts(b, FrameRetireConnectionID, sequence)
}
