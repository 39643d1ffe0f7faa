package datapath

import "sync/atomic"

// Share says how much of a table one owner may have: an upstream of the table of streams, a client of that of clients' streams. Half of the
// table is kept for all owners in equal parts, and the other half is for whoever needs more: an owner gets another entry of it only
// while it has fewer of them than are free (dynamic thresholds, after Choudhury and Hahne 1998, with alpha 1). So one owner that holds on
// to its entries gets a quarter of the table and its part, and any number of them leave every other one its part.
type Share struct {
	Part uint64 // entries that are kept for each owner
	Rest uint64 // entries for all
}

// NewShare returns the shares of a table that has a capacity and at most so many owners.
func NewShare(capacity, owners uint32) Share {
	part := capacity / 2 / max(owners, 1)
	return Share{Part: uint64(part), Rest: uint64(capacity - part*owners)}
}

// StreamShare is an upstream's share of Streams.
func (l Limits) StreamShare() Share { return NewShare(l.Streams, l.Upstreams) }

// ClientStreamShare is a client's share of ClientStreams.
func (l Limits) ClientStreamShare() Share { return NewShare(l.ClientStreams, l.Clients) }

// Admits is the rule: whether an owner that has own entries gets another one, when rest entries beyond all parts are taken.
func (s Share) Admits(own, rest uint64) bool {
	return own < s.Part || own-s.Part+rest < s.Rest
}

// Take counts another entry of an owner in, if that is admitted. own and rest are changed atomically.
func (s Share) Take(own, rest *uint64) bool {
	n, used := atomic.AddUint64(own, 1)-1, uint64(0)
	if n >= s.Part {
		used = atomic.AddUint64(rest, 1) - 1
	}
	if s.Admits(n, used) {
		return true
	}
	s.Give(own, rest)
	return false
}

// Give counts an entry of an owner out.
func (s Share) Give(own, rest *uint64) {
	if atomic.AddUint64(own, ^uint64(0)) >= s.Part {
		atomic.AddUint64(rest, ^uint64(0))
	}
}
