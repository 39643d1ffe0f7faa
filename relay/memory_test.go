package relay

import (
	"context"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/cache"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// heldStream is a stream that is not read, for the bookkeeping alone.
func heldStream(c *cache.Cache[body]) *stream {
	st := &stream{track: &track{cache: c.Track(cache.Location{}, 0)}, tail: &chunk{data: make([]byte, firstChunk)}}
	st.grown.L = &st.mu
	st.objects.Init(&st.header, wire.Draft14)
	return st
}

// TestCacheChargesChunks: a chunk is charged also when the object that it came with is not held, being there already or evicted:
// later objects in it keep it.
func TestCacheChargesChunks(t *testing.T) {
	c := cache.New[body](1<<20, time.Minute)
	st := heldStream(c)
	now := time.Now()
	st.track.cache.Add(&cached{Location: cache.Location{Object: 0}, Received: now}, 0)
	before := c.Bytes()
	st.hold(&wire.Object{ID: 0}, cursor{st.tail, 0}, now) // a duplicate
	st.grownBy(laterChunk)
	st.hold(&wire.Object{ID: 1}, cursor{st.tail, 0}, now)
	st.hold(&wire.Object{ID: 2}, cursor{st.tail, 0}, now)
	if got, want := c.Bytes()-before, int64(firstChunk+laterChunk+2*cache.Overhead); got != want {
		t.Errorf("%d bytes are charged, want %d", got, want)
	}
}

// TestDeadlinesAreForgotten: of a stream with many objects and a long delivery timeout, only the deadlines of those objects
// are remembered that have not been sent.
func TestDeadlinesAreForgotten(t *testing.T) {
	st := heldStream(cache.New[body](1, time.Minute))
	w := &sender{s: &subscriber{peer: &peer{}, timeout: time.Hour}, st: st, at: cursor{st.tail, 0}}
	w.ctx, w.cancel = context.WithCancelCause(t.Context())
	st.senders = append(st.senders, w)
	st.lastAt = time.Now()
	for id := range uint64(10_000) {
		st.base += 10
		st.expect(&wire.Object{ID: id, PayloadLen: 10}, cursor{st.tail, 0})
		if id%3 == 2 {
			w.passed = st.base + 10
		}
	}
	w.expiry.Stop()
	if n := len(w.due); n > 3 || n == 0 {
		t.Errorf("%d deadlines are remembered, of at most 3 objects", n)
	}
}
