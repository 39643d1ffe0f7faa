package wire

// parseClose parses CONNECTION_CLOSE, whose application variant has no frame type field (RFC 9000, section 19.19).
func (f *Frame) parseClose(b []byte, n int) (int, error) {
	count := 3
	if f.Type == FrameConnectionCloseApp {
		count = 2
	}
	n, err := f.parseInts(b, n, count)
	if err != nil {
		return 0, err
	}
	if count == 2 {
		f.V[1], f.V[2] = 0, f.V[1]
	}
	return f.parseData(b, n, f.V[2])
}

// AppendConnectionClose appends a CONNECTION_CLOSE frame of the transport (RFC 9000, section 19.19).
// cause is the type of the frame that led to it, 0 if unknown.
func AppendConnectionClose(b []byte, code TransportCode, cause FrameType, reason string) []byte {
	b = appendInts(b, FrameConnectionCloseTransport, uint64(code), uint64(cause), uint64(len(reason)))
	return append(b, reason...)
}

// AppendConnectionCloseApp appends a CONNECTION_CLOSE frame of the application (RFC 9000, section 19.19).
func AppendConnectionCloseApp(b []byte, code uint64, reason string) []byte {
	b = appendInts(b, FrameConnectionCloseApp, code, uint64(len(reason)))
	return append(b, reason...)
}
