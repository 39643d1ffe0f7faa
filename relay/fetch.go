package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/internal/cache"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// codeUnknownObject resets the stream of a FETCH (draft-16, section "Closing Subgroup Streams").
const codeUnknownObject = 0x4

var errUnknownObject = errors.New("next object of the range is not known")

// fetch answers a FETCH: from the cache if that has the whole range, otherwise by a FETCH to the publisher.
func (r *Relay) fetch(p *peer, req *moq.FetchRequest) {
	refuse := func(code uint64, reason string) { _ = req.Reject(code, reason) }
	limit := req.End.Limit()
	if !req.Start.Less(limit) {
		refuse(moq.FetchInvalidRange, "the range ends before it starts")
		return
	}
	if err := r.admit(p, req.Namespace, req.Track, req.Context().Done()); err != nil {
		refuse(err.Code, err.Reason)
		return
	}
	t := r.enter(req.Namespace, req.Track)
	if t == nil {
		refuse(moq.FetchTrackDoesNotExist, fmt.Sprintf("track does not exist: nobody publishes namespace %q", strings.Join(req.Namespace, "/")))
		return
	}
	defer t.exit()
	if err := t.await(req.Context().Done()); err != nil {
		code, reason := t.refusal(err)
		refuse(code, reason)
		return
	}
	t.mu.Lock()
	content, largest := t.content, t.largest
	t.mu.Unlock()
	if !content || largest.Less(req.Start) {
		refuse(moq.FetchInvalidRange, "no object of the range has been published")
		return
	}
	s := &fetchSender{p: p, req: req, t: t, order: req.Order, end: req.End}
	if s.order == wire.OrderPublisher {
		s.order = wire.OrderAscending
	}
	if beyond := (moq.Location{Group: largest.Group, Object: largest.Object + 1}); beyond.Less(limit) {
		s.end, limit = beyond, beyond
	}
	var err error
	if t.cache != nil && !cache.Location(req.Start).Less(t.cache.Known(time.Now())) {
		r.counts.add("fetch_from_cache", 1)
		err = s.fromCache(limit)
	} else {
		r.counts.add("fetch_from_publisher", 1)
		err = s.fromPublisher()
	}
	s.finish(err)
}

// fetchSender sends the objects of one FETCH.
type fetchSender struct {
	p     *peer
	req   *moq.FetchRequest
	t     *track
	order uint8
	end   moq.Location // for FETCH_OK

	out    *quic.SendStream
	writer wire.FetchWriter
	buf    []byte
}

// open sends FETCH_OK and opens the stream.
func (s *fetchSender) open(endOfTrack bool) (err error) {
	if err = s.req.Accept(s.order, s.end, endOfTrack, s.t.extensionsFor(s.p.draft)); err != nil {
		return err
	}
	if s.out, s.writer, err = s.req.Open(); err != nil {
		return err
	}
	s.p.prioritize(s.out, s.req.Priority)
	return nil
}

func (s *fetchSender) fromCache(limit moq.Location) error {
	start := s.req.Start
	if first, ok := s.t.cache.Next(time.Now(), cache.Location(start), cache.Location(limit)); ok && first == nil && s.p.draft == wire.Draft14 {
		return s.req.Reject(moq.FetchNoObjects, "no objects exist in the range")
	}
	if err := s.open(false); err != nil {
		return err
	}
	stop := context.AfterFunc(s.req.Context(), func() { s.out.CancelWrite(codeCancelled) })
	defer stop()
	if s.order == wire.OrderAscending {
		return s.cacheRange(start, limit)
	}
	for group := limit.Group + 1; ; {
		var ok bool
		if group, ok = s.t.cache.GroupBefore(group); !ok || group < start.Group {
			return nil
		}
		from, to := moq.Location{Group: group}, moq.Location{Group: group + 1}
		if from.Less(start) {
			from = start
		}
		if limit.Less(to) {
			to = limit
		}
		if err := s.cacheRange(from, to); err != nil {
			return err
		}
	}
}

// fromPublisher asks the publisher and passes on what it sends.
func (s *fetchSender) fromPublisher() error {
	cfg := &s.t.relay.cfg
	session, from := s.t.publisher.session, s.t.publisher.draft
	ctx, cancel := context.WithTimeout(s.req.Context(), cfg.SetupTimeout)
	f, err := session.Fetch(ctx, s.t.namespace, s.t.name, moq.FetchOptions{
		Priority: s.req.Priority, PrioritySet: true, Order: s.order, Start: s.req.Start, End: s.req.End,
	})
	cancel()
	if err != nil {
		code, reason := s.t.refusal(err)
		return s.req.Reject(code, reason)
	}
	defer func() { _ = f.Close() }()
	f.Patience = cfg.SetupTimeout
	if f.End != (moq.Location{}) || s.end.Group == 0 { // moqtransport's says {0, 0} whatever it sends
		s.end = f.End
	}
	if err := s.open(f.EndOfTrack); err != nil {
		return err
	}
	stop := context.AfterFunc(s.req.Context(), func() {
		s.out.CancelWrite(codeCancelled)
		_ = f.Close()
	})
	defer stop()
	opening, cancel := context.WithTimeout(s.req.Context(), cfg.SetupTimeout)
	defer cancel()
	buf := make([]byte, laterChunk)
	for {
		o, err := f.Next(opening)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case !transcodeFetchObject(&o, from, s.p.draft):
			return errMalformedExtensions
		case o.Status != wire.StatusNormal && !s.req.SendsStatus():
			continue
		}
		if err := s.header(&o); err != nil {
			return err
		}
		for left := o.PayloadLen; left > 0; {
			n, err := f.Read(buf)
			if err != nil && n == 0 {
				return err
			}
			if err := s.write(buf[:n]); err != nil {
				return err
			}
			left -= uint64(n)
		}
	}
}

func (s *fetchSender) header(o *wire.FetchObject) error {
	s.buf = s.writer.AppendHeader(s.buf[:0], o)
	return s.write(s.buf)
}

func (s *fetchSender) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_ = s.out.SetWriteDeadline(time.Now().Add(s.t.relay.cfg.WriteTimeout))
	_, err := s.out.Write(b)
	return err
}

// finish ends the stream.
func (s *fetchSender) finish(err error) {
	if s.out == nil {
		return
	}
	if err == nil {
		err = s.out.Close()
	}
	if err == nil {
		return
	}
	code := quic.StreamErrorCode(codeInternal)
	var reset *quic.StreamError
	switch {
	case s.req.Context().Err() != nil:
		code = codeCancelled
	case errors.Is(err, errUnknownObject), errors.Is(err, errIncomplete):
		code = codeUnknownObject
	case errors.As(err, &reset) && reset.Remote:
		code = reset.ErrorCode
	}
	s.out.CancelWrite(code)
	s.t.relay.counts.add("fetch_reset", 1)
	s.t.log.Debug("fetch not finished", "error", err)
}
