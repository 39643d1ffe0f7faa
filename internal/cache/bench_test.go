package cache

import (
	"testing"
	"time"
)

// BenchmarkAddFull adds objects to a cache that is full of small ones: of one group, and one to a group. What it costs must
// not depend on how many are held, since everybody waits for it.
func BenchmarkAddFull(b *testing.B) {
	const held = 200_000
	for name, place := range map[string]func(i uint64) (group, id uint64){
		"one-group":  func(i uint64) (uint64, uint64) { return 0, i },
		"one-object": func(i uint64) (uint64, uint64) { return i, 0 },
	} {
		b.Run(name, func(b *testing.B) {
			t := New[int](held*Overhead, time.Minute).Track(Location{}, 0)
			i := uint64(0)
			add := func() {
				g, id := place(i)
				t.Add(object(g, id, 0), 0)
				i++
			}
			for range held {
				add()
			}
			for b.Loop() {
				add()
			}
		})
	}
}

// BenchmarkExpire lets some old objects of many tracks expire behind many young groups.
func BenchmarkExpire(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := New[int](1<<40, time.Minute)
		young := c.Track(Location{}, 0)
		for g := range uint64(20_000) {
			young.Add(object(g, 0, time.Hour), 0)
		}
		for range 200 {
			c.Track(Location{}, 0).Add(object(0, 0, 0), 0)
		}
		b.StartTimer()
		c.Expire(epoch.Add(time.Hour))
		if n := c.Bytes(); n != 20_000*Overhead {
			b.Fatalf("%d bytes are left", n)
		}
	}
}
