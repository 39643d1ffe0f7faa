package delay

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Input is what Analyze computes from.
type Input struct {
	Publisher  []capture.Packet // both directions, at the publisher's interface, from before it connects
	Subscriber []capture.Packet // both directions, at the subscribers' interface, from before they connect
	Draft      wire.Draft       // of MoQ, on all connections
	KeyLog     []byte           // of all TLS clients or servers, lines as crypto/tls writes them
	Null       bool             // packets of 1-RTT are in the clear on all connections, KeyLog is not needed
}

// Analyze computes the delays of the bytes of all data streams of tracks. An error says that the input is not what it should be; that
// something of it could not be read is told by Result.Err.
func Analyze(in *Input) (*Result, error) {
	if in.Draft != wire.Draft14 && in.Draft != wire.Draft16 {
		return nil, fmt.Errorf("delay analysis: %w: %v", wire.ErrDraft, in.Draft)
	}
	keyLog, err := parseKeyLog(in.KeyLog)
	if err != nil {
		return nil, fmt.Errorf("delay analysis: %w", err)
	}
	pub, sub := newReader(in, outgoing, keyLog), newReader(in, incoming, keyLog)
	pub.read(in.Publisher)
	sub.read(in.Subscriber)

	source := make(map[streamKey]coverage)
	for _, c := range pub.conns {
		for key, cov := range pub.resolve(c) {
			if before, ok := source[key]; ok {
				cov = merge(before, cov)
			}
			source[key] = cov
		}
	}
	res := &Result{}
	tracks := make(map[string][]published)
	for key, cov := range source {
		first := cov.first()
		tracks[key.track] = append(tracks[key.track], published{key, first})
		if res.Start.IsZero() || first.Before(res.Start) {
			res.Start = first
		}
	}
	var points [][]Point
	for _, c := range sub.conns {
		m := matcher{start: res.Start, out: Subscriber{Name: c.local.String()}}
		streams := sub.resolve(c)
		for key, cov := range streams {
			m.match(source[key], cov)
		}
		m.out.Missing += m.absent(c, streams, source, tracks)
		slices.SortFunc(m.out.Points, func(a, b Point) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Delay, b.Delay), cmp.Compare(a.Bytes, b.Bytes))
		})
		m.out.Delay = Distribute(m.out.Points)
		points = append(points, m.out.Points)
		res.Subscribers = append(res.Subscribers, m.out)
	}
	res.Total = Distribute(points...)
	res.Publisher, res.Subscriber = pub.out, sub.out
	return res, nil
}

// published is a stream of the publisher and when its first byte left.
type published struct {
	key   streamKey
	first time.Time
}

// matcher computes the delays of one subscriber.
type matcher struct {
	start time.Time
	out   Subscriber
}

// match compares a stream of the publisher with the same stream of the subscriber.
func (m *matcher) match(pub, sub coverage) {
	i := 0
	matched := uint64(0)
	for _, s := range sub {
		for len(s.data) > 0 {
			for i < len(pub) && pub[i].end() <= s.start {
				i++
			}
			if i == len(pub) || pub[i].start >= s.end() {
				m.out.Unmatched += uint64(len(s.data))
				break
			}
			p := pub[i]
			if s.start < p.start {
				m.out.Unmatched += p.start - s.start
				s.data = s.data[p.start-s.start:]
				s.start = p.start
			}
			n := min(p.end(), s.end()) - s.start
			matched += n
			if !bytes.Equal(s.data[:n], p.data[s.start-p.start:][:n]) {
				m.out.Different += n
				m.out.Unmatched += n
			} else {
				m.out.Points = append(m.out.Points, Point{p.time.Sub(m.start), s.time.Sub(p.time), n})
			}
			s.data = s.data[n:]
			s.start += n
		}
	}
	m.out.Missing += pub.bytes() - matched
}

// absent counts the bytes of streams that the subscriber should have got and of which it got nothing: of each track that
// it subscribed to, those that started at the publisher later than the first one that it got, or, if it got none, later than its
// subscription was accepted. Streams that started after the connection was closed are not expected.
func (m *matcher) absent(c *conn, got, source map[streamKey]coverage, tracks map[string][]published) uint64 {
	since := make(map[string]time.Time)
	for _, a := range c.accepted {
		if track, ok := c.requests[a.request]; ok && since[track].IsZero() {
			since[track] = a.time
		}
	}
	sum := uint64(0)
	for track, accepted := range since {
		var from time.Time
		for _, p := range tracks[track] {
			if _, ok := got[p.key]; ok && (from.IsZero() || p.first.Before(from)) {
				from = p.first
			}
		}
		if from.IsZero() {
			from = accepted
		}
		for _, p := range tracks[track] {
			_, ok := got[p.key]
			if !ok && !p.first.Before(from) && (c.closed.IsZero() || !p.first.After(c.closed)) {
				sum += source[p.key].bytes()
			}
		}
	}
	return sum
}
