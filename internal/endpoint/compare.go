package endpoint

// Comparison says how what was received agrees with what was published. Expected is the sum of Delivered, Corrupt, Missing
// and Reset.
type Comparison struct {
	Published  int    // objects that the publisher sent
	Expected   int    // objects published, times the subscribers that they were due to (see TrackStart)
	Delivered  int    // arrived once or more, identical in hash, subgroup and priority
	Corrupt    int    // arrived, and differ
	Missing    int    // did not arrive
	Reset      int    // did not arrive, and their stream was reset
	Duplicate  int    // arrived again; the first one counts above
	Unexpected int    // arrived, and were not published or not due
	Violations int    // breaches of the protocol that subscribers saw
	Bytes      uint64 // payload bytes of what was delivered
}

// Complete reports whether everything arrived, unchanged and once.
func (c *Comparison) Complete() bool {
	return c.Expected > 0 && c.Delivered == c.Expected && c.Duplicate == 0 && c.Unexpected == 0 && c.Violations == 0
}

type objectKey struct {
	track     string
	group, id uint64
}

type subgroupKey struct {
	track           string
	group, subgroup uint64
}

// Compare checks every subscriber's objects against the publisher's.
func Compare(p *Published, rs []*Received) Comparison {
	c := Comparison{Published: len(p.Objects)}
	for _, r := range rs {
		c.add(p, r)
	}
	return c
}

func (c *Comparison) add(p *Published, r *Received) {
	c.Violations += len(r.Violations)
	got := make(map[objectKey]*Object, len(r.Objects))
	for i := range r.Objects {
		o := &r.Objects[i]
		k := objectKey{o.Track, o.Group, o.ID}
		if got[k] != nil {
			c.Duplicate++
			continue
		}
		got[k] = o
	}
	reset := make(map[subgroupKey]bool, len(r.Resets))
	for _, s := range r.Resets {
		reset[subgroupKey{s.Track, s.Group, s.Subgroup}] = true
	}
	first := make(map[string]uint64, len(r.Tracks))
	for _, t := range r.Tracks {
		first[t.Track] = t.FirstGroup
	}
	for i := range p.Objects {
		want := &p.Objects[i]
		start, subscribed := first[want.Track]
		if !subscribed || want.Group < start {
			continue
		}
		c.Expected++
		k := objectKey{want.Track, want.Group, want.ID}
		o := got[k]
		delete(got, k)
		switch {
		case o == nil && reset[subgroupKey{want.Track, want.Group, want.Subgroup}]:
			c.Reset++
		case o == nil:
			c.Missing++
		case o.SHA256 != want.SHA256 || o.Priority != want.Priority || o.Datagram != want.Datagram ||
			!want.Datagram && o.Subgroup != want.Subgroup:
			c.Corrupt++
		default:
			c.Delivered++
			c.Bytes += uint64(o.Bytes)
		}
	}
	c.Unexpected += len(got)
}
