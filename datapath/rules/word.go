package rules

import "github.com/fastrelay/fastrelay/datapath"

// Retries is how often a shared word is tried before ReasonContended.
const Retries = 4

// PoolEntry splits a word of the pool into slot and stream ID (egress, rule 2).
func PoolEntry(word uint64) (slot uint8, stream uint64) {
	return uint8(word>>48) & (datapath.Slots - 1), word & (1<<48 - 1)
}

// CheckStream decides on a frame that ends at end of a client's stream, by the slot's limit (egress, rule 5).
func CheckStream(end, limit uint64) datapath.Reason {
	if end > limit || end > datapath.MaxStreamOffset {
		return datapath.ReasonStreamCredit
	}
	return datapath.Forwarded
}

// Advance returns the stream word moved to end, and closed by a FIN there, and the connection credit that this takes (egress, rule 5).
// What comes after a FIN, be it another one, is not forwarded: it might have another final size, which the publisher answers for
// and not the relay (RFC 9000, section 4.5).
func Advance(word, stream, end uint64, fin bool) (next, growth uint64, r datapath.Reason) {
	const identity = uint64(datapath.StreamClosed) | ^uint64(datapath.StreamOffset)
	if word&identity != datapath.StreamTag(stream) {
		return word, 0, datapath.ReasonClosedStream
	}
	highest := word & datapath.StreamOffset
	if end > highest {
		growth = end - highest
	}
	next = word + growth
	if fin {
		if end < highest {
			return word, 0, datapath.ReasonClosedStream
		}
		next |= datapath.StreamClosed
	}
	return next, growth, datapath.Forwarded
}
