// Package delay computes how long the bytes of MoQ data streams take from a publisher's interface to the subscribers',
// from packet captures of the two.
//
//	publisher's interface                                subscribers' interface
//	packets ─► connections ─► streams ──┐            ┌── streams ◄─ connections ◄─ packets
//	           key log, CIDs  (track,   ▼            ▼   (track,
//	                           group,   byte by byte     group,
//	                           subgroup)    │            subgroup)
//	                                        ▼
//	                     delay of each byte: percentiles, series
//
// The delay of a byte is the time from when it first left the publisher's interface to when it first reached the
// subscriber's, so that retransmissions and duplicates count as what they cost. Nothing is trimmed: what could not be
// matched is counted beside the delays.
//
// Positions of bytes are counted from the end of the track alias in the header of their stream: what is before may differ
// between the two connections, what follows is the same. That it is the same is checked.
package delay
