package wire

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math"
)

// Bits of a short header's first byte (RFC 9000, section 17.3.1).
const (
	reservedBits = 0x18
	phaseShift   = 2
	pnLenBits    = 0x03
	shortMask    = 0x1f // what header protection covers
)

// minShort is the least a packet has after its connection ID: header protection takes its sample as if the
// packet number had 4 bytes (RFC 9001, section 5.4.2). The null suite keeps to it.
const minShort = 4 + TagLen

// Keys protects and unprotects the short header packets of one direction of a connection, over all key updates
// (RFC 9001, sections 5 and 6). It is not safe for concurrent use.
type Keys struct {
	suite  Suite
	labels labels
	hp     headerProtection

	gens    [3]generation // previous, current, next
	current uint64        // the number of gens[1]
	first   uint64        // the lowest packet number opened in the current generation

	// Scratch; on the stack it would be allocated per packet, as it is passed through interfaces.
	mask   [aes.BlockSize]byte
	nonce  [ivLen]byte
	header [1 + MaxCIDLen + 4]byte
}

var zeroTag [TagLen]byte

// NewKeys returns the protection that starts with a 1-RTT traffic secret of TLS, as a key log has it. SuiteNull needs no secret.
func NewKeys(suite Suite, version uint32, secret []byte) (*Keys, error) {
	l, err := labelsOf(version)
	if err != nil {
		return nil, err
	}
	k := &Keys{suite: suite, labels: l, first: math.MaxUint64}
	switch suite {
	case SuiteNull:
		return k, nil
	case SuiteAES128GCM, SuiteAES256GCM, SuiteChaCha20Poly1305:
	default:
		return nil, fmt.Errorf("%w: %v", ErrSuite, suite)
	}
	if len(secret) != suite.secretLen() {
		return nil, fmt.Errorf("%w: %d bytes, %v needs %d", ErrSecret, len(secret), suite, suite.secretLen())
	}
	if k.hp, err = newHeaderProtection(suite, l, secret); err != nil {
		return nil, fmt.Errorf("wire: header protection: %w", err)
	}
	if k.gens[1], err = newGeneration(suite, l, bytes.Clone(secret)); err != nil {
		return nil, fmt.Errorf("wire: packet protection: %w", err)
	}
	if k.gens[2], err = k.gens[1].update(suite, l); err != nil {
		return nil, fmt.Errorf("wire: key update: %w", err)
	}
	return k, nil
}

// Suite returns the cipher suite.
func (k *Keys) Suite() Suite { return k.suite }

// Generation returns how many key updates led to the current generation; always 0 with SuiteNull.
func (k *Keys) Generation() uint64 { return k.current }

// Update moves to the next generation (RFC 9001, section 6.1). The previous one and the one after stay usable.
// With SuiteNull it does nothing.
func (k *Keys) Update() {
	if k.suite == SuiteNull {
		return
	}
	k.gens[0], k.gens[1] = k.gens[1], k.gens[2]
	// NewKeys has derived these same lengths, so this cannot fail; if it did, the zero generation opens and seals nothing.
	k.gens[2], _ = k.gens[1].update(k.suite, k.labels)
	k.current++
	k.first = math.MaxUint64
}

// generation returns generation g, nil if it is not one of previous, current and next.
func (k *Keys) generation(g uint64) *generation {
	i := g - k.current + 1
	if i >= uint64(len(k.gens)) || k.gens[i].aead == nil {
		return nil
	}
	return &k.gens[i]
}

// pick returns the generation of a packet by its phase bit and number (RFC 9001, sections 6.3 to 6.5).
func (k *Keys) pick(phase byte, pn uint64) uint64 {
	switch {
	case phase == byte(k.current&1):
		return k.current
	case k.current > 0 && pn < k.first:
		return k.current - 1
	default:
		return k.current + 1
	}
}

// setNonce makes the nonce of packet number pn (RFC 9001, section 5.3).
func (k *Keys) setNonce(g *generation, pn uint64) {
	k.nonce = g.iv
	low := k.nonce[ivLen-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^pn)
}

// Opened is what Open found in a packet.
type Opened struct {
	PacketNumber uint64
	PNLen        int    // bytes of the packet number in the header, 1 to 4
	Phase        byte   // key phase bit, 0 or 1
	Generation   uint64 // key updates before this packet's keys
	Payload      []byte // frames, in the dst given to Open
	Header       int    // bytes before the payload
}

// Open removes header and packet protection of the short header packet pkt, whose DCID has cidLen bytes, without
// changing pkt. next is the largest packet number received plus one. The payload is written to dst[:0], which must not
// overlap pkt; with a capacity of len(pkt) nothing is allocated. If the packet proves that the peer has updated its
// keys, the next generation becomes the current one. On an error *o and the generation are as before.
//
// Errors: ErrNotQUIC, ErrCIDLen, ErrTruncated, ErrAuth, and, of an authentic packet, ErrReserved.
// With SuiteNull a packet is authentic if phase and tag are zero.
func (k *Keys) Open(dst, pkt []byte, cidLen int, next uint64, o *Opened) error {
	if cidLen < 0 || cidLen > MaxCIDLen {
		return ErrCIDLen
	}
	pnAt := 1 + cidLen
	if len(pkt) < pnAt+minShort {
		return ErrTruncated
	}
	if pkt[0]&(formBit|fixedBit) != fixedBit {
		return ErrNotQUIC
	}
	k.hp.mask(&k.mask, pkt[pnAt+4:pnAt+4+TagLen])
	first := pkt[0] ^ k.mask[0]&shortMask
	pnLen := int(first&pnLenBits) + 1
	header := k.header[:pnAt+pnLen]
	copy(header, pkt)
	header[0] = first
	truncated := uint64(0)
	for i := range pnLen {
		header[pnAt+i] ^= k.mask[1+i]
		truncated = truncated<<8 | uint64(header[pnAt+i])
	}
	pn := DecodePacketNumber(next, truncated, pnLen)
	phase := first >> phaseShift & 1

	payload, gen, err := k.openPayload(dst, pkt[len(header):], header, phase, pn)
	if err != nil {
		return err
	}
	if first&reservedBits != 0 {
		return ErrReserved
	}
	if gen > k.current {
		k.Update()
	}
	if gen == k.current {
		k.first = min(k.first, pn)
	}
	*o = Opened{PacketNumber: pn, PNLen: pnLen, Phase: phase, Generation: gen, Payload: payload, Header: len(header)}
	return nil
}

// openPayload removes packet protection, with the generation that the packet implies, which it returns.
func (k *Keys) openPayload(dst, sealed, header []byte, phase byte, pn uint64) ([]byte, uint64, error) {
	if k.suite == SuiteNull {
		end := len(sealed) - TagLen
		if phase != 0 || [TagLen]byte(sealed[end:]) != zeroTag {
			return nil, 0, ErrAuth
		}
		return append(dst[:0], sealed[:end]...), 0, nil
	}
	gen := k.pick(phase, pn)
	g := k.generation(gen)
	if g == nil {
		return nil, 0, ErrAuth
	}
	k.setNonce(g, pn)
	payload, err := g.aead.Open(dst[:0], k.nonce[:], sealed, header)
	if err != nil {
		return nil, 0, ErrAuth
	}
	return payload, gen, nil
}

// Seal appends a protected short header packet to dst: 0x40|phase<<2|pnLen-1, cid, the pnLen (1 to 4) lowest bytes of pn,
// payload and tag. The spin bit is 0, which RFC 9000, section 17.4 allows. generation is the current one, the previous or
// the next; SuiteNull ignores it. dst must not overlap payload.
// len(payload)+pnLen is at least 4, as header protection needs it. If an argument is out of range dst is returned as it was.
func (k *Keys) Seal(dst []byte, generation uint64, cid []byte, pn uint64, pnLen int, payload []byte) []byte {
	if pnLen < 1 || pnLen > 4 || len(cid) > MaxCIDLen || len(payload)+pnLen < 4 {
		return dst
	}
	start := len(dst)
	pnAt := start + 1 + len(cid)
	first := byte(fixedBit | (pnLen - 1))
	if k.suite == SuiteNull {
		dst = append(dst, first)
		dst = append(dst, cid...)
		dst = AppendPacketNumber(dst, pn, pnLen)
		dst = append(dst, payload...)
		return append(dst, zeroTag[:]...)
	}
	g := k.generation(generation)
	if g == nil {
		return dst
	}
	dst = append(dst, first|byte(generation&1)<<phaseShift)
	dst = append(dst, cid...)
	dst = AppendPacketNumber(dst, pn, pnLen)
	k.setNonce(g, pn)
	dst = g.aead.Seal(dst, k.nonce[:], payload, dst[start:])
	k.hp.mask(&k.mask, dst[pnAt+4:pnAt+4+TagLen])
	dst[start] ^= k.mask[0] & shortMask
	for i := range pnLen {
		dst[pnAt+i] ^= k.mask[1+i]
	}
	return dst
}
