package rules

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Prefix is what differs for a client at the start of a stream or datagram: the type byte stays, the alias is another.
type Prefix struct {
	Old   uint8 // bytes of type and alias from the publisher
	New   uint8 // bytes of type and alias for the client
	Alias uint64
}

// NewPrefix returns the prefix that replaces an alias of aliasLen bytes.
func NewPrefix(aliasLen int, alias uint64) Prefix {
	return Prefix{Old: uint8(1 + aliasLen), New: uint8(1 + wire.VarintLen(alias)), Alias: alias}
}

// Piece is the part of a frame's data that a client gets, at Offset of its stream: Head[:HeadLen], then Tail.
type Piece struct {
	Offset  uint64
	Head    [9]byte
	HeadLen int
	Tail    []byte // aliases the packet
}

// Len returns the bytes of the piece.
func (p *Piece) Len() int { return p.HeadLen + len(p.Tail) }

// Rewrite makes the client's piece of a frame (egress, rule 3): ReasonPrefixSplit.
func (x Prefix) Rewrite(offset uint64, data []byte, p *Piece) datapath.Reason {
	old := int(x.Old)
	switch {
	case offset >= uint64(old):
		p.Offset, p.HeadLen, p.Tail = offset-uint64(old)+uint64(x.New), 0, data
		return datapath.Forwarded
	case offset > 0 || len(data) < old:
		return datapath.ReasonPrefixSplit
	}
	head := append(p.Head[:0], data[0])
	p.Offset, p.HeadLen, p.Tail = 0, len(wire.AppendVarint(head, x.Alias)), data[old:]
	return datapath.Forwarded
}
