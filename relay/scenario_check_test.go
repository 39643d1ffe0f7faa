package relay_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// check compares what a subscriber received with what its subscriptions selected.
func (h *scenarioSubscriber) check() {
	for _, r := range h.sessions {
		for _, s := range r.streams {
			if len(s.data) == 0 {
				continue
			}
			hd, err := wire.ParseSubgroupHeader(s.data, h.plan.draft)
			if err != nil {
				if s.err == nil {
					h.errorf("stream %d begins with %x: %v", s.id, s.data[:min(len(s.data), 30)], err)
				}
				continue
			}
			if !slices.ContainsFunc(h.visits, func(v *subscription) bool { return v.in == r && v.Alias == hd.TrackAlias }) {
				h.errorf("stream %d has alias %d, which nobody subscribed to", s.id, hd.TrackAlias)
			}
		}
	}
	for _, v := range h.visits {
		h.checkSubscription(v)
	}
}

// selects reports whether the subscription's filter selects an object.
func (v *subscription) selects(l moq.Location) bool {
	return !l.Less(v.start) && (!v.ranged || l.Group <= v.last)
}

// owed reports whether an object had not been published when the subscription began, so that it has to come.
func (v *subscription) owed(l moq.Location) bool {
	return v.selects(l) && (v.Largest == nil || v.Largest.Less(l))
}

func (h *scenarioSubscriber) checkSubscription(v *subscription) {
	t := h.pub.tracks[v.track]
	got := make(map[moq.Location]bool)
	object := func(l moq.Location, payload []byte) {
		switch {
		case got[l]:
			h.errorf("track %s: object %v came twice", t.plan.name, l)
		case !slices.Contains(t.sent, l):
			h.errorf("track %s: object %v was not sent", t.plan.name, l)
		case !v.selects(l):
			h.errorf("track %s: object %v was not asked for: from %v, to group %d (%v)", t.plan.name, l, v.start, v.last, v.ranged)
		case !bytes.Equal(payload, h.scenario.plan.payload(v.track, l)):
			h.errorf("track %s: object %v of %d bytes is corrupt", t.plan.name, l, len(payload))
		}
		got[l] = true
	}
	streams := uint64(0)
	for _, s := range v.in.streams {
		hd, err := wire.ParseSubgroupHeader(s.data, h.plan.draft)
		if err != nil || hd.TrackAlias != v.Alias {
			continue
		}
		streams++
		if v.visit.end == stays && (s.closed || s.err != nil && !h.scenario.plan.drops.allows(s.err)) {
			h.errorf("track %s: stream %d of group %d after %d bytes: %v", t.plan.name, s.id, hd.Group, len(s.data), s.err)
		}
		r := rawStream{header: hd, data: s.data, err: s.err}
		if !s.ended || s.closed {
			r.err = errUnended
		}
		if v.visit.end == stays && s.ended && s.err == nil {
			h.scenario.drops.whole(hd.Priority)
		}
		for _, o := range r.objects(h.t, h.plan.draft) {
			object(moq.Location{Group: o.group, Object: o.id}, []byte(o.payload))
		}
	}
	for _, b := range v.in.datagrams {
		o, err := wire.ParseObjectDatagram(b, h.plan.draft)
		if err != nil {
			h.errorf("datagram %x: %v", b[:min(len(b), 30)], err)
			continue
		}
		if o.TrackAlias == v.Alias {
			object(moq.Location{Group: o.Group, Object: o.ObjectID}, o.Payload)
		}
	}
	h.total.streams.Add(streams)
	if v.visit.end != stays {
		return
	}
	if code, count, reason := v.Result(); code != moq.DoneTrackEnded || count != streams && (h.scenario.plan.drops == nil || count < streams) {
		h.errorf("track %s ended with code %d, %q, %d streams; %d came", t.plan.name, code, reason, count, streams)
	}
	var missing []moq.Location
	owed := 0
	for _, l := range t.sent {
		if v.owed(l) {
			owed++
			if !got[l] {
				missing = append(missing, l)
			}
		}
	}
	if t.plan.layout == datagrams {
		h.total.datagrams.Add(uint64(owed))
		// The relay does not send what comes before a subscriber has SUBSCRIBE_OK.
		if !h.scenario.plan.lossless(h.plan) || uint64(len(missing)) <= h.relay.Stats().Reasons["datagram_too_early"] {
			return
		}
	} else {
		h.total.objects.Add(uint64(owed))
	}
	if h.scenario.plan.drops != nil {
		h.scenario.drops.note(t, missing)
		return
	}
	if len(missing) > 0 {
		h.errorf("track %s: %d of %d objects are missing: %v", t.plan.name, len(missing), owed, missing)
	}
}

var errUnended = bytes.ErrTooLarge // any error: the stream is cut off

// checkNothingLeft looks for what the scenario has left in relay and datapath, once the relay has noticed that everybody has gone: a
// CONNECTION_CLOSE may be lost.
func (s *scenario) checkNothingLeft() {
	t := s.t
	for range 40 {
		time.Sleep(3 * time.Second)
		if st := s.relay.Stats(); st.Sessions == 0 && len(st.Tracks) == 0 {
			break
		}
	}
	time.Sleep(3 * time.Second)
	if st := s.relay.Stats(); st.Sessions > 0 || len(st.Tracks) > 0 {
		t.Errorf("relay has %d sessions and %d tracks left", st.Sessions, len(st.Tracks))
	}
	if streams, clientStreams := s.sim.Entries(); streams > 0 || clientStreams > 0 {
		t.Errorf("datapath has %d streams and %d streams of clients left", streams, clientStreams)
	}
	s.ledger.checkEmpty(t)
}

// checkCounters compares the datapath's counters with its records and with what was on the wire (P7).
func (s *scenario) checkCounters(stats *relay.Stats) {
	t := s.t
	s.total.fast.Add(stats.Boundary.FastStreams)
	c, err := s.sim.Counters()
	must(t, err)
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	if n := c[datapath.Forwarded] + c[datapath.ReasonSendFailed]; n != s.ledger.frames {
		t.Errorf("counters say that %d frames were forwarded or failed to be sent, records %d", n, s.ledger.frames)
	}
	if s.ledger.packets > 0 && stats.Boundary.ForwardedPackets > s.ledger.packets {
		t.Errorf("boundary counts %d forwarded packets, records %d", stats.Boundary.ForwardedPackets, s.ledger.packets)
	}
	var arrived, forUserspace uint64
	for _, e := range s.trace.Events() {
		if e.To == s.addr.AddrPort() {
			arrived += uint64(len(e.Arrivals))
		}
	}
	for r := datapath.ReasonLongHeader; r <= datapath.ReasonNoMedia; r++ {
		forUserspace += c[r]
	}
	if forUserspace > arrived {
		t.Errorf("%d packets came, %d have a reason to be for userspace alone", arrived, forUserspace)
	}
	for _, r := range []datapath.Reason{datapath.ReasonAuth, datapath.ReasonTruncated, datapath.ReasonMalformedFrame, datapath.ReasonBadHeader} {
		if n := c[r]; n > 0 {
			t.Errorf("stock peers were given reason %v %d times", r, n)
		}
	}
}

// ledger is a datapath that remembers what it was told, and counts what it told.
type ledger struct {
	datapath.Datapath
	mu              sync.Mutex
	upstreams       map[datapath.UpstreamID]bool
	tracks          map[datapath.TrackID]bool
	clients         map[datapath.ClientID]bool
	frames, packets uint64
}

func newLedger(dp datapath.Datapath) *ledger {
	return &ledger{
		Datapath: dp, upstreams: make(map[datapath.UpstreamID]bool), tracks: make(map[datapath.TrackID]bool),
		clients: make(map[datapath.ClientID]bool),
	}
}

func note[K comparable](l *ledger, m map[K]bool, k K, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if there {
		m[k] = true
	} else {
		delete(m, k)
	}
}

func (l *ledger) SetUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	err := l.Datapath.SetUpstream(id, u)
	if err == nil {
		note(l, l.upstreams, id, u != nil)
	}
	return err
}

func (l *ledger) SetTrack(id datapath.TrackID, t *datapath.Track) error {
	err := l.Datapath.SetTrack(id, t)
	if err == nil {
		note(l, l.tracks, id, t != nil)
	}
	return err
}

func (l *ledger) SetClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	sp, err := l.Datapath.SetClient(id, c)
	if err == nil {
		note(l, l.clients, id, c != nil)
	}
	return sp, err
}

func (l *ledger) Drain(f func(*datapath.Record)) error {
	return l.Datapath.Drain(func(r *datapath.Record) {
		l.mu.Lock()
		if r.Size > 0 {
			l.packets++
		}
		for i := range r.Frames {
			if r.Frames[i].Reason == datapath.Forwarded {
				l.frames++
			}
		}
		l.mu.Unlock()
		f(r)
	})
}

func (l *ledger) checkEmpty(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.upstreams) + len(l.tracks) + len(l.clients); n > 0 {
		t.Errorf("datapath still has upstreams %v, tracks %v, clients %v", l.upstreams, l.tracks, l.clients)
	}
}
