package relay

import (
	"maps"
	"sync"
)

// Tally says what became of the streams and datagrams that a subscription selected: each is open, or ended in exactly one way.
//
//	Published = Delivered + Dropped (all reasons) + Reset (all reasons) + Open
//
// A stream is delivered when the subscriber has acknowledged all of it, on the fast path, and when QUIC has taken all of it on the
// slow path; a datagram when it was sent. Dropped is what the subscriber never saw anything of, Reset what was begun. The reasons
// are those of datapath.Reason that begin with drop_, and of Stats.Reasons.
type Tally struct {
	Published, Delivered, Open uint64
	Dropped, Reset             map[string]uint64 `json:",omitempty"`
}

// Add adds the counts of another tally. t does not share maps with o afterwards, but does with earlier copies of itself.
func (t *Tally) Add(o *Tally) {
	t.Published += o.Published
	t.Delivered += o.Delivered
	t.Open += o.Open
	for why, n := range o.Dropped {
		count(&t.Dropped, why, n)
	}
	for why, n := range o.Reset {
		count(&t.Reset, why, n)
	}
}

func count(m *map[string]uint64, why string, n uint64) {
	if *m == nil {
		*m = make(map[string]uint64)
	}
	(*m)[why] += n
}

// ledger has a tally for each priority of the publisher.
type ledger struct {
	mu   sync.Mutex
	of   map[uint8]*Tally
	into *ledger // it has been merged into: what ends later ends there
	over string  // why nothing is open any more, once it was settled
}

func (l *ledger) tally(priority uint8) *Tally {
	t := l.of[priority]
	if t == nil {
		if l.of == nil {
			l.of = make(map[uint8]*Tally)
		}
		t = &Tally{}
		l.of[priority] = t
	}
	return t
}

// published notes that something begins that the subscription selected.
func (l *ledger) published(priority uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &Tally{Published: 1, Open: 1}
	if l.over != "" {
		t.close(l.over)
	}
	if l.into != nil {
		l.into.take(map[uint8]*Tally{priority: t})
		return
	}
	l.tally(priority).Add(t)
}

func (l *ledger) delivered(priority uint8) {
	l.end(priority, func(t *Tally) { t.Delivered++ })
}

func (l *ledger) dropped(priority uint8, why string) {
	l.end(priority, func(t *Tally) { count(&t.Dropped, why, 1) })
}

func (l *ledger) reset(priority uint8, why string) {
	l.end(priority, func(t *Tally) { count(&t.Reset, why, 1) })
}

func (l *ledger) end(priority uint8, how func(*Tally)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.into != nil {
		l.into.end(priority, how)
		return
	}
	if t := l.tally(priority); t.Open > 0 { // or it was settled
		t.Open--
		how(t)
	}
}

// settle ends all that is open for a reason, and all that is published afterwards.
func (l *ledger) settle(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = why
	for _, t := range l.of {
		t.close(why)
	}
}

func (t *Tally) close(why string) {
	if t.Open > 0 {
		count(&t.Reset, why, t.Open)
		t.Open = 0
	}
}

// merge makes l part of another ledger.
func (l *ledger) merge(into *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.into != nil {
		return
	}
	into.take(l.of)
	l.of, l.into = nil, into
}

func (l *ledger) take(of map[uint8]*Tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over != "" {
		for _, t := range of {
			t.close(l.over)
		}
	}
	if l.into != nil {
		l.into.take(of)
		return
	}
	for priority, t := range of {
		l.tally(priority).Add(t)
	}
}

// snapshot returns a copy of the tallies, nil if there is none.
func (l *ledger) snapshot() map[uint8]Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.of) == 0 {
		return nil
	}
	m := make(map[uint8]Tally, len(l.of))
	for priority, t := range l.of {
		c := *t
		c.Dropped, c.Reset = maps.Clone(t.Dropped), maps.Clone(t.Reset)
		m[priority] = c
	}
	return m
}
