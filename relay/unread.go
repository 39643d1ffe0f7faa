package relay

import (
	"errors"
	"maps"
	"slices"

	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// What the datapath forwards the start of, and userspace never reads. QUIC gives out nothing of a stream once it is reset, a publisher's
// connection may end before its streams are read, and a subscriber may leave first. The subscriber has seen the stream all the same: it gets
// the stream's end, and PUBLISH_DONE and the tallies count it.

// endUnread ends a stream whose header was not read because of err.
func (p *peer) endUnread(id uint64, err error) {
	var reset *quic.StreamError
	if p.known.Load() && errors.As(err, &reset) && reset.Remote { // if the connection has ended, the tracks end what is left
		p.settle(id, false)
		if !p.passReset(id, uint64(reset.ErrorCode)) {
			p.settle(id, true) // its start may have been overtaken, and must not be opened when it comes
			p.passReset(id, uint64(reset.ErrorCode))
		}
	}
	p.unread(id)
}

// passReset resets a stream for all to whom the datapath has forwarded its start. It returns false if there are none.
func (p *peer) passReset(id, code uint64) bool {
	p.mu.Lock()
	tracks := slices.Collect(maps.Values(p.aliases))
	p.mu.Unlock()
	return slices.ContainsFunc(tracks, func(t *track) bool { return t.bound.Load() && t.passReset(id, code) })
}

func (t *track) passReset(id, code uint64) bool {
	t.mu.Lock()
	var fast []fastSender
	for _, s := range t.subs {
		if !s.bound {
			continue
		}
		if of, ok := s.peer.fast.Opened(t.upstream, id); ok && of == t.id {
			if fs := s.peer.fast.FastStream(t.upstream, id); fs != nil {
				fast = append(fast, fastSender{s: s, fs: fs})
			}
		}
	}
	if len(fast) == 0 {
		t.mu.Unlock()
		return false
	}
	t.seen++
	t.signal()
	t.mu.Unlock()
	t.relay.counts.add("publisher_reset", 1)
	for _, f := range fast {
		f.s.resetUnread(f.fs, code)
	}
	return true
}

// endUnclaimed ends what is left of a track that has been taken out of the datapath.
func (t *track) endUnclaimed() {
	code := uint64(codeCancelled)
	if t.publisher.conn.Context().Err() != nil {
		code = codeInternal // as those that are being read
	}
	t.mu.Lock()
	subs := slices.Clone(t.subs)
	t.mu.Unlock()
	for _, s := range subs {
		s.endUnclaimed(code)
	}
}

// endUnclaimed ends what is left of a subscription that the datapath does not serve any more.
func (s *subscriber) endUnclaimed(code uint64) {
	t := s.track
	t.mu.Lock()
	bound := s.bound
	t.mu.Unlock()
	if !bound {
		return
	}
	for _, fs := range s.peer.fast.Unclaimed(t.upstream, t.id) {
		s.resetUnread(fs, code)
	}
}

// resetUnread ends a stream that only the datapath has read.
func (s *subscriber) resetUnread(fs *quicadapt.FastStream, code uint64) {
	st := &stream{track: s.track}
	st.grown.L = &st.mu
	st.header.Group, st.header.Priority = fs.Header()
	s.track.mu.Lock()
	st.addFast(s, fs)
	s.track.mu.Unlock()
	cancelFast(st.unwanted)
	st.finish(resetError{code}, code)
}

// unread ends a stream that no track has read: the datapath may have read its header, and have an entry for it.
func (p *peer) unread(stream uint64) {
	if p.known.Load() {
		p.evictLater(p.upstream, stream)
	}
}

// settle makes it known who has a stream; see fastConn.
func (p *peer) settle(stream uint64, evict bool) {
	if err := p.fast.Settle(stream, evict); err != nil {
		p.relay.counts.add("evict_failed", 1)
		p.log.Debug("eviction failed", "error", err)
	}
}
