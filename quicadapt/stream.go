package quicadapt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Errors of a FastStream's methods.
var (
	// ErrStopped says that the subscriber sent STOP_SENDING.
	ErrStopped = errors.New("subscriber stopped the stream")
	// ErrStreamClosed says that the stream was closed or reset before, or its connection has ended.
	ErrStreamClosed = errors.New("stream is closed")
	// ErrDropped says that the client's policy has dropped the stream. Close ends what is kept for it.
	ErrDropped = errors.New("policy dropped the stream")
	// ErrBehind says that the subscriber acknowledges too slowly: more than Config.MaxUnacked bytes wait for it.
	ErrBehind = errors.New("subscriber is too far behind")
)

// FastStream is the sender of a stream that the datapath opened for a client. Whoever holds it writes the whole stream to it,
// as to any other: it sends only what the datapath did not, and again what is lost. Its methods never block and may be
// called from any goroutine.
type FastStream struct {
	c        *conn
	id       uint64
	upstream datapath.UpstreamID
	track    datapath.TrackID
	source   uint64 // upstream stream ID
	group    uint64
	slot     uint8
	priority uint8  // of the publisher, lower is more important
	order    uint64 // in which streams were opened
	opened   int64  // when

	// Guarded by c.mu.
	rank     uint16 // importance of the subscription's priority and the publisher's
	sent     ranges // in flight or acknowledged, sent by anybody
	acked    ranges
	ever     ranges   // sent at least once
	chunks   [][]byte // bytes [base, end) that were written and may be needed
	base     uint64
	end      uint64
	fin      bool // Close was called: end is the final size
	finSent  bool
	finAcked bool
	finOurs  bool // the datapath was kept from sending any more, before the FIN was sent here
	reset    bool // RESET_STREAM instead of data
	stopped  bool // by STOP_SENDING
	code     uint64
	final    uint64 // final size with reset
	resetOut bool   // RESET_STREAM is in flight or acknowledged
	queued   bool   // in c.need
	urgent   bool   // there before those that have lost nothing
	done     bool
	lost     []lostSpan      // lost and not sent again yet
	due      []due           // of objects that have deadlines and are not all acknowledged
	late     uint64          // the code of the reset when one of them waits for longer
	dropped  datapath.Reason // by the policy; Forwarded: it was not
	unborn   bool            // dropped at its first byte: the client knows nothing of it
	onEnd    func(Outcome)
}

// lostSpan is a span that was lost, of a packet that was sent at a time.
type lostSpan struct {
	span
	sent int64
}

// due is until when bytes up to an offset, from those of the one before it on, are of use.
type due struct {
	end uint64
	at  int64
}

// maxLostSpans bounds what is remembered for statistics.
const maxLostSpans = 64

// StreamID returns the stream's ID on the client's connection.
func (s *FastStream) StreamID() uint64 { return s.id }

// Header returns what the datapath has read of the publisher's stream: its group, and its priority.
func (s *FastStream) Header() (group uint64, priority uint8) { return s.group, s.priority }

// Write appends p to the stream. It keeps p, which must not change afterwards. It does not wait for the subscriber;
// an error says that the stream cannot go on, with nothing of p taken.
func (s *FastStream) Write(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	if err := s.writable(len(p)); err != nil {
		c.mu.Unlock()
		return 0, err
	}
	if len(p) > 0 {
		s.chunks = append(s.chunks, p)
		s.end += uint64(len(p))
		c.unacked += len(p)
		s.release()
		s.schedule()
	}
	c.unlockAndSend()
	return len(p), nil
}

func (s *FastStream) writable(n int) error {
	switch {
	case s.dropped != datapath.Forwarded:
		return ErrDropped
	case s.stopped:
		return ErrStopped
	case s.done || s.reset || s.fin || s.c.closed:
		return ErrStreamClosed
	case s.c.unacked+n > s.c.b.cfg.MaxUnacked:
		return fmt.Errorf("%w: %d bytes are not acknowledged", ErrBehind, s.c.unacked)
	}
	return nil
}

// Close ends the stream after what was written.
func (s *FastStream) Close() error {
	c := s.c
	c.mu.Lock()
	if s.unborn {
		s.finish()
		c.mu.Unlock()
		return nil
	}
	if err := s.writable(0); err != nil && !errors.Is(err, ErrBehind) {
		c.mu.Unlock()
		return err
	}
	s.fin = true
	s.schedule()
	s.checkDone()
	c.unlockAndSend()
	return nil
}

// Reset ends the stream at once with RESET_STREAM and an application error code.
func (s *FastStream) Reset(code uint64) error {
	s.c.mu.Lock()
	s.resetLocked(code)
	s.c.unlockAndSend()
	return nil
}

func (s *FastStream) resetLocked(code uint64) {
	if s.done || s.reset || s.c.closed {
		return
	}
	if s.unborn {
		s.finish()
		return
	}
	s.reset, s.code = true, code
	s.decided() // nothing that the client says now changes it
	s.final = s.c.space.CloseStream(s.slot)
	s.dropChunks()
	s.schedule()
}

// schedule puts the stream in its place in the queue of those that have something to send. A stream of which an object waits that is past its deadline
// is reset instead. The caller holds c.mu.
func (s *FastStream) schedule() {
	c := s.c
	if at := s.dueAt(); at > 0 {
		if at <= c.b.now() {
			s.resetLocked(s.late) // comes back here
			return
		}
		c.expireBy(at)
	}
	urgent := len(s.lost) > 0
	if s.queued && s.urgent == urgent || s.done || !s.needs() {
		return
	}
	if s.queued {
		c.need = slices.DeleteFunc(c.need, func(o *FastStream) bool { return o == s })
	}
	s.queued, s.urgent = true, urgent
	i, _ := slices.BinarySearchFunc(c.need, s, func(a, b *FastStream) int {
		return a.compare(b)
	})
	c.need = slices.Insert(c.need, i, s)
}

// compare orders streams that have something to send: those that have lost something, for which the subscriber waits, then the
// more important, then the older.
func (s *FastStream) compare(o *FastStream) int {
	late := 0
	if s.urgent != o.urgent {
		late = 1
		if s.urgent {
			late = -1
		}
	}
	return cmp.Or(late, cmp.Compare(s.rank, o.rank), cmp.Compare(s.order, o.order))
}

// SetDeadline says until when an object is of use to the subscriber, as MoQ's delivery timeout does: what is written from now on, as far as ahead bytes, and what
// was written since the object before it. While something of it is still to be sent then, for the first time or again, the
// stream is reset with an application error code. The oldest object that waits counts.
func (s *FastStream) SetDeadline(ahead uint64, at time.Time, code uint64) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.done || s.reset || s.dropped != datapath.Forwarded {
		return
	}
	d := due{s.end + ahead, max(int64(at.Sub(c.b.start)), 1)}
	s.late = code
	if n := len(s.due); n > 0 && d.at >= s.due[n-1].at && d.at < s.due[n-1].at+deadlineUnit {
		s.due[n-1].end = d.end
		return
	}
	s.due = append(s.due, d)
}

// deadlineUnit is by how much deadlines of successive objects differ at least, in nanoseconds: of many small ones, one is enough.
const deadlineUnit = 1e6

// dueAt returns when the oldest object of which something is to be sent stops being of use, 0 for never. The caller holds c.mu.
func (s *FastStream) dueAt() int64 {
	if len(s.due) == 0 || s.done || s.reset {
		return 0
	}
	gap, waits := s.sent.gap(s.end)
	if !waits {
		return 0
	}
	i, _ := slices.BinarySearchFunc(s.due, gap.lo+1, func(d due, offset uint64) int { return cmp.Compare(d.end, offset) })
	if i == len(s.due) {
		return 0
	}
	return s.due[i].at
}

// expireBy has expire look when a time has come. The caller holds mu.
func (c *conn) expireBy(at int64) {
	if c.expiry == 0 || at < c.expiry {
		c.expiry = at
	}
}

// expire resets the streams of which something waits that is past its deadline. The caller holds mu.
func (c *conn) expire(now int64) {
	if c.expiry == 0 || now < c.expiry {
		return
	}
	c.expiry = 0
	for _, s := range c.streams {
		switch at := s.dueAt(); {
		case at == 0:
		case at > now:
			c.expireBy(at)
		default:
			s.resetLocked(s.late)
		}
	}
}

func (s *FastStream) needs() bool {
	if s.reset {
		return !s.resetOut
	}
	if _, ok := s.sent.gap(s.end); ok {
		return true
	}
	return s.fin && !s.finSent
}

// covered notes that [lo, hi) is in flight, and the stream's end with fin. It returns how many of the bytes were never
// sent before.
func (s *FastStream) covered(lo, hi uint64, fin bool) (first uint64) {
	s.sent.add(lo, hi)
	s.finSent = s.finSent || fin
	return s.ever.add(lo, hi)
}

// onAcked notes that a frame of the stream was acknowledged.
func (s *FastStream) onAcked(f *sentFrame) {
	if s.done {
		return
	}
	if f.reset {
		s.finish()
		return
	}
	s.acked.add(f.lo, f.hi)
	s.finAcked = s.finAcked || f.fin
	if !s.reset { // it may have been declared lost
		s.sent.add(f.lo, f.hi)
		s.finSent = s.finSent || f.fin
		s.lost = slices.DeleteFunc(s.lost, func(l lostSpan) bool { return f.lo <= l.lo && l.hi <= f.hi })
	}
	s.release()
	s.checkDone()
}

// onLost notes that a frame of the stream, which was sent at a time, is to be sent again.
func (s *FastStream) onLost(f *sentFrame, sent int64) {
	if s.done {
		return
	}
	if f.reset {
		s.resetOut = false
	} else {
		s.sent.remove(f.lo, f.hi)
		for _, a := range s.acked {
			s.sent.add(max(a.lo, min(f.lo, a.hi)), min(a.hi, max(f.hi, a.lo)))
		}
		if f.fin && !s.finAcked {
			s.finSent = false
		}
		if len(s.lost) < maxLostSpans && !s.reset {
			s.lost = append(s.lost, lostSpan{span{f.lo, f.hi}, sent})
		}
	}
	s.schedule()
}

// repaired notes that [lo, hi) is sent, and so what of it was lost before is sent again.
func (s *FastStream) repaired(lo, hi uint64, now int64) {
	s.lost = slices.DeleteFunc(s.lost, func(l lostSpan) bool {
		if overlap(l.span, lo, hi) == 0 && (l.lo != l.hi || l.lo < lo || l.lo > hi) {
			return false
		}
		delay := now - l.sent
		s.c.stats.RepairDelay.Add(uint64(delay / 1000))
		if rtt := s.c.loss.RTT.Smoothed; rtt > 0 {
			s.c.stats.RepairDelayRTT.Add(uint64(delay * 100 / rtt))
		}
		return true
	})
}

// release frees what was acknowledged from the start on.
func (s *FastStream) release() {
	upTo := s.acked.prefix()
	for len(s.chunks) > 0 && s.base+uint64(len(s.chunks[0])) <= upTo {
		n := len(s.chunks[0])
		s.chunks[0] = nil
		s.chunks = s.chunks[1:]
		s.base += uint64(n)
		s.c.unacked -= n
	}
	for len(s.due) > 0 && s.due[0].end <= upTo {
		s.due = s.due[1:]
	}
}

func (s *FastStream) dropChunks() {
	for _, b := range s.chunks {
		s.c.unacked -= len(b)
	}
	s.chunks, s.lost, s.due = nil, nil, nil
	s.base = s.end
}

func (s *FastStream) checkDone() {
	if s.fin && !s.reset && s.finAcked && s.acked.prefix() >= s.end {
		s.finish()
	}
}

// finish gives the stream's slot and reserved ID back. The caller holds c.mu.
func (s *FastStream) finish() {
	if s.done {
		return
	}
	s.done = true
	s.decided()
	if !s.unborn {
		s.c.space.CloseStream(s.slot)
	}
	s.dropChunks()
	s.c.finished = append(s.c.finished, s)
}

// appendData appends bytes [lo, hi) of the stream, which were written and not released.
func (s *FastStream) appendData(b []byte, lo, hi uint64) []byte {
	at := s.base
	for _, c := range s.chunks {
		next := at + uint64(len(c))
		if next > lo && at < hi {
			b = append(b, c[max(lo, at)-at:min(hi, next)-at]...)
		}
		if next >= hi {
			break
		}
		at = next
	}
	return b
}
