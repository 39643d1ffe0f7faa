package wire

const pathDataLen = 8

// AppendPathChallenge appends a PATH_CHALLENGE frame (RFC 9000, section 19.17).
func AppendPathChallenge(b []byte, data [8]byte) []byte {
	return append(append(b, byte(FramePathChallenge)), data[:]...)
}

// AppendPathResponse appends a PATH_RESPONSE frame (RFC 9000, section 19.18).
func AppendPathResponse(b []byte, data [8]byte) []byte {
	return append(append(b, byte(FramePathResponse)), data[:]...)
}
