package wire

// parseReset parses RESET_STREAM (RFC 9000, section 19.4) and RESET_STREAM_AT, whose reliable size may not
// exceed the final size (draft-ietf-quic-reliable-stream-reset, section 3).
func (f *Frame) parseReset(b []byte, n int) (int, error) {
	count := 3
	if f.Type == FrameResetStreamAt {
		count = 4
	}
	n, err := f.parseInts(b, n, count)
	if err != nil {
		return 0, err
	}
	if f.V[3] > f.V[2] {
		return 0, ErrFrameField
	}
	return n, nil
}

// AppendResetStream appends a RESET_STREAM frame (RFC 9000, section 19.4).
func AppendResetStream(b []byte, id, code, finalSize uint64) []byte {
	return appendInts(b, FrameResetStream, id, code, finalSize)
}

// AppendResetStreamAt appends a RESET_STREAM_AT frame (draft-ietf-quic-reliable-stream-reset, section 3).
func AppendResetStreamAt(b []byte, id, code, finalSize, reliableSize uint64) []byte {
	return appendInts(b, FrameResetStreamAt, id, code, finalSize, reliableSize)
}

// AppendStopSending appends a STOP_SENDING frame (RFC 9000, section 19.5).
func AppendStopSending(b []byte, id, code uint64) []byte {
	return appendInts(b, FrameStopSending, id, code)
}
