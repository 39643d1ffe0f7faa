package relay

import (
	"github.com/fastrelay/fastrelay/quicadapt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Stats is what a relay did since it was made, and what it does now.
type Stats struct {
	Sessions int          // now
	Tracks   []TrackStats // now, in order of their names
	// CacheBytes is what the cache holds now.
	CacheBytes int64
	// Reasons counts why something did not take the fast path, or was not delivered. With a datapath they begin with its
	// own (datapath.Reason), of which those that begin with drop_ count what the slow path dropped too; the relay's are
	//
	//	draft_mismatch          stream for a subscriber of another draft: transcoded
	//	late_join               stream that had begun when the subscriber joined
	//	not_taken               stream of a subscription that the datapath knows, which it did not open: its own reasons say why, if it saw it
	//	upstream_not_bound      publisher refused by the datapath; also track_, client_ and subscription_not_bound
	//	track_not_unbound       removal that failed; also subscription_not_unbound, evict_failed
	//	too_many_fast_streams   stream beyond Config.MaxFastStreams
	//	too_far_behind          stream that was reset because its subscriber was too slow
	//	delivery_timeout        stream that was reset, or datagram that was not sent, because its object was too old
	//	too_many_streams        stream that was not opened because its subscriber has too many
	//	subscriber_stopped      stream that the subscriber stopped
	//	publisher_reset         stream that the publisher reset
	//	malformed_extensions    object that could not be transcoded
	//	unknown_alias           stream or datagram of no track
	//	fetch_from_cache        FETCH that the cache had whole; fetch_from_publisher: it had to be passed on
	//	fetch_reset             FETCH whose stream was reset
	//	datagram_too_large      for the subscriber's path; also datagram_queue_full, datagram_too_early, datagram_not_sent
	Reasons map[string]uint64
	// Ended is what became of the media of subscriptions that ended, by the publisher's priority.
	Ended map[uint8]Tally `json:",omitempty"`
	// Upstream is about the connection to the upstream relay; nil without one.
	Upstream *UpstreamStats `json:",omitempty"`
	// Boundary has the sums over all connections so far; zero without a packet boundary.
	Boundary quicadapt.ConnStats
}

// TrackStats is about a track that is subscribed to upstream.
type TrackStats struct {
	Namespace                          []string
	Name                               string
	Streams, Objects, Bytes, Datagrams uint64 // from the publisher: Objects and Bytes (after headers of streams) of streams
	Subscribers                        []SubscriberStats
}

// SubscriberStats is about one subscription.
type SubscriberStats struct {
	Remote             string // address
	Alias              uint64
	FastStreams        uint64 // that the datapath opened
	SlowStreams        uint64
	Bytes              uint64 // handed to the senders of streams and datagrams
	Datagrams          uint64
	ForwardedDatagrams uint64 // of these, by the datapath
	Lost               uint64 // streams and datagrams that were not delivered whole
	// Media says what became of what the subscription selected, by the publisher's priority.
	Media map[uint8]Tally `json:",omitempty"`
}

// Stats returns the relay's counters.
func (r *Relay) Stats() Stats {
	s := Stats{Reasons: r.counts.snapshot()}
	if dp := r.cfg.Datapath; dp != nil {
		if c, err := dp.Counters(); err == nil {
			for why, n := range c.Map() {
				s.Reasons[why] += n // the slow path drops by the same policy
			}
		}
	}
	if r.ln.totals != nil {
		s.Boundary = r.ln.totals()
	}
	if r.cache != nil {
		s.CacheBytes = r.cache.Bytes()
	}
	s.Ended = r.endedMedia()
	r.mu.Lock()
	s.Sessions = len(r.peers)
	s.Upstream = r.up.snapshot()
	tracks := slices.Collect(maps.Values(r.tracks))
	r.mu.Unlock()
	slices.SortFunc(tracks, func(a, b *track) int { return strings.Compare(a.key, b.key) })
	for _, t := range tracks {
		s.Tracks = append(s.Tracks, t.stats())
	}
	return s
}

// endedMedia returns the tallies of subscriptions that ended, also of peers that are still there.
func (r *Relay) endedMedia() map[uint8]Tally {
	r.mu.Lock()
	ledgers := []*ledger{&r.ended}
	for p := range r.peers {
		ledgers = append(ledgers, &p.ledger)
	}
	r.mu.Unlock()
	var sum ledger
	for _, l := range ledgers {
		for priority, t := range l.snapshot() {
			sum.tally(priority).Add(&t)
		}
	}
	return sum.snapshot()
}

func (t *track) stats() TrackStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := TrackStats{
		Namespace: t.namespace, Name: t.name, Streams: t.seen,
		Objects: t.objects.Load(), Bytes: t.bytes.Load(), Datagrams: t.datagrams.Load(),
	}
	for _, o := range t.subs {
		if o.leaving {
			continue
		}
		sub := SubscriberStats{
			Remote: o.peer.conn.RemoteAddr().String(), FastStreams: o.fast.Load(), SlowStreams: o.slow.Load(),
			Bytes: o.bytes.Load(), Datagrams: o.datagrams.Load(), ForwardedDatagrams: o.forwarded.Load(), Lost: o.lost.Load(), Media: o.ledger.snapshot(),
		}
		select {
		case <-o.accepted:
			sub.Alias = o.alias
		default:
		}
		s.Subscribers = append(s.Subscribers, sub)
	}
	return s
}

// counts counts by name what seldom happens.
type counts struct {
	mu sync.Mutex
	m  map[string]uint64
}

func (c *counts) add(name string, n uint64) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]uint64)
	}
	c.m[name] += n
}

func (c *counts) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[string]uint64, len(c.m))
	maps.Copy(m, c.m)
	return m
}
