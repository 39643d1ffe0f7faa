package wire

// Bits of the first byte of a long header (RFC 9000, section 17.2).
const (
	longReservedBits = 0x0c
	longMask         = 0x0f // what header protection covers
)

// OpenLong removes header and packet protection of an Initial or Handshake packet, whose parsed header is h, from the
// start of b, the datagram or rest of a datagram that h was parsed from. k is made from the secret of that packet type
// (for Initial packets InitialSecrets). next, dst and o are as with Open, but a copy of the header is allocated: nothing on a
// packet path needs what is in these packets.
//
// Errors: ErrNotQUIC for other types and SuiteNull, ErrTruncated, ErrAuth, and, of an authentic packet, ErrReserved.
func (k *Keys) OpenLong(dst, b []byte, h *LongHeader, next uint64, o *Opened) error {
	if h.Type != LongInitial && h.Type != LongHandshake || k.suite == SuiteNull {
		return ErrNotQUIC
	}
	pnAt := h.HeaderLen
	if pnAt < 1 || h.PacketLen > len(b) || h.PacketLen-pnAt < minShort {
		return ErrTruncated
	}
	pkt := b[:h.PacketLen]
	k.hp.mask(&k.mask, pkt[pnAt+4:pnAt+4+TagLen])
	first := pkt[0] ^ k.mask[0]&longMask
	pnLen := int(first&pnLenBits) + 1
	header := append([]byte(nil), pkt[:pnAt+pnLen]...)
	header[0] = first
	truncated := uint64(0)
	for i := range pnLen {
		header[pnAt+i] ^= k.mask[1+i]
		truncated = truncated<<8 | uint64(header[pnAt+i])
	}
	pn := DecodePacketNumber(next, truncated, pnLen)
	k.setNonce(&k.gens[1], pn)
	payload, err := k.gens[1].aead.Open(dst[:0], k.nonce[:], pkt[len(header):], header)
	if err != nil {
		return ErrAuth
	}
	if first&longReservedBits != 0 {
		return ErrReserved
	}
	*o = Opened{PacketNumber: pn, PNLen: pnLen, Payload: payload, Header: len(header)}
	return nil
}
