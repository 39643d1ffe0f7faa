package wire

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// Salts of the Initial secrets (RFC 9001, section 5.2; RFC 9369, section 3.3.1).
var (
	initialSalt1 = []byte{
		0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
		0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
	}
	initialSalt2 = []byte{
		0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93,
		0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
	}
)

// InitialSecrets returns the secrets of Initial packets, of the suite SuiteAES128GCM, from the DCID of the client's first
// Initial packet (RFC 9001, section 5.2). They are nil for a version other than 1 and 2.
func InitialSecrets(version uint32, dcid []byte) (client, server []byte) {
	var salt []byte
	switch version {
	case Version1:
		salt = initialSalt1
	case Version2:
		salt = initialSalt2
	default:
		return nil, nil
	}
	initial, err := hkdf.Extract(sha256.New, dcid, salt)
	if err != nil {
		return nil, nil
	}
	client, err = expandLabel(sha256.New, initial, "client in", sha256.Size)
	if err != nil {
		return nil, nil
	}
	server, err = expandLabel(sha256.New, initial, "server in", sha256.Size)
	if err != nil {
		return nil, nil
	}
	return client, server
}
