package endpoint

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/wire"
)

func (s *subscriber) acceptStreams() {
	for {
		stream, err := s.session.AcceptDataStream(s.reading)
		if err != nil {
			return // the connection's end is seen elsewhere
		}
		s.readers.Go(func() { s.readStream(stream) })
	}
}

// readStream reads one stream to its end. A stream that comes before the answer to its SUBSCRIBE waits for it.
func (s *subscriber) readStream(stream *quic.ReceiveStream) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.reading.Done():
			stream.CancelRead(codeCancelled)
		case <-done:
		}
	}()
	r, err := newSubgroupReader(stream, s.conn.draft)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		var reset *quic.StreamError
		switch {
		case s.reading.Err() != nil:
		case errors.As(err, &reset) && reset.Remote:
			s.received.UnknownReset++
			s.notify()
		default:
			s.received.violation(fmt.Sprintf("stream %d: %v", stream.StreamID(), err))
		}
		return
	}
	t := s.track(r.Header.TrackAlias)
	if t == nil {
		if s.reading.Err() == nil {
			s.mu.Lock()
			s.received.violation(fmt.Sprintf("stream %d is of the unknown track alias %d", stream.StreamID(), r.Header.TrackAlias))
			s.mu.Unlock()
		}
		stream.CancelRead(codeCancelled)
		return
	}
	err = s.readObjects(r, t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received.WireBytes += r.read
	if s.reading.Err() != nil {
		return
	}
	var reset *quic.StreamError
	switch {
	case errors.Is(err, io.EOF):
	case errors.As(err, &reset) && reset.Remote:
		subgroup, _ := r.Subgroup()
		s.received.Resets = append(s.received.Resets, Reset{
			Track: t.name, Group: r.Header.Group, Subgroup: subgroup, Code: uint64(reset.ErrorCode),
		})
	default:
		s.received.violation(fmt.Sprintf("stream %d of %s, group %d: %v", stream.StreamID(), t.name, r.Header.Group, err))
		stream.CancelRead(codeCancelled)
	}
	t.streams++
	s.notify()
}

// track waits until the alias is known. It returns nil if it never will be.
func (s *subscriber) track(alias uint64) *subscribed {
	for {
		s.mu.Lock()
		t, changed, closed := s.tracks[alias], s.changed, s.closed
		s.mu.Unlock()
		if t != nil || closed {
			return t
		}
		select {
		case <-changed:
		case <-s.reading.Done():
			return nil
		}
	}
}

func (s *subscriber) readObjects(r *subgroupReader, t *subscribed) error {
	for {
		o, payload, err := r.Next()
		if err != nil {
			return err
		}
		if o.Status != wire.StatusNormal {
			continue
		}
		subgroup, _ := r.Subgroup()
		priority := r.Header.Priority
		if r.Header.DefaultPriority {
			priority = t.sub.DefaultPriority
		}
		s.add(Object{
			Track: t.name, Group: r.Header.Group, Subgroup: subgroup, ID: o.ID, Priority: priority, Time: time.Now(),
		}, payload)
	}
}

// add takes in an object.
func (s *subscriber) add(o Object, payload []byte) {
	o.Bytes, o.SHA256 = len(payload), hashOf(payload)
	if o.Track == media.CatalogName {
		select {
		case s.catalog <- payload:
		default:
		}
	}
	s.mu.Lock()
	s.received.Objects = append(s.received.Objects, o)
	s.received.Bytes += uint64(o.Bytes)
	w := s.writer
	s.mu.Unlock()
	if w != nil && o.Track != media.CatalogName {
		if err := w.Add(o.Track, o.Group, o.ID, payload); err != nil {
			s.mu.Lock()
			if errors.Is(err, media.ErrBadObject) {
				s.received.violation(err.Error())
			} else if s.writeErr == nil {
				s.writeErr = fmt.Errorf("cannot write %s: %w", s.cfg.File, err)
			}
			s.mu.Unlock()
		}
	}
	if s.cfg.OnObject != nil {
		s.cfg.OnObject(&o)
	}
}

// maxEarly bounds the datagrams that wait for their alias.
const maxEarly = 256

func (s *subscriber) readDatagrams() {
	for {
		d, err := s.session.ReceiveDatagram(s.reading)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.datagram(d)
		s.mu.Unlock()
	}
}

// datagram takes in a datagram, or keeps it until its alias is known. The caller holds mu, which is released meanwhile.
func (s *subscriber) datagram(b []byte) {
	d, err := wire.ParseObjectDatagram(b, s.conn.draft)
	if err != nil {
		s.received.violation(fmt.Sprintf("datagram: %v", err))
		return
	}
	t := s.tracks[d.TrackAlias]
	switch {
	case t == nil && !s.closed && len(s.early) < maxEarly:
		s.early = append(s.early, slices.Clone(b))
		return
	case t == nil:
		s.received.violation(fmt.Sprintf("datagram of the unknown track alias %d", d.TrackAlias))
		return
	case d.HasStatus:
		return
	}
	s.received.WireBytes += uint64(len(b))
	priority := d.Priority
	if d.DefaultPriority {
		priority = t.sub.DefaultPriority
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	s.add(Object{
		Track: t.name, Group: d.Group, ID: d.ObjectID, Priority: priority, Datagram: true, Time: time.Now(),
	}, slices.Clone(d.Payload))
}
