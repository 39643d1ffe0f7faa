package endpoint

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// message is one object on its way to the subscriptions.
type message struct {
	event    *event
	location moq.Location
	payload  []byte
}

// publication is one subscription, seen from the publisher. Its methods but accepted are called by the player alone.
type publication struct {
	player  *player
	track   *media.Track
	request *moq.Request
	start   moq.Location // first object that it is due
	end     moq.Location // first object that it is not due any more
	ready   chan struct{}
	alias   uint64 // once ready
	err     error  // once ready
	streams atomic.Uint64
	open    map[subgroupKey]chan message // of streams that are being written

	datagrams chan message
	once      sync.Once
}

func newPublication(p *player, t *media.Track, r *moq.Request, largest *moq.Location) *publication {
	s := &publication{
		player: p, track: t, request: r, ready: make(chan struct{}), open: make(map[subgroupKey]chan message),
	}
	s.start, s.end = selected(r.Options(), largest)
	return s
}

// selected returns the first object that a filter selects, and the first that it does not select any more, when largest
// was the last to be published; nil if there was none. What is past is not sent again.
func selected(o moq.SubscribeOptions, largest *moq.Location) (start, end moq.Location) {
	end = moq.Location{Group: 1<<64 - 1}
	if largest != nil {
		start = moq.Location{Group: largest.Group, Object: largest.Object + 1}
		if o.Filter == moq.FilterNextGroup {
			start = moq.Location{Group: largest.Group + 1}
		}
	}
	absolute := o.Filter == moq.FilterAbsoluteStart || o.Filter == moq.FilterAbsoluteRange
	if absolute && start.Less(o.Start) {
		start = o.Start
	}
	if o.Filter == moq.FilterAbsoluteRange && o.EndGroup < 1<<64-1 {
		end = moq.Location{Group: o.EndGroup + 1}
	}
	return start, end
}

func (s *publication) accepted(alias uint64, err error) {
	s.alias, s.err = alias, err
	close(s.ready)
}

// send hands an object to its stream, which is opened if it is the first on it. It does not wait for the network, but for
// room if there are too many open streams.
func (s *publication) send(ctx context.Context, m message) (due, datagram bool, err error) {
	if s.request.Options().Paused || m.location.Less(s.start) || !m.location.Less(s.end) {
		return false, false, nil
	}
	o := m.event.object()
	if s.player.cfg.AudioDatagrams && s.track.Kind == media.KindAudio && len(m.payload) <= maxDatagramPayload {
		return true, true, s.sendDatagram(ctx, m)
	}
	k := subgroupKey{s.track.Name, m.location.Group, o.Subgroup}
	q := s.open[k]
	if q == nil {
		q = make(chan message, m.event.size)
		if !m.event.last {
			s.open[k] = q
		}
		select {
		case s.player.slots <- struct{}{}:
		case <-ctx.Done():
			return false, false, context.Cause(ctx)
		}
		// Opened here, so that stream IDs follow the order of the objects as long as the relay's limit allows.
		var stream *quic.SendStream
		select {
		case <-s.ready:
			stream, _ = s.player.conn.moq.OpenUniStream()
		default: // the answer is on its way; the stream is opened when it has gone
		}
		s.player.writers.Go(func() {
			defer func() { <-s.player.slots }()
			s.write(ctx, stream, q)
		})
	}
	q <- m // has room for all of its objects
	if m.event.last {
		delete(s.open, k)
		close(q)
	}
	return true, false, nil
}

// write sends the objects of one subgroup on a stream of their own.
func (s *publication) write(ctx context.Context, stream *quic.SendStream, q <-chan message) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return
	}
	if s.err != nil {
		return
	}
	if stream == nil {
		var err error
		if stream, err = s.player.session.OpenDataStream(ctx); err != nil {
			return
		}
	}
	s.streams.Add(1)
	stop := context.AfterFunc(ctx, func() { stream.CancelWrite(codeCancelled) }) // ends a blocked Write
	defer stop()
	var buf []byte
	var previous uint64
	first := true
	for {
		var m message
		var ok bool
		select {
		case m, ok = <-q:
		case <-s.request.Unsubscribed():
			stream.CancelWrite(codeCancelled)
			return
		case <-ctx.Done():
			stream.CancelWrite(codeCancelled)
			return
		}
		if !ok {
			_ = stream.Close() // fails if the stream was cancelled, which is said elsewhere
			return
		}
		o := m.event.object()
		buf = buf[:0]
		delta := m.location.Object
		if first {
			stream.SetPriority(urgency(o.Priority), false)
			if c := s.player.conn.adapted; c != nil {
				c.SetStreamPriority(stream.StreamID(), o.Priority)
			}
			h := wire.SubgroupHeader{
				TrackAlias: s.alias, Group: m.location.Group, Subgroup: o.Subgroup, SubgroupMode: wire.SubgroupExplicit, Priority: o.Priority,
			}
			buf = h.Append(buf, s.player.conn.draft)
		} else {
			delta -= previous + 1
		}
		first, previous = false, m.location.Object
		buf = wire.AppendObjectHeader(buf, s.player.conn.draft, false, delta, nil, uint64(len(m.payload)), wire.StatusNormal)
		buf = append(buf, m.payload...) // in one write, so that the header shares the first packet
		if _, err := stream.Write(buf); err != nil {
			s.player.cfg.Logger.Debug("stream ended", "track", s.track.Name, "group", m.location.Group, "err", err)
			return
		}
	}
}

// codeCancelled resets a stream whose subscription ended (draft-14, section "Closing Subgroup Streams": CANCELLED).
const codeCancelled = 0x1

// urgency maps MoQ's priorities, 0–255, to those of quic-go, 0–7. Lower is more important in both.
func urgency(priority uint8) int8 { return int8(priority >> 5) }

// maxDatagramPayload fits a datagram with its header into the smallest QUIC packet, 1200 bytes.
const maxDatagramPayload = 1100

func (s *publication) sendDatagram(ctx context.Context, m message) error {
	s.once.Do(func() {
		s.datagrams = make(chan message, 256)
		s.player.writers.Go(func() { s.writeDatagrams(ctx, s.datagrams) })
	})
	if s.datagrams == nil {
		return nil
	}
	select {
	case s.datagrams <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *publication) writeDatagrams(ctx context.Context, q <-chan message) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return
	}
	for {
		select {
		case m, ok := <-q:
			if !ok {
				return
			}
			if s.err != nil {
				continue
			}
			d := wire.ObjectDatagram{
				TrackAlias: s.alias, Group: m.location.Group, ObjectID: m.location.Object,
				Priority: m.event.object().Priority, Payload: m.payload,
			}
			b, send := d.Append(nil, s.player.conn.draft), s.player.session.SendDatagram
			if c := s.player.conn.adapted; c != nil {
				send = func(b []byte) error { return c.SendDatagramPriority(b, d.Priority) }
			}
			err := send(b)
			var large *quic.DatagramTooLargeError
			if errors.As(err, &large) {
				s.player.cfg.Logger.Warn("object is too large for a datagram of this path", "bytes", len(m.payload))
			}
		case <-ctx.Done():
			return
		}
	}
}

// gone reports whether the subscriber has left.
func (s *publication) gone() bool {
	select {
	case <-s.request.Unsubscribed():
		return true
	default:
		return false
	}
}

// finish ends what is still open. It may be called again.
func (s *publication) finish() {
	for k, q := range s.open {
		close(q)
		delete(s.open, k)
	}
	s.once.Do(func() {}) // none is started any more
	if s.datagrams != nil {
		close(s.datagrams)
		s.datagrams = nil
	}
}
