package relay

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

var (
	errBehind  = errors.New("subscriber is too far behind")
	errExpired = errors.New("object is older than its delivery timeout")
)

// sender copies a stream to one subscriber through quic-go. It runs on a goroutine of its own, which flow control blocks.
type sender struct {
	s      *subscriber
	st     *stream
	at     cursor
	ctx    context.Context
	cancel context.CancelCauseFunc

	// What it begins with: the stream's header, and with first that of an object, whose payload at is the start of.
	first      *wire.Object
	subgroup   uint64            // of the stream; valid with first
	transcoder *transcoder       // across drafts
	objects    wire.ObjectReader // after first, with transcoder
	out        *quic.SendStream  // once open

	// Guarded by st.mu.
	owed, paid int
	passed     uint64     // offset in the publisher's stream up to which everything has been sent
	due        []deadline // of objects that have not been sent whole; only with a delivery timeout
	expiry     *time.Timer
}

// deadline is when the object that ends at an offset of the publisher's stream is of no use any more.
type deadline struct {
	end uint64
	at  time.Time
}

// expect sets the deadlines of an object that has begun, for those who have a delivery timeout (draft-14 and draft-16, section
// "DELIVERY TIMEOUT Parameter"), or whose policy gives what has waited for long up. It needs track.mu.
func (st *stream) expect(o *wire.Object, at cursor) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, f := range st.fast {
		if useful := f.s.usefulFor(f.s.rank(st.header.Priority)); useful > 0 {
			f.fs.SetDeadline(uint64(at.off-at.chunk.n)+o.PayloadLen, st.lastAt.Add(useful), codeDeliveryTimeout)
		}
	}
	end := st.base + uint64(at.off) + o.PayloadLen
	for _, w := range st.senders {
		useful := w.s.usefulFor(w.s.rank(st.header.Priority))
		if useful == 0 || w.at.chunk == nil {
			continue
		}
		w.settle() // the timeout may be long, and the objects many
		w.due = append(w.due, deadline{end, st.lastAt.Add(useful)})
		if w.expiry == nil {
			w.expiry = time.AfterFunc(time.Until(w.due[0].at), w.expire)
		}
	}
}

// expire ends a sender that has not sent an object in time, and otherwise waits for the next deadline.
func (w *sender) expire() {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	w.expiry = nil
	w.settle()
	switch {
	case len(w.due) == 0:
	case !time.Now().Before(w.due[0].at):
		w.cancel(errExpired)
	default:
		w.expiry = time.AfterFunc(time.Until(w.due[0].at), w.expire)
	}
}

// settle forgets the deadlines of objects that have been sent. It needs st.mu.
func (w *sender) settle() {
	n := 0
	for n < len(w.due) && w.due[n].end <= w.passed {
		n++
	}
	w.due = w.due[n:]
}

// addSender gives s a sender: of all bytes of the stream, or, with whole false, of the objects from the next one on that
// s wants. It needs track.mu.
func (st *stream) addSender(s *subscriber, transcode, whole bool) {
	r := st.track.relay
	if int(s.waiting.Load()) >= r.cfg.MaxStreams {
		r.counts.add("too_many_streams", 1)
		s.lost.Add(1)
		s.ledger.published(st.header.Priority)
		s.ledger.dropped(st.header.Priority, "too_many_streams")
		return
	}
	w := &sender{s: s, st: st}
	w.ctx, w.cancel = context.WithCancelCause(s.sending)
	if transcode {
		w.transcoder = &transcoder{from: st.track.publisher.draft, to: s.peer.draft}
	}
	s.senders.Add(1)
	s.waiting.Add(1)
	st.mu.Lock()
	if !whole {
		if !st.finished {
			st.idle = append(st.idle, w)
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		w.finish()
		return
	}
	w.at = cursor{st.tail, st.header.Len} // nothing but the header is published yet
	w.passed = uint64(st.header.Len)
	st.senders = append(st.senders, w)
	st.mu.Unlock()
	s.ledger.published(st.header.Priority)
	w.open()
	go w.run()
}

// open opens the subscriber's stream if that is possible at once, so that streams keep the order in which they came.
func (w *sender) open() {
	select {
	case <-w.s.accepted:
		w.out, _ = w.s.peer.conn.OpenUniStream()
	default:
	}
}

// activate starts the senders that an object is the first for. It needs track.mu.
func (st *stream) activate(o *wire.Object, at cursor) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.idle) == 0 {
		return
	}
	subgroup, _ := st.objects.Subgroup()
	l := moq.Location{Group: st.header.Group, Object: o.ID}
	st.idle = slices.DeleteFunc(st.idle, func(w *sender) bool {
		if l.Less(w.s.start) || w.transcoder != nil && !w.transcoder.takes(o) {
			return false
		}
		first := *o
		first.Extensions = slices.Clone(o.Extensions)
		first.Payload = nil
		w.first, w.subgroup, w.objects, w.at = &first, subgroup, st.objects, at
		w.passed = st.base + uint64(at.off)
		st.senders = append(st.senders, w)
		w.s.ledger.published(st.header.Priority)
		w.open()
		go w.run()
		return true
	})
}

// owe notes n more bytes that the sender has to send. It needs st.mu.
func (w *sender) owe(n int) {
	w.owed += n
	w.s.offer(w.st, n, datapath.Forwarded)
	if w.s.backlog.Add(int64(n)) > int64(w.st.track.relay.cfg.MaxBacklog) {
		w.cancel(errBehind)
	}
}

// finish is the sender's end.
func (w *sender) finish() {
	w.st.mu.Lock()
	w.st.senders = slices.DeleteFunc(w.st.senders, func(o *sender) bool { return o == w })
	w.s.backlog.Add(int64(w.paid - w.owed))
	if w.expiry != nil {
		w.expiry.Stop()
	}
	w.due = nil
	w.st.mu.Unlock()
	w.cancel(nil)
	w.s.waiting.Add(-1)
	w.s.senders.Done()
}

func (w *sender) run() {
	defer w.finish()
	if w.out == nil {
		select {
		case <-w.s.accepted:
		case <-w.ctx.Done():
			w.lose(context.Cause(w.ctx))
			return
		}
	}
	cfg := &w.st.track.relay.cfg
	prefix, err := w.prefix()
	if err != nil {
		w.lose(err)
		if w.out != nil {
			w.s.opened.Add(1)
			w.out.CancelWrite(codeInternal)
		}
		return
	}
	if w.out == nil {
		opening, cancel := context.WithTimeoutCause(w.ctx, cfg.WriteTimeout, errBehind)
		w.out, err = w.s.peer.session.OpenDataStream(opening)
		if err != nil {
			w.lose(context.Cause(opening))
		}
		cancel()
		if err != nil {
			return
		}
	}
	w.s.opened.Add(1)
	w.s.slow.Add(1)
	w.s.peer.prioritize(w.out, w.st.header.Priority)
	stop := context.AfterFunc(w.ctx, func() {
		w.out.CancelWrite(quic.StreamErrorCode(resetCode(context.Cause(w.ctx))))
		w.st.mu.Lock() // so that next is either before its check or in its wait
		w.st.grown.Broadcast()
		w.st.mu.Unlock()
	})
	err = w.copy(prefix)
	if !stop() && err == nil {
		err = context.Cause(w.ctx)
	}
	if err == nil {
		err = w.out.Close()
	}
	if err != nil {
		w.out.CancelWrite(quic.StreamErrorCode(resetCode(err)))
		w.lose(err)
		return
	}
	w.s.ledger.delivered(w.st.header.Priority)
}

// lose counts a stream that did not arrive whole.
func (w *sender) lose(err error) {
	why, counted := w.loss(err)
	if w.out == nil {
		w.s.ledger.dropped(w.st.header.Priority, why)
	} else {
		w.s.ledger.reset(w.st.header.Priority, why)
	}
	if cause := context.Cause(w.ctx); w.s.ctx.Err() != nil || errors.Is(cause, errUnwanted) {
		return // the subscriber has left, or does not want it any more: nothing is lost
	}
	w.s.lost.Add(1)
	if counted {
		w.st.track.relay.counts.add(why, 1)
	}
}

// loss names why a stream did not arrive whole, and says whether that is among the relay's reasons.
func (w *sender) loss(err error) (why string, counted bool) {
	cause := context.Cause(w.ctx)
	var remote *quic.StreamError
	var reset resetError
	switch {
	case errors.Is(cause, errExpired):
		return "delivery_timeout", true
	case errors.Is(err, errBehind) || errors.Is(cause, errBehind):
		return "too_far_behind", true
	case errors.As(err, &remote) && remote.Remote:
		return "subscriber_stopped", true
	case errors.Is(err, errMalformedExtensions):
		return "malformed_extensions", true
	case errors.As(err, &reset):
		return "publisher_reset", false // counted where it was read
	case errors.Is(cause, errUnwanted), errors.Is(cause, errLeft):
		return "unwanted", false
	}
	return "connection_closed", false
}

// resetError says that the publisher's stream ended without FIN.
type resetError struct{ code uint64 }

func (resetError) Error() string { return "publisher's stream was reset" }

func resetCode(err error) uint64 {
	var reset resetError
	switch {
	case errors.As(err, &reset):
		return reset.code
	case errors.Is(err, errLeft):
		return codeCancelled
	case errors.Is(err, errUnwanted):
		return codeCancelled
	case errors.Is(err, errBehind), errors.Is(err, errExpired):
		return codeDeliveryTimeout
	}
	return codeInternal
}

// prefix returns what precedes the bytes that are copied.
func (w *sender) prefix() ([]byte, error) {
	st := w.st
	if w.first == nil {
		return wire.RewriteAlias(nil, st.head, &st.header, w.s.alias), nil
	}
	h := st.header
	h.TrackAlias = w.s.alias
	if h.SubgroupMode == wire.SubgroupFirstObject {
		// The first object of this stream may not be that of the publisher's.
		h.SubgroupMode, h.Subgroup = wire.SubgroupExplicit, w.subgroup
	}
	if w.transcoder != nil {
		h.DefaultPriority = false // the track's default is said differently or not at all
		return w.transcoder.object(h.Append(nil, w.transcoder.to), &h, w.first)
	}
	b := h.Append(nil, w.s.peer.draft)
	return wire.AppendObjectHeader(b, w.s.peer.draft, h.Extensions, w.first.ID, w.first.Extensions, w.first.PayloadLen, w.first.Status), nil
}

// copy sends the prefix and then the stream's bytes, until the stream's end.
func (w *sender) copy(prefix []byte) error {
	if err := w.write(prefix); err != nil {
		return err
	}
	if w.transcoder != nil {
		w.transcoder.start(&w.st.header, w.objects, w.first)
	}
	for {
		b, err := w.st.next(w)
		if err != nil || b == nil {
			return err
		}
		if w.transcoder != nil {
			err = w.transcoder.copy(w.write, b)
		} else {
			err = w.write(b)
		}
		if err != nil {
			return err
		}
		w.st.mu.Lock()
		w.paid += len(b)
		w.passed += uint64(len(b))
		w.s.backlog.Add(-int64(len(b)))
		w.st.mu.Unlock()
	}
}

func (w *sender) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_ = w.out.SetWriteDeadline(time.Now().Add(w.st.track.relay.cfg.WriteTimeout))
	n, err := w.out.Write(b)
	w.s.bytes.Add(uint64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) { // not the idle timeout of the connection
		return errBehind
	}
	return err
}

// next returns the next bytes for a sender, nil at the stream's end, and an error if that was no FIN or the sender is to stop.
func (st *stream) next(w *sender) ([]byte, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for {
		if err := context.Cause(w.ctx); err != nil {
			return nil, err
		}
		c := w.at.chunk
		switch {
		case st.err != nil:
			return nil, resetError{st.code} // at once: what is left is of no use
		case w.at.off < c.n:
			b := c.data[w.at.off:c.n:c.n]
			w.at.off = c.n
			return b, nil
		case c.next != nil:
			w.at = cursor{c.next, 0}
		case st.finished:
			return nil, nil
		default:
			st.grown.Wait()
		}
	}
}
