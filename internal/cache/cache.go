// Package cache holds objects of MoQ tracks for a while, so that a FETCH can be answered with them.
//
//	Cache   bytes of all tracks, bounded; groups in the order in which they began
//	  Track   known ──────────────► : all objects from here on that have come are held, or do not exist
//	    group   objects in the order of their IDs
//
// What is evicted raises a track's known location, so that a Track is never silent about an object that it has lost: gaps
// above it are objects that do not exist. Bodies are the caller's: nothing is copied. Time is an argument.
package cache

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// Overhead is what an object is charged for beside its body, in bytes: about the memory of its entry.
const Overhead = 192

// Location is a position in a track.
type Location struct{ Group, Object uint64 }

// Less reports whether l comes before m.
func (l Location) Less(m Location) bool {
	return l.Group < m.Group || l.Group == m.Group && l.Object < m.Object
}

// Object is one object with what a FETCH says of it (draft-14 and draft-16, section "Canonical Object Properties"). Its
// exported fields must not change once it is held.
type Object[B any] struct {
	Location
	Subgroup   uint64
	Datagram   bool // it came in a datagram and has no subgroup
	Priority   uint8
	Status     uint64
	Extensions []byte
	PayloadLen uint64
	Received   time.Time // when its header came
	Body       B

	group *group[B] // nil: not held
	size  int64
}

// Cache bounds what its tracks hold. Its methods and those of its tracks may be called from any goroutine.
type Cache[B any] struct {
	maxBytes int64
	maxAge   time.Duration

	mu     sync.Mutex
	bytes  int64
	groups list.List // of *group[B], in the order in which they began
}

type group[B any] struct {
	track   *Track[B]
	id      uint64
	objects []*Object[B]
	place   *list.Element
}

// Track is what is held of one track.
type Track[B any] struct {
	c      *Cache[B]
	maxAge time.Duration
	known  Location
	closed bool
	groups map[uint64]*group[B]
	ids    []uint64 // of groups, sorted
}

// New makes a cache for bodies of at most maxBytes, with their overhead, and objects of at most maxAge.
func New[B any](maxBytes int64, maxAge time.Duration) *Cache[B] {
	return &Cache[B]{maxBytes: maxBytes, maxAge: maxAge}
}

// Bytes returns what is held now.
func (c *Cache[B]) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Track adds a track of which everything from known on will come. maxAge is the publisher's limit (draft-16, section "MAX
// CACHE DURATION"); 0: none.
func (c *Cache[B]) Track(known Location, maxAge time.Duration) *Track[B] {
	if maxAge <= 0 || maxAge > c.maxAge {
		maxAge = c.maxAge
	}
	return &Track[B]{c: c, maxAge: maxAge, known: known, groups: make(map[uint64]*group[B])}
}

// Expire drops what is too old at now. Fetching never returns what is too old; this frees its memory.
func (c *Cache[B]) Expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tracks []*Track[B] // first, since it takes groups out of the list
	for e := c.groups.Front(); e != nil; e = e.Next() {
		if g := e.Value.(*group[B]); g.id == g.track.ids[0] {
			tracks = append(tracks, g.track)
		}
	}
	for _, t := range tracks {
		t.expire(now)
	}
}

// expire drops the objects from the front on that are too old.
func (t *Track[B]) expire(now time.Time) {
	for len(t.ids) > 0 {
		g := t.groups[t.ids[0]]
		n := 0
		for n < len(g.objects) && now.Sub(g.objects[n].Received) >= t.maxAge {
			n++
		}
		if n == 0 {
			return
		}
		t.raise(g.objects[n-1].after())
	}
}

func (o *Object[B]) after() Location { return Location{o.Group, o.Object + 1} }

// raise lifts the known location to l, and drops what is below.
func (t *Track[B]) raise(l Location) {
	if !t.known.Less(l) {
		return
	}
	t.known = l
	for len(t.ids) > 0 && t.ids[0] <= l.Group {
		g := t.groups[t.ids[0]]
		n := len(g.objects)
		if g.id == l.Group {
			n, _ = g.find(l.Object)
		}
		for _, o := range g.objects[:n] {
			t.c.bytes -= o.size
			o.group = nil
		}
		clear(g.objects[:n])
		g.objects = g.objects[n:] // what follows may be long, and is not moved
		if len(g.objects) > 0 {
			return
		}
		t.removeGroup(g)
	}
}

func (t *Track[B]) removeGroup(g *group[B]) {
	t.c.groups.Remove(g.place)
	delete(t.groups, g.id)
	if t.ids[0] == g.id {
		t.ids = t.ids[1:] // as a rule
	} else if i, ok := slices.BinarySearch(t.ids, g.id); ok {
		t.ids = slices.Delete(t.ids, i, i+1)
	}
}

// find returns where the object with an ID is or belongs.
func (g *group[B]) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(g.objects, id, func(o *Object[B], id uint64) int {
		switch {
		case o.Object < id:
			return -1
		case o.Object > id:
			return 1
		}
		return 0
	})
}

// Add holds an object whose body has size bytes so far. It returns false if it does not: it is held already, or below the
// known location, or the track is closed.
func (t *Track[B]) Add(o *Object[B], size int) bool {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.closed || o.Location.Less(t.known) {
		return false
	}
	g := t.groups[o.Group]
	i := 0
	if g != nil {
		var held bool
		if n := len(g.objects); g.objects[n-1].Object < o.Object {
			i = n // as a rule
		} else if i, held = g.find(o.Object); held {
			return false
		}
	} else {
		g = &group[B]{track: t, id: o.Group}
		t.groups[o.Group] = g
		at, _ := slices.BinarySearch(t.ids, o.Group)
		t.ids = slices.Insert(t.ids, at, o.Group)
		g.place = c.groups.PushBack(g)
	}
	g.objects = slices.Insert(g.objects, i, o)
	o.group, o.size = g, int64(size)+Overhead
	c.bytes += o.size
	c.evict()
	return true
}

// Grow charges n more bytes to an object. It returns false if that is not held, or not any more.
func (t *Track[B]) Grow(o *Object[B], n int) bool {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.group == nil {
		return false
	}
	o.size += int64(n)
	c.bytes += int64(n)
	c.evict()
	return true
}

// evict drops the oldest group while there is too much. Of a track's largest group, which is probably still growing, it
// drops objects one by one.
func (c *Cache[B]) evict() {
	for c.bytes > c.maxBytes && c.groups.Len() > 0 {
		g := c.groups.Front().Value.(*group[B])
		t := g.track
		if g.id < t.ids[len(t.ids)-1] {
			t.raise(Location{g.id + 1, 0})
		} else {
			t.raise(g.objects[0].after())
		}
	}
}

// Remove takes out an object that will never be whole.
func (t *Track[B]) Remove(o *Object[B]) {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	g := o.group
	if g == nil {
		return
	}
	o.group = nil
	c.bytes -= o.size
	i, _ := g.find(o.Object)
	if g.objects = slices.Delete(g.objects, i, i+1); len(g.objects) == 0 {
		t.removeGroup(g)
	}
}

// Close drops everything.
func (t *Track[B]) Close() {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	t.closed = true
	t.raise(Location{1<<62 - 1, 1<<63 - 1})
}

// Known returns the location from which on everything that has come is held.
func (t *Track[B]) Known(now time.Time) Location {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.expire(now)
	return t.known
}

// Next returns the first object of [from, end). o is nil if there is none, and ok is false if that is not known, because
// from is below the known location.
func (t *Track[B]) Next(now time.Time, from, end Location) (o *Object[B], ok bool) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.expire(now)
	if from.Less(t.known) {
		return nil, false
	}
	at, _ := slices.BinarySearch(t.ids, from.Group)
	for ; at < len(t.ids); at++ {
		g := t.groups[t.ids[at]]
		i := 0
		if g.id == from.Group {
			i, _ = g.find(from.Object)
		}
		if i == len(g.objects) {
			continue
		}
		if o = g.objects[i]; !o.Location.Less(end) {
			return nil, true
		}
		if now.Sub(o.Received) >= t.maxAge { // behind a younger one
			t.raise(o.after())
			return nil, false
		}
		return o, true
	}
	return nil, true
}

// GroupBefore returns the largest group below a group of which an object is held.
func (t *Track[B]) GroupBefore(group uint64) (id uint64, ok bool) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	at, _ := slices.BinarySearch(t.ids, group)
	if at == 0 {
		return 0, false
	}
	return t.ids[at-1], true
}
