package wire

import "errors"

// TransportCode is a QUIC transport error code (RFC 9000, section 20.1).
type TransportCode uint64

// The transport error codes that are used here (RFC 9000, section 20.1).
const (
	CodeFrameEncoding     TransportCode = 0x07
	CodeProtocolViolation TransportCode = 0x0a
	CodeKeyUpdateError    TransportCode = 0x0e
	CodeAEADLimitReached  TransportCode = 0x0f
)

// Error is a malformed packet or frame. All its values are the Err variables of this package, so that a
// hostile packet costs no allocation; compare with errors.Is.
type Error struct {
	Code TransportCode // what CONNECTION_CLOSE would say
	msg  string
}

func (e *Error) Error() string { return "wire: " + e.msg }

// What can be wrong with a frame.
var (
	ErrFrameTruncated    error = &Error{CodeFrameEncoding, "frame is longer than its packet"}
	ErrFrameUnknown      error = &Error{CodeFrameEncoding, "unknown frame type"}
	ErrFrameTypeEncoding error = &Error{CodeProtocolViolation, "frame type is not in its shortest encoding"}
	ErrFrameField        error = &Error{CodeFrameEncoding, "frame field is out of range"}
	ErrAckRange          error = &Error{CodeFrameEncoding, "ACK range below packet number 0"}
	ErrStreamOffset      error = &Error{CodeFrameEncoding, "stream data beyond offset 2^62-1"}
)

// ErrReserved is an authentic packet whose reserved header bits are set (RFC 9000, section 17.3.1).
var ErrReserved error = &Error{CodeProtocolViolation, "reserved header bits are set"}

// Why a packet is discarded without an error to the peer.
var (
	ErrTruncated = errors.New("wire: packet is too short")
	ErrAuth      = errors.New("wire: packet failed authentication")
	ErrNotQUIC   = errors.New("wire: header form or fixed bit is wrong")
	ErrCIDLen    = errors.New("wire: connection ID is longer than 20 bytes")
	ErrVersion   = errors.New("wire: QUIC version is neither 1 nor 2")
)
