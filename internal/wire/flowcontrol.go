package wire

// MaxStreams is the largest stream limit: no stream ID may exceed 2^62-1 (RFC 9000, section 4.6).
const MaxStreams = 1 << 60

// parseStreamLimit parses MAX_STREAMS and STREAMS_BLOCKED (RFC 9000, sections 19.11 and 19.14).
func (f *Frame) parseStreamLimit(b []byte, n int) (int, error) {
	n, err := f.parseInts(b, n, 1)
	if err != nil {
		return 0, err
	}
	if f.V[0] > MaxStreams {
		return 0, ErrFrameField
	}
	return n, nil
}

// AppendMaxData appends a MAX_DATA frame (RFC 9000, section 19.9).
func AppendMaxData(b []byte, limit uint64) []byte {
	return appendInts(b, FrameMaxData, limit)
}

// AppendMaxStreamData appends a MAX_STREAM_DATA frame (RFC 9000, section 19.10).
func AppendMaxStreamData(b []byte, id, limit uint64) []byte {
	return appendInts(b, FrameMaxStreamData, id, limit)
}

// AppendMaxStreams appends a MAX_STREAMS frame for unidirectional or bidirectional streams (RFC 9000, section 19.11).
func AppendMaxStreams(b []byte, limit uint64, uni bool) []byte {
	if uni {
		return appendInts(b, FrameMaxStreamsUni, limit)
	}
	return appendInts(b, FrameMaxStreamsBidi, limit)
}

// AppendDataBlocked appends a DATA_BLOCKED frame (RFC 9000, section 19.12).
func AppendDataBlocked(b []byte, limit uint64) []byte {
	return appendInts(b, FrameDataBlocked, limit)
}

// AppendStreamDataBlocked appends a STREAM_DATA_BLOCKED frame (RFC 9000, section 19.13).
func AppendStreamDataBlocked(b []byte, id, limit uint64) []byte {
	return appendInts(b, FrameStreamDataBlocked, id, limit)
}

// AppendStreamsBlocked appends a STREAMS_BLOCKED frame for unidirectional or bidirectional streams (RFC 9000, section 19.14).
func AppendStreamsBlocked(b []byte, limit uint64, uni bool) []byte {
	if uni {
		return appendInts(b, FrameStreamsBlockedUni, limit)
	}
	return appendInts(b, FrameStreamsBlockedBidi, limit)
}

// AppendAckFrequency appends an ACK_FREQUENCY frame (draft-ietf-quic-ack-frequency, section 4). maxDelay is in microseconds.
func AppendAckFrequency(b []byte, sequence, threshold, maxDelay, reordering uint64) []byte {
	return appendInts(b, FrameAckFrequency, sequence, threshold, maxDelay, reordering)
}
