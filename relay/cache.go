package relay

import (
	"context"
	"errors"
	"time"

	"github.com/fastrelay/fastrelay/internal/cache"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// body is where the payload of a cached object is: in the chunks of its stream, which are not copied, or in a datagram.
type body struct {
	st       *stream
	at       cursor
	datagram []byte
}

type cached = cache.Object[body]

var errIncomplete = errors.New("object ends before its payload")

// openCache lets the track's objects be held. The relay knows everything after the largest object at its own subscription.
func (t *track) openCache() {
	if t.relay.cache == nil {
		return
	}
	var known cache.Location
	if l := t.sub.Largest; l != nil {
		known = cache.Location{Group: l.Group, Object: l.Object + 1}
	}
	t.cache = t.relay.cache.Track(known, t.sub.MaxCacheDuration)
}

func (t *track) closeCache() {
	if t.cache != nil {
		t.cache.Close()
	}
}

// hold puts an object of the stream into the cache. It is called by the goroutine that reads the stream.
func (st *stream) hold(o *wire.Object, at cursor, now time.Time) {
	t := st.track
	if t.cache == nil {
		return
	}
	c := &st.firstHeld
	if st.held != nil {
		c = new(cached)
	} else {
		st.uncharged += len(at.chunk.data) // later chunks are charged when they are made
	}
	subgroup, _ := st.objects.Subgroup()
	*c = cached{
		Location: cache.Location{Group: st.header.Group, Object: o.ID}, Subgroup: subgroup, Priority: st.header.Priority,
		Status: o.Status, Extensions: o.Extensions, PayloadLen: o.PayloadLen, Received: now, Body: body{st: st, at: at},
	}
	if t.cache.Add(c, st.uncharged) {
		st.uncharged = 0
	}
	st.held = c
}

// grownBy charges a new chunk to the object that it begins with, or, if that is not held, to the next one that is.
func (st *stream) grownBy(n int) {
	if st.held != nil && !st.track.cache.Grow(st.held, n) {
		st.uncharged += n
	}
}

// unhold takes the last object out of the cache if the stream ended within it.
func (st *stream) unhold() {
	if st.held != nil && st.skip > 0 {
		st.track.cache.Remove(st.held)
	}
}

// holdDatagram puts the object of a datagram into the cache.
func (t *track) holdDatagram(o *wire.ObjectDatagram) {
	if t.cache == nil {
		return
	}
	t.cache.Add(&cached{
		Location: cache.Location{Group: o.Group, Object: o.ObjectID}, Datagram: true, Priority: o.Priority, Status: o.Status,
		Extensions: o.Extensions, PayloadLen: uint64(len(o.Payload)), Received: time.Now(), Body: body{datagram: o.Payload},
	}, len(o.Payload)+len(o.Extensions))
}

// copyTo writes the payload of a cached object, and waits for what has not come yet.
func copyTo(ctx context.Context, o *cached, write func([]byte) error) error {
	if o.Body.st == nil {
		return write(o.Body.datagram)
	}
	at := o.Body.at
	for left := o.PayloadLen; left > 0; {
		b, err := o.Body.st.after(ctx, &at, left)
		if err != nil {
			return err
		}
		if err := write(b); err != nil {
			return err
		}
		left -= uint64(len(b))
	}
	return nil
}

// after returns the bytes at a place in the stream, at most limit, and moves the place behind them. It waits until there
// are any; whoever ends ctx wakes it.
func (st *stream) after(ctx context.Context, at *cursor, limit uint64) ([]byte, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		c := at.chunk
		switch {
		case at.off < c.n:
			b := c.data[at.off:c.n:c.n]
			b = b[:min(uint64(len(b)), limit)]
			at.off += len(b)
			return b, nil
		case c.next != nil:
			*at = cursor{c.next, 0}
		case st.finished:
			return nil, errIncomplete
		default:
			st.grown.Wait()
		}
	}
}

// wake wakes those who wait in after.
func (st *stream) wake() {
	st.mu.Lock() // so that they are either before their check or in their wait
	st.grown.Broadcast()
	st.mu.Unlock()
}

// expireCache drops what is too old, from time to time, until the relay closes.
func (r *Relay) expireCache() {
	tick := time.NewTicker(max(r.cfg.CacheAge/4, time.Second))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			r.cache.Expire(now)
		case <-r.ctx.Done():
			return
		}
	}
}

// asFetchObject returns how a FETCH shows an object, in the draft of its subscriber. ok is false if it cannot.
func asFetchObject(o *cached, from, to wire.Draft) (f wire.FetchObject, ok bool) {
	f = wire.FetchObject{
		Group: o.Group, Subgroup: o.Subgroup, ID: o.Object, Datagram: o.Datagram, Priority: o.Priority, Extensions: o.Extensions,
		Status: o.Status, PayloadLen: o.PayloadLen,
	}
	return f, transcodeFetchObject(&f, from, to)
}

func transcodeFetchObject(f *wire.FetchObject, from, to wire.Draft) bool {
	if from == to || len(f.Extensions) == 0 {
		return true
	}
	ext, err := wire.TranscodeExtensions(nil, f.Extensions, from, to)
	f.Extensions = ext
	return err == nil
}

// cacheRange is the part of a FETCH that a cache serves in ascending order.
func (s *fetchSender) cacheRange(from, limit moq.Location) error {
	t := s.t
	at, end := cache.Location(from), cache.Location(limit)
	for {
		o, ok := t.cache.Next(time.Now(), at, end)
		if !ok {
			return errUnknownObject
		}
		if o == nil {
			return nil
		}
		at = cache.Location{Group: o.Group, Object: o.Object + 1}
		f, ok := asFetchObject(o, t.publisher.draft, s.p.draft)
		if !ok {
			return errMalformedExtensions
		}
		if f.Status != wire.StatusNormal && !s.req.SendsStatus() {
			continue
		}
		if err := s.header(&f); err != nil {
			return err
		}
		if err := s.payload(o); err != nil {
			return err
		}
	}
}

func (s *fetchSender) payload(o *cached) error {
	if st := o.Body.st; st != nil {
		stop := context.AfterFunc(s.req.Context(), st.wake)
		defer stop()
	}
	return copyTo(s.req.Context(), o, s.write)
}
