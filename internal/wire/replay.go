package wire

// ReplayWindowSize is the number of slots of a ReplayWindow.
const ReplayWindowSize = 1024

// ReplayVerdict says whether a packet number has been seen.
type ReplayVerdict uint8

// Verdicts on a packet number.
const (
	Fresh     ReplayVerdict = iota // not seen before, recorded now
	Duplicate                      // seen before
	TooOld                         // may have been seen before: a number ReplayWindowSize or a multiple of it higher has been
)

func (v ReplayVerdict) String() string {
	switch v {
	case Fresh:
		return "fresh"
	case Duplicate:
		return "duplicate"
	default:
		return "too_old"
	}
}

// ReplayWindow recognises packet numbers that come again (RFC 9000, section 12.3). The zero value has seen none.
//
// Slot pn % ReplayWindowSize holds the largest such pn seen, plus one; 0 is none. No other slot is looked at,
// so that the same rule is one compare-and-swap in the datapath, and no number is ever Fresh twice.
// It is not safe for concurrent use.
type ReplayWindow struct {
	slots [ReplayWindowSize]uint64
	next  uint64
}

// Check tells whether pn is new, and records it if so. pn is at most MaxVarint.
func (w *ReplayWindow) Check(pn uint64) ReplayVerdict {
	slot := &w.slots[pn%ReplayWindowSize]
	switch old := *slot; {
	case old == pn+1:
		return Duplicate
	case old > pn+1:
		return TooOld
	}
	*slot = pn + 1
	w.next = max(w.next, pn+1)
	return Fresh
}

// Largest returns the largest number recorded; ok is false if there is none.
func (w *ReplayWindow) Largest() (pn uint64, ok bool) {
	return w.next - min(w.next, 1), w.next != 0
}

// Next returns the largest number recorded plus one, 0 if there is none: what Keys.Open and DecodePacketNumber ask for.
func (w *ReplayWindow) Next() uint64 { return w.next }
