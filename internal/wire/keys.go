package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// Suite is a TLS 1.3 cipher suite, by its number there (RFC 8446, appendix B.4), or SuiteNull.
type Suite uint16

// Cipher suites. SuiteNull leaves packets in the clear and stands for a NIC that does the crypto; for labs only.
const (
	SuiteNull             Suite = 0
	SuiteAES128GCM        Suite = 0x1301
	SuiteAES256GCM        Suite = 0x1302
	SuiteChaCha20Poly1305 Suite = 0x1303
)

// TagLen is the length of the authentication tag of every suite (RFC 9001, section 5.3).
const TagLen = 16

const ivLen = 12

// What NewKeys refuses.
var (
	ErrSuite  = errors.New("wire: cipher suite is not supported")
	ErrSecret = errors.New("wire: secret does not fit the cipher suite")
)

func (s Suite) String() string {
	switch s {
	case SuiteNull:
		return "null"
	case SuiteAES128GCM:
		return "aes-128-gcm"
	case SuiteAES256GCM:
		return "aes-256-gcm"
	case SuiteChaCha20Poly1305:
		return "chacha20-poly1305"
	default:
		return fmt.Sprintf("suite-%#04x", uint16(s))
	}
}

// hash returns the suite's hash function.
func (s Suite) hash() func() hash.Hash {
	if s == SuiteAES256GCM {
		return sha512.New384
	}
	return sha256.New
}

// secretLen is the length of a traffic secret, that of the suite's hash.
func (s Suite) secretLen() int {
	if s == SuiteAES256GCM {
		return sha512.Size384
	}
	return sha256.Size
}

// keyLen is the length of packet and header protection keys.
func (s Suite) keyLen() int {
	if s == SuiteAES128GCM {
		return 16
	}
	return 32
}

// aead makes the suite's packet protection.
func (s Suite) aead(key []byte) (cipher.AEAD, error) {
	switch s {
	case SuiteAES128GCM, SuiteAES256GCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case SuiteChaCha20Poly1305:
		return chacha20poly1305.New(key)
	default:
		return nil, fmt.Errorf("%w: %v", ErrSuite, s)
	}
}

// SuitesForSecret returns the suites that a traffic secret may belong to: a key log does not say.
// The first packet tells which it is.
func SuitesForSecret(secret []byte) []Suite {
	switch len(secret) {
	case sha256.Size:
		return []Suite{SuiteAES128GCM, SuiteChaCha20Poly1305}
	case sha512.Size384:
		return []Suite{SuiteAES256GCM}
	default:
		return nil
	}
}

// labels are the HKDF labels of a version (RFC 9001, section 5.1; RFC 9369, section 3.3.2).
type labels struct{ key, iv, hp, ku string }

func labelsOf(version uint32) (labels, error) {
	switch version {
	case Version1:
		return labels{"quic key", "quic iv", "quic hp", "quic ku"}, nil
	case Version2:
		return labels{"quicv2 key", "quicv2 iv", "quicv2 hp", "quicv2 ku"}, nil
	default:
		return labels{}, fmt.Errorf("%w: %#x", ErrVersion, version)
	}
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func expandLabel(h func() hash.Hash, secret []byte, label string, size int) ([]byte, error) {
	const prefix = "tls13 "
	info := make([]byte, 0, 4+len(prefix)+len(label))
	info = append(info, byte(size>>8), byte(size), byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(h, secret, string(info), size)
}

// generation is the packet protection of one generation (key phase) of one direction. Its zero value opens nothing.
type generation struct {
	secret []byte
	aead   cipher.AEAD
	iv     [ivLen]byte
}

func newGeneration(s Suite, l labels, secret []byte) (generation, error) {
	key, err := expandLabel(s.hash(), secret, l.key, s.keyLen())
	if err != nil {
		return generation{}, err
	}
	iv, err := expandLabel(s.hash(), secret, l.iv, ivLen)
	if err != nil {
		return generation{}, err
	}
	aead, err := s.aead(key)
	if err != nil {
		return generation{}, err
	}
	return generation{secret: secret, aead: aead, iv: [ivLen]byte(iv)}, nil
}

// update returns the generation after g (RFC 9001, section 6.1).
func (g *generation) update(s Suite, l labels) (generation, error) {
	secret, err := expandLabel(s.hash(), g.secret, l.ku, s.secretLen())
	if err != nil {
		return generation{}, err
	}
	return newGeneration(s, l, secret)
}

// headerProtection makes the masks of packet headers (RFC 9001, section 5.4). Key updates leave it as it is.
type headerProtection struct {
	block  cipher.Block // AES
	chacha []byte       // ChaCha20's key
}

func newHeaderProtection(s Suite, l labels, secret []byte) (headerProtection, error) {
	key, err := expandLabel(s.hash(), secret, l.hp, s.keyLen())
	if err != nil {
		return headerProtection{}, err
	}
	if s == SuiteChaCha20Poly1305 {
		return headerProtection{chacha: key}, nil
	}
	block, err := aes.NewCipher(key)
	return headerProtection{block: block}, err
}

// mask writes the mask for a 16-byte sample. Without a suite it is zero.
func (h *headerProtection) mask(mask *[aes.BlockSize]byte, sample []byte) {
	switch {
	case h.block != nil:
		h.block.Encrypt(mask[:], sample)
	case h.chacha != nil:
		*mask = [aes.BlockSize]byte{}
		c, err := chacha20.NewUnauthenticatedCipher(h.chacha, sample[4:16])
		if err != nil {
			return
		}
		c.SetCounter(uint32(sample[0]) | uint32(sample[1])<<8 | uint32(sample[2])<<16 | uint32(sample[3])<<24)
		c.XORKeyStream(mask[:5], mask[:5])
	}
}
