package rules

import "github.com/fastrelay/fastrelay/datapath"

// ReplaySlot returns the index of the slot of a packet number.
func ReplaySlot(number uint64) int { return int(number % datapath.ReplaySlots) }

// Replay decides on a packet number by the value of its slot (ingress, rule 5). If fresh, the slot becomes next.
func Replay(slot, number uint64) (next uint64, fresh bool) {
	return number + 1, slot < number+1
}

// InitialSlot returns the value of slot i when all numbers below next count as seen.
func InitialSlot(i int, next uint64) uint64 {
	slot := uint64(i)
	if next <= slot {
		return 0
	}
	return slot + (next-1-slot)/datapath.ReplaySlots*datapath.ReplaySlots + 1
}

// Watermark returns the watermark word raised to a stream. The word is 0 at first.
func Watermark(word, stream uint64) uint64 { return max(word, stream+1) }

// CanOpen says whether a frame at offset opens a stream that has no entry (ingress, rule 7).
func CanOpen(word, stream, offset uint64) bool { return offset == 0 && stream >= word }
