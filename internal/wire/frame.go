package wire

// FrameType is a frame type as it is on the wire, flag bits included (RFC 9000, section 12.4).
type FrameType uint64

// Frame types (RFC 9000, section 19; RFC 9221; draft-ietf-quic-reliable-stream-reset; draft-ietf-quic-ack-frequency).
const (
	FramePadding                  FrameType = 0x00
	FramePing                     FrameType = 0x01
	FrameAck                      FrameType = 0x02
	FrameAckECN                   FrameType = 0x03
	FrameResetStream              FrameType = 0x04
	FrameStopSending              FrameType = 0x05
	FrameCrypto                   FrameType = 0x06
	FrameNewToken                 FrameType = 0x07
	FrameStream                   FrameType = 0x08 // to 0x0f: FIN, LEN and OFF are its lowest bits
	FrameMaxData                  FrameType = 0x10
	FrameMaxStreamData            FrameType = 0x11
	FrameMaxStreamsBidi           FrameType = 0x12
	FrameMaxStreamsUni            FrameType = 0x13
	FrameDataBlocked              FrameType = 0x14
	FrameStreamDataBlocked        FrameType = 0x15
	FrameStreamsBlockedBidi       FrameType = 0x16
	FrameStreamsBlockedUni        FrameType = 0x17
	FrameNewConnectionID          FrameType = 0x18
	FrameRetireConnectionID       FrameType = 0x19
	FramePathChallenge            FrameType = 0x1a
	FramePathResponse             FrameType = 0x1b
	FrameConnectionCloseTransport FrameType = 0x1c
	FrameConnectionCloseApp       FrameType = 0x1d
	FrameHandshakeDone            FrameType = 0x1e
	FrameImmediateAck             FrameType = 0x1f
	FrameResetStreamAt            FrameType = 0x24
	FrameDatagram                 FrameType = 0x30 // and 0x31: LEN is its lowest bit
	FrameDatagramLen              FrameType = 0x31
	FrameAckFrequency             FrameType = 0xaf
)

// Frame is one parsed frame. It aliases the packet that it was parsed from.
//
// V holds the frame's integer fields, in the order of its figure in the RFC. Where the figure has optional fields, V keeps their places:
//
//	ACK                  largest, delay, range count, first range
//	RESET_STREAM(_AT)    stream, code, final size (, reliable size)
//	STOP_SENDING         stream, code
//	CRYPTO               offset, length
//	NEW_TOKEN            length
//	STREAM               stream, offset, length of Data
//	MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED   limit
//	MAX_STREAM_DATA, STREAM_DATA_BLOCKED                   stream, limit
//	NEW_CONNECTION_ID    sequence number, retire prior to
//	RETIRE_CONNECTION_ID sequence number
//	CONNECTION_CLOSE     code, frame type (0 from an application), reason length
//	DATAGRAM             length of Data
//	ACK_FREQUENCY        sequence number, threshold, delay, reordering threshold
type Frame struct {
	Type   FrameType
	Raw    []byte // the whole frame, type included
	V      [4]uint64
	Data   []byte // of STREAM, DATAGRAM, CRYPTO; token, connection ID, close reason, path challenge's 8 bytes
	Offset uint64 // of STREAM and CRYPTO data
	Fin    bool   // STREAM
	HasLen bool   // STREAM and DATAGRAM: has a length field, so does not end the packet by itself
}

// Parse parses the frame at the start of b, the rest of a packet's payload, and returns the bytes it takes.
// A PADDING frame is one byte. An error means that the connection is to be closed, with Error.Code; n is then 0 and
// of f only Type is of use.
func (f *Frame) Parse(b []byte) (n int, err error) {
	*f = Frame{}
	t, n := ReadVarint(b)
	if n == 0 {
		return 0, ErrFrameTruncated
	}
	f.Type = FrameType(t)
	if n != VarintLen(t) {
		return 0, ErrFrameTypeEncoding
	}
	n, err = f.parseBody(b, n)
	if err != nil {
		return 0, err
	}
	f.Raw = b[:n:n]
	return n, nil
}

// parseBody parses what follows the frame type, from b[n:] on.
func (f *Frame) parseBody(b []byte, n int) (int, error) {
	if f.IsStream() {
		return f.parseStream(b, n)
	}
	switch f.Type {
	case FramePadding, FramePing, FrameHandshakeDone, FrameImmediateAck:
		return n, nil
	case FrameAck, FrameAckECN:
		return f.parseAck(b, n)
	case FrameDatagram, FrameDatagramLen:
		return f.parseDatagram(b, n)
	case FrameCrypto, FrameNewToken:
		return f.parseCrypto(b, n)
	case FrameResetStream, FrameResetStreamAt:
		return f.parseReset(b, n)
	case FrameMaxData, FrameDataBlocked, FrameRetireConnectionID:
		return f.parseInts(b, n, 1)
	case FrameMaxStreamData, FrameStreamDataBlocked, FrameStopSending:
		return f.parseInts(b, n, 2)
	case FrameAckFrequency:
		return f.parseInts(b, n, 4)
	case FrameMaxStreamsBidi, FrameMaxStreamsUni, FrameStreamsBlockedBidi, FrameStreamsBlockedUni:
		return f.parseStreamLimit(b, n)
	case FrameNewConnectionID:
		return f.parseNewConnectionID(b, n)
	case FramePathChallenge, FramePathResponse:
		return f.parseData(b, n, pathDataLen)
	case FrameConnectionCloseTransport, FrameConnectionCloseApp:
		return f.parseClose(b, n)
	default:
		return 0, ErrFrameUnknown
	}
}

// parseInts reads count integers from b[n:] into V and returns the position after them.
func (f *Frame) parseInts(b []byte, n, count int) (int, error) {
	for i := range f.V[:count] {
		v, l := ReadVarint(b[n:])
		if l == 0 {
			return 0, ErrFrameTruncated
		}
		f.V[i] = v
		n += l
	}
	return n, nil
}

// parseData takes size bytes of b[n:] as Data and returns the position after them.
func (f *Frame) parseData(b []byte, n int, size uint64) (int, error) {
	if size > uint64(len(b)-n) {
		return 0, ErrFrameTruncated
	}
	end := n + int(size)
	f.Data = b[n:end:end]
	return end, nil
}

// IsStream tells whether f is a STREAM frame.
func (f *Frame) IsStream() bool { return f.Type&^7 == FrameStream }

// IsDatagram tells whether f is a DATAGRAM frame.
func (f *Frame) IsDatagram() bool { return f.Type&^1 == FrameDatagram }

// IsAck tells whether f is an ACK frame, with or without ECN counts.
func (f *Frame) IsAck() bool { return f.Type&^1 == FrameAck }

// AckEliciting tells whether a packet with f must be acknowledged (RFC 9002, section 2).
func (f *Frame) AckEliciting() bool {
	switch f.Type {
	case FramePadding, FrameAck, FrameAckECN, FrameConnectionCloseTransport, FrameConnectionCloseApp:
		return false
	default:
		return true
	}
}

// StreamID returns the stream that a STREAM, RESET_STREAM, RESET_STREAM_AT, STOP_SENDING, MAX_STREAM_DATA or
// STREAM_DATA_BLOCKED frame is about. Of any other frame it is meaningless.
func (f *Frame) StreamID() uint64 { return f.V[0] }

// AppendPadding appends n PADDING frames (RFC 9000, section 19.1).
func AppendPadding(b []byte, n int) []byte {
	for range n {
		b = append(b, byte(FramePadding))
	}
	return b
}

// AppendPing appends a PING frame (RFC 9000, section 19.2).
func AppendPing(b []byte) []byte { return append(b, byte(FramePing)) }

// AppendImmediateAck appends an IMMEDIATE_ACK frame (draft-ietf-quic-ack-frequency).
func AppendImmediateAck(b []byte) []byte { return append(b, byte(FrameImmediateAck)) }

// AppendHandshakeDone appends a HANDSHAKE_DONE frame (RFC 9000, section 19.20).
func AppendHandshakeDone(b []byte) []byte { return append(b, byte(FrameHandshakeDone)) }

// appendInts appends a frame of type t whose fields are integers.
func appendInts(b []byte, t FrameType, v ...uint64) []byte {
	b = AppendVarint(b, uint64(t))
	for _, x := range v {
		b = AppendVarint(b, x)
	}
	return b
}
