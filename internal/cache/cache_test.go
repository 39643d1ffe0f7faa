package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func object(g, id uint64, at time.Duration) *Object[int] {
	return &Object[int]{Location: Location{g, id}, Received: epoch.Add(at)}
}

var everything = Location{1 << 61, 0}

// locations returns what is held from known on.
func locations(t *Track[int], now time.Time) (ls []Location) {
	from := t.Known(now)
	for {
		o, ok := t.Next(now, from, everything)
		if !ok || o == nil {
			return ls
		}
		ls = append(ls, o.Location)
		from = o.after()
	}
}

// TestEviction fills a cache of three objects and looks at what stays.
func TestEviction(t *testing.T) {
	c := New[int](3*(Overhead+1000), time.Minute)
	a, b := c.Track(Location{}, 0), c.Track(Location{5, 3}, 0)
	if b.Add(object(5, 2, 0), 1000) {
		t.Error("object below what is known was taken")
	}
	a.Add(object(0, 0, 0), 1000)
	b.Add(object(5, 3, 0), 1000)
	a.Add(object(0, 1, 0), 1000)
	if a.Add(object(0, 1, 0), 1000) {
		t.Error("object was taken twice")
	}
	a.Add(object(1, 0, 0), 1000) // a's group 0 began first
	if l := a.Known(epoch); l != (Location{1, 0}) {
		t.Errorf("a is known from %v", l)
	}
	if _, ok := a.Next(epoch, Location{0, 1}, everything); ok {
		t.Error("silent about an object that was evicted")
	}
	if a.Add(object(0, 2, 0), 1000) {
		t.Error("object of an evicted group was taken")
	}
	b.Add(object(5, 4, 0), 1000)
	b.Add(object(5, 9, 0), 1000) // b's only group loses its first object
	if l := b.Known(epoch); l != (Location{5, 4}) {
		t.Errorf("b is known from %v", l)
	}
	o := object(5, 10, 0)
	b.Add(o, 0)
	b.Grow(o, 100_000)                      // more than fits
	if n := c.Bytes(); n != Overhead+1000 { // a's group 1
		t.Errorf("%d bytes are held", n)
	}
	b.Grow(o, 1000)
	if n := c.Bytes(); n != Overhead+1000 {
		t.Errorf("%d bytes are held of an object that was evicted", n)
	}
}

// TestAge: what is too old is not returned, at the bound exactly, and Expire frees it; the publisher's limit counts if smaller.
func TestAge(t *testing.T) {
	c := New[int](1<<20, time.Minute)
	a, b := c.Track(Location{}, 0), c.Track(Location{}, 10*time.Second)
	for i := range uint64(3) {
		a.Add(object(i, 0, time.Duration(i)*20*time.Second), 10)
		b.Add(object(7, i, time.Duration(i)*20*time.Second), 10)
	}
	if ls := locations(b, epoch.Add(49*time.Second)); len(ls) != 1 || ls[0] != (Location{7, 2}) {
		t.Errorf("b after 49 s: %v", ls)
	}
	if ls := locations(a, epoch.Add(time.Minute-1)); len(ls) != 3 {
		t.Errorf("a before a minute: %v", ls)
	}
	if ls := locations(a, epoch.Add(time.Minute)); len(ls) != 2 || ls[0] != (Location{1, 0}) {
		t.Errorf("a after a minute: %v", ls)
	}
	c.Expire(epoch.Add(time.Hour))
	if n := c.Bytes(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
	// An old object behind a young one.
	a.Add(object(9, 0, 2*time.Hour), 10)
	a.Add(object(9, 1, 0), 10)
	if _, ok := a.Next(epoch.Add(2*time.Hour), Location{9, 1}, everything); ok {
		t.Error("an object that is too old was returned, or said not to exist")
	}
}

// TestModel compares with a plain list: nothing that is held is wrong, nothing is lost without a word, and the bytes add up.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := int64(rapid.IntRange(0, 20*(Overhead+50)).Draw(t, "limit"))
		c := New[int](limit, time.Hour)
		const tracks = 3
		var ts [tracks]*Track[int]
		var came [tracks]map[Location]*Object[int]
		for i := range ts {
			ts[i] = c.Track(Location{uint64(i), 0}, 0)
			came[i] = make(map[Location]*Object[int])
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			i := rapid.IntRange(0, tracks-1).Draw(t, "track")
			l := Location{rapid.Uint64Range(0, 4).Draw(t, "group"), rapid.Uint64Range(0, 6).Draw(t, "object")}
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0:
				if o := came[i][l]; o != nil {
					ts[i].Remove(o)
					delete(came[i], l)
				}
			case 1:
				if o := came[i][l]; o != nil {
					ts[i].Grow(o, rapid.IntRange(0, 200).Draw(t, "grow"))
				}
			default:
				o := object(l.Group, l.Object, 0)
				if _, dup := came[i][l]; ts[i].Add(o, rapid.IntRange(0, 100).Draw(t, "size")) {
					if dup && !l.Less(ts[i].Known(epoch)) {
						t.Fatalf("%v was taken twice", l)
					}
					came[i][l] = o
				}
			}
			var sum int64
			for i, tr := range ts {
				known := tr.Known(epoch)
				held := make(map[Location]bool)
				for _, l := range locations(tr, epoch) {
					held[l] = true
					if came[i][l] == nil {
						t.Fatalf("%v was never added", l)
					}
					sum += came[i][l].size
				}
				for l := range came[i] {
					if !l.Less(known) && !held[l] {
						t.Fatalf("track %d: %v is lost, known from %v", i, l, known)
					}
				}
				last, ok := tr.GroupBefore(1 << 60)
				if ok != (len(held) > 0) || ok && len(tr.groups[last].objects) == 0 {
					t.Fatalf("last group %d, %v", last, ok)
				}
			}
			if sum != c.Bytes() || sum > limit {
				t.Fatalf("%d bytes are held, %d are counted, %d are allowed", sum, c.Bytes(), limit)
			}
		}
		for _, tr := range ts {
			tr.Close()
			if tr.Add(object(1<<50, 0, 0), 1) {
				t.Fatal("closed track took an object")
			}
		}
		if c.Bytes() != 0 || c.groups.Len() != 0 {
			t.Fatalf("%d bytes in %d groups are left", c.Bytes(), c.groups.Len())
		}
	})
}

// BenchmarkAdd is what an object costs the goroutine that reads its stream, eviction included.
func BenchmarkAdd(b *testing.B) {
	c := New[int](64<<20, time.Hour)
	tr := c.Track(Location{}, 0)
	objects := make([]Object[int], b.N)
	b.ReportAllocs()
	for i := range objects {
		objects[i].Location = Location{uint64(i / 50), uint64(i % 50)}
		tr.Add(&objects[i], 2048)
	}
}
