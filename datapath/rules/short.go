package rules

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Bits of a first byte (RFC 9000, section 17.3.1).
const (
	longBit      = 0x80
	fixedBit     = 0x40
	reservedBits = 0x18
	phaseBit     = 0x04
	lengthBits   = 0x03
)

const (
	pnAt     = 1 + datapath.CIDLen
	minShort = pnAt + 4 + datapath.TagLen
)

// CheckShort says whether a UDP payload, which is not empty, can be a packet of a publisher (ingress, rule 2).
func CheckShort(p []byte) datapath.Reason {
	switch {
	case p[0]&longBit != 0:
		return datapath.ReasonLongHeader
	case len(p) < minShort || len(p) > datapath.MaxPacketSize:
		return datapath.ReasonTruncated
	case p[0]&fixedBit == 0:
		return datapath.ReasonTruncated
	}
	return datapath.Forwarded
}

// CID is a connection ID as it is looked up (ingress, rule 3): without the last byte, which the publisher may change.
type CID [datapath.CIDLen - 1]byte

// SplitCID splits a connection ID of the relay.
func SplitCID(cid []byte) (key CID, last uint8) { return CID(cid), cid[datapath.CIDLen-1] }

// PacketCID returns the connection ID of a packet that CheckShort let through.
func PacketCID(p []byte) (key CID, last uint8) { return SplitCID(p[1:pnAt]) }

// OpenNull finds packet number and frames of a packet without protection (ingress, rule 4). next is the largest number
// received plus one. The packet has passed CheckShort.
func OpenNull(p []byte, next uint64) (number uint64, frames []byte, r datapath.Reason) {
	end := len(p) - datapath.TagLen
	if p[0]&(reservedBits|phaseBit) != 0 || [datapath.TagLen]byte(p[end:]) != [datapath.TagLen]byte{} {
		return 0, nil, datapath.ReasonAuth
	}
	n := int(p[0]&lengthBits) + 1
	truncated := uint64(0)
	for _, b := range p[pnAt : pnAt+n] {
		truncated = truncated<<8 | uint64(b)
	}
	return wire.DecodePacketNumber(next, truncated, n), p[pnAt+n : end : end], datapath.Forwarded
}
