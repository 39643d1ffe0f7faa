package relay

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// Sizes of the chunks that a stream is read into: small for one that may hold a single small frame, then larger.
const (
	firstChunk = 2 << 10
	laterChunk = 16 << 10
)

// chunk is a piece of a stream. Bytes below n never change; n is guarded by the stream's mu. Who reads the stream holds
// the chunk that it is at, so that chunks which everybody has passed are freed.
type chunk struct {
	data []byte
	n    int
	next *chunk
}

// key names a stream among those of all tracks.
func (st *stream) key() uint64 { return st.track.number<<48 ^ st.id }

// cursor is a place in a stream.
type cursor struct {
	chunk *chunk
	off   int
}

// stream is a subgroup stream of a publisher. One goroutine reads it; senders follow at their own pace.
type stream struct {
	track  *track
	rs     *quic.ReceiveStream
	id     uint64
	header wire.SubgroupHeader
	head   []byte // the header as it came

	// Of the reading goroutine.
	tail    *chunk
	objects wire.ObjectReader
	partial []byte // of an object's header
	skip    uint64 // bytes of the payload that follow

	base      uint64    // offset of the last chunk in the stream
	lastAt    time.Time // when the last object began
	counted   bool      // in publisher.reading
	firstHeld cached
	held      *cached // the last object, which is in the cache or was; nil before the first one
	uncharged int     // bytes of chunks that no held object is charged for

	mu       sync.Mutex
	grown    sync.Cond
	finished bool
	err      error // why it did not end with FIN
	code     uint64
	senders  []*sender
	idle     []*sender // that wait for their first object
	fast     []fastSender
	unwanted []fastSender // of begin alone
}

// fastSender is a subscriber that the datapath serves a stream to.
type fastSender struct {
	s    *subscriber
	fs   *quicadapt.FastStream
	fate *fate
}

// readStream reads a data stream of the peer to its end.
func (p *peer) readStream(rs *quic.ReceiveStream) {
	st := &stream{rs: rs, id: uint64(rs.StreamID()), tail: &chunk{data: make([]byte, firstChunk)}}
	st.grown.L = &st.mu
	n, readErr := 0, error(nil)
	for {
		var k int
		k, readErr = rs.Read(st.tail.data[n:])
		n += k
		h, err := wire.ParseSubgroupHeader(st.tail.data[:n], p.draft)
		if err == nil {
			st.header = h
			break
		}
		if errors.Is(err, wire.ErrStreamType) {
			err = p.session.DeliverFetch(rs, st.tail.data[:n])
			if err == nil {
				return
			}
		}
		if !errors.Is(err, wire.ErrShort) {
			p.violation(fmt.Errorf("data stream %d: %w", st.id, err))
			return
		}
		if readErr != nil {
			p.endUnread(st.id, readErr) // it ended before it said what it is, here
			return
		}
	}
	t := p.awaitTrack(st.header.TrackAlias)
	if t == nil {
		p.relay.counts.add("unknown_alias", 1)
		rs.CancelRead(codeCancelled)
		p.unread(st.id)
		return
	}
	if st.header.DefaultPriority {
		st.header.Priority = t.sub.DefaultPriority
	}
	st.track = t
	st.head = st.tail.data[:st.header.Len:st.header.Len]
	st.tail.n = st.header.Len
	st.objects.Init(&st.header, p.draft)
	if !t.begin(st) {
		rs.CancelRead(codeCancelled)
		p.unread(st.id)
		return
	}
	defer t.end(st)
	if err := st.read(n, readErr); err != nil {
		var reset *quic.StreamError
		code := uint64(codeInternal)
		switch {
		case errors.As(err, &reset):
			code = uint64(reset.ErrorCode)
			if reset.Remote {
				p.relay.counts.add("publisher_reset", 1)
			}
		case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrTooLarge):
			p.violation(fmt.Errorf("data stream %d: %w", st.id, err))
			rs.CancelRead(codeCancelled)
		}
		st.unhold()
		st.finish(err, code)
		return
	}
	st.finish(nil, 0)
}

// read takes the bytes up to n of the first chunk, and then those that come.
func (st *stream) read(n int, err error) error {
	for {
		c := st.tail
		if n > c.n {
			if perr := st.parse(c, c.n, n); perr != nil {
				return perr
			}
			st.publish(c, n)
		}
		switch {
		case errors.Is(err, io.EOF) && (st.skip > 0 || len(st.partial) > 0):
			return fmt.Errorf("%w: stream ends inside an object", wire.ErrMalformed)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if n == len(c.data) {
			next := &chunk{data: make([]byte, laterChunk)}
			st.grownBy(laterChunk)
			st.mu.Lock()
			c.next = next
			st.mu.Unlock()
			st.base += uint64(len(c.data))
			st.tail, c, n = next, next, 0
		}
		var k int
		k, err = st.rs.Read(c.data[n:])
		n += k
	}
}

// parse looks at the objects in bytes [from, to) of a chunk, before anybody else can see them.
func (st *stream) parse(c *chunk, from, to int) error {
	for from < to {
		if st.skip > 0 {
			k := min(st.skip, uint64(to-from))
			st.skip -= k
			from += int(k)
			continue
		}
		b, had := c.data[from:to], len(st.partial)
		if had > 0 {
			st.partial = append(st.partial, b...)
			b = st.partial
		}
		var o wire.Object
		n, err := st.objects.ParseHeader(b, &o)
		if errors.Is(err, wire.ErrShort) {
			if had == 0 {
				st.partial = append(st.partial, b...)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if had > 0 {
			o.Extensions = slices.Clone(o.Extensions) // they are in partial, and the cache keeps them
		}
		from += n - had
		st.lastAt = time.Now()
		st.skip = o.PayloadLen
		st.track.object(st, &o, cursor{c, from})
		st.partial = st.partial[:0]
	}
	return nil
}

// publish lets the senders see the bytes of a chunk up to n.
func (st *stream) publish(c *chunk, n int) {
	st.mu.Lock()
	b := c.data[c.n:n:n]
	c.n = n
	for _, w := range st.senders {
		w.owe(len(b))
	}
	fast := st.fast // is replaced, never changed
	st.mu.Unlock()
	st.grown.Broadcast()
	st.track.bytes.Add(uint64(len(b)))
	for _, f := range fast {
		_, err := f.fs.Write(b)
		if err == nil {
			f.s.bytes.Add(uint64(len(b)))
		} else {
			st.failFast(f, err)
		}
		f.s.offer(st, len(b), f.fate.dropped())
	}
}

// finish ends the stream for all senders: with FIN, or with a reset.
func (st *stream) finish(err error, code uint64) {
	st.mu.Lock()
	st.finished, st.err, st.code = true, err, code
	idle, fast := st.idle, st.fast
	st.idle, st.fast = nil, nil
	st.mu.Unlock()
	st.grown.Broadcast()
	for _, w := range idle {
		w.finish()
	}
	for _, f := range fast {
		if err != nil {
			f.fate.expect("publisher_reset")
			_ = f.fs.Reset(code)
			continue
		}
		_ = f.fs.Close() // fails only if the subscriber stopped it
	}
}

// addFast makes fs, which the datapath has opened, the sender of the stream for s. It needs track.mu, under which nothing may be
// sent: begin does that.
func (st *stream) addFast(s *subscriber, fs *quicadapt.FastStream) {
	if fs.Begun() { // also one whose rest was dropped meanwhile: its reset comes
		s.opened.Add(1)
		s.fast.Add(1)
	}
	if s.leaving || !s.wants(st.header.Group) {
		// The datapath opened it before it knew.
		st.unwanted = append(st.unwanted, fastSender{s: s, fs: fs, fate: &fate{}})
		return
	}
	f := fastSender{s: s, fs: fs, fate: &fate{}}
	f.follow(st)
	st.mu.Lock()
	st.fast = append(st.fast[:len(st.fast):len(st.fast)], f)
	st.mu.Unlock()
}

// cancelFast resets fast streams that nobody wants any more. It sends: no lock may be held.
func cancelFast(fast []fastSender) {
	for _, f := range fast {
		f.fate.expect("unwanted")
		_ = f.fs.Reset(codeCancelled)
	}
}

// failFast gives a fast stream up.
func (st *stream) failFast(f fastSender, err error) {
	switch {
	case errors.Is(err, quicadapt.ErrBehind):
		st.track.relay.counts.add("too_far_behind", 1)
		f.fate.expect("too_far_behind")
		_ = f.fs.Reset(codeDeliveryTimeout)
	case errors.Is(err, quicadapt.ErrDropped):
		if r, dropped := f.fs.Dropped(); dropped {
			f.fate.noteDropped(r)
		}
		return // it is closed when the publisher's stream ends, and so long the datapath drops the rest of it
	}
	st.mu.Lock()
	n := len(st.fast)
	st.fast = slices.DeleteFunc(slices.Clone(st.fast), func(o fastSender) bool { return o == f })
	had := len(st.fast) < n
	st.mu.Unlock()
	if had { // and the subscriber still wanted it
		f.s.lost.Add(1)
	}
}

// drop ends the senders of a subscriber that does not want the stream any more, but for the fast ones that it returns: they
// are for cancelFast.
func (st *stream) drop(s *subscriber) (fast []fastSender) {
	var idle []*sender
	st.mu.Lock()
	st.fast = slices.DeleteFunc(slices.Clone(st.fast), func(f fastSender) bool {
		if f.s == s {
			fast = append(fast, f)
		}
		return f.s == s
	})
	st.idle = slices.DeleteFunc(st.idle, func(w *sender) bool {
		if w.s == s {
			idle = append(idle, w)
		}
		return w.s == s
	})
	for _, w := range st.senders {
		if w.s == s {
			w.cancel(errUnwanted)
		}
	}
	st.mu.Unlock()
	st.grown.Broadcast()
	for _, w := range idle {
		w.finish()
	}
	return fast
}
