package rules

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Bits of the type byte of subgroup streams and object datagrams (draft-ietf-moq-transport-16, sections "Subgroup Header" and
// "Object Datagram"; draft 14 has a part of them in tables).
const (
	subgroupBase     = 0x10
	subgroupModeBits = 0x06
	subgroupExplicit = 0x04
	subgroupDefault  = 0x20

	datagramFlags14 = 0x07
	datagramEnd     = 0x02
	datagramNoID    = 0x04
	datagramDefault = 0x08
	datagramStatus  = 0x20
)

// Header is the start of a subgroup stream or of an object datagram.
//
//	type (1 byte), alias, group, [subgroup or object ID], [priority (1 byte)]
type Header struct {
	Type            uint8
	Alias           uint64
	AliasLen        int // bytes of its encoding, which need not be the shortest
	Group           uint64
	Priority        uint8
	DefaultPriority bool // Priority is the track's
}

// ParseSubgroup reads the header of a subgroup stream of any draft (ingress, rule 7): ReasonHeaderSplit, ReasonBadHeader.
func ParseSubgroup(b []byte, h *Header) datapath.Reason {
	b = b[:min(len(b), datapath.MaxSubgroupBytes)]
	if len(b) == 0 {
		return datapath.ReasonHeaderSplit
	}
	t := b[0]
	if !SubgroupType(t, uint8(wire.Draft16)) {
		return datapath.ReasonBadHeader
	}
	if !h.parse(b, t&subgroupModeBits == subgroupExplicit, t&subgroupDefault != 0) {
		return datapath.ReasonHeaderSplit
	}
	return datapath.Forwarded
}

// ParseDatagram reads the header of an object datagram of any draft (ingress, rule 7): ReasonBadHeader.
func ParseDatagram(b []byte, h *Header) datapath.Reason {
	if len(b) == 0 || !DatagramType(b[0], uint8(wire.Draft16)) || !h.parse(b, b[0]&datagramNoID == 0, b[0]&datagramDefault != 0) {
		return datapath.ReasonBadHeader
	}
	return datapath.Forwarded
}

// SubgroupType says whether a draft has a type of subgroup stream. Draft 16 has all of draft 14.
func SubgroupType(t, draft uint8) bool {
	if draft >= uint8(wire.Draft16) {
		t &^= subgroupDefault
	}
	return t >= subgroupBase && t < 2*subgroupBase && t&subgroupModeBits != subgroupModeBits
}

// DatagramType says whether a draft has a type of object datagram. Draft 16 has all of draft 14.
func DatagramType(t, draft uint8) bool {
	if draft >= uint8(wire.Draft16) {
		const all = datagramFlags14 | datagramDefault | datagramStatus
		return t&^all == 0 && t&(datagramStatus|datagramEnd) != datagramStatus|datagramEnd
	}
	return t&^datagramFlags14 == 0 || t&^1 == datagramStatus
}

func (h *Header) parse(b []byte, id, defaultPriority bool) bool {
	*h = Header{Type: b[0], DefaultPriority: defaultPriority}
	n := 1
	var l int
	if h.Alias, h.AliasLen = wire.ReadVarint(b[n:]); h.AliasLen == 0 {
		return false
	}
	n += h.AliasLen
	if h.Group, l = wire.ReadVarint(b[n:]); l == 0 {
		return false
	}
	n += l
	if id {
		if _, l = wire.ReadVarint(b[n:]); l == 0 {
			return false
		}
		n += l
	}
	if defaultPriority {
		return true
	}
	if n == len(b) {
		return false
	}
	h.Priority = b[n]
	return true
}

// Selected says whether a group is within a subscription.
func Selected(group uint64, s *datapath.Subscription) bool {
	return group >= s.FirstGroup && (s.LastGroup == 0 || group <= s.LastGroup)
}
