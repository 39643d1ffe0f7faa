package quicadapt

// idRing remembers the last stream IDs that were put in it.
type idRing struct {
	set  map[uint64]struct{}
	ring []uint64
	next int
}

const idRingSize = 4096

func (r *idRing) put(id uint64) {
	if r.set == nil {
		r.set = make(map[uint64]struct{})
	}
	if _, ok := r.set[id]; ok {
		return
	}
	if len(r.ring) < idRingSize {
		r.ring = append(r.ring, id)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % idRingSize
	}
	r.set[id] = struct{}{}
}

func (r *idRing) has(id uint64) bool {
	_, ok := r.set[id]
	return ok
}
