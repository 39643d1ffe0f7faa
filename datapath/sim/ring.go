package sim

import "github.com/fastrelay/fastrelay/datapath"

// recordBytes is what a record takes of the ring: 304 bytes and a header of 8, as in the kernel.
const recordBytes = 304 + 8

// ring holds the records that are not drained yet. It grows up to its capacity and never shrinks.
type ring struct {
	entries    []*entry
	capacity   int
	head, tail uint64 // positions of the oldest record and after the newest
}

type entry struct {
	record    datapath.Record
	frames    [datapath.MaxForward]datapath.RecordFrame
	done      bool // written to its end
	submitted bool // otherwise discarded; takes its place until it is drained all the same
}

func newRing(bytes uint32) ring {
	// One byte always stays free: a full ring would look empty.
	return ring{capacity: int((bytes - 1) / recordBytes)}
}

// reserve returns a cleared entry, nil if the ring is full.
func (r *ring) reserve() *entry {
	n := int(r.tail - r.head)
	if n >= r.capacity {
		return nil
	}
	if n == len(r.entries) {
		r.grow()
	}
	e := r.entries[r.tail%uint64(len(r.entries))]
	r.tail++
	e.done, e.submitted = false, false
	e.record = datapath.Record{Frames: e.frames[:0]}
	return e
}

// grow keeps the positions: a Drain may be under way.
func (r *ring) grow() {
	bigger := make([]*entry, min(max(16, 2*len(r.entries)), r.capacity))
	for at := r.head; at != r.tail; at++ {
		bigger[at%uint64(len(bigger))] = r.entries[at%uint64(len(r.entries))]
	}
	for i := range bigger {
		if bigger[i] == nil {
			bigger[i] = new(entry)
		}
	}
	r.entries = bigger
}

// writing says whether the oldest record is reserved and not yet written to its end.
func (r *ring) writing() bool { return !r.entries[r.head%uint64(len(r.entries))].done }

// pop moves the oldest record to rec. It returns false for a discarded one.
func (r *ring) pop(rec *datapath.Record) bool {
	e := r.entries[r.head%uint64(len(r.entries))]
	r.head++
	if !e.submitted {
		return false
	}
	frames := append(rec.Frames[:0], e.record.Frames...)
	*rec = e.record
	rec.Frames = frames
	return true
}
