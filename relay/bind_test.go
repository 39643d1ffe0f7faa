package relay_test

import (
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// collect reads the streams of a session side by side: those that the relay has reserved for the datapath are there too as soon
// as a later one is used (RFC 9000, section 3.2), and stay empty.
func collect(w *world, s *moq.Session) <-chan wire.SubgroupHeader {
	got := make(chan wire.SubgroupHeader, 100)
	go func() {
		for {
			rs, err := s.AcceptDataStream(s.Context())
			if err != nil {
				return
			}
			go func() {
				b, err := io.ReadAll(rs)
				if err != nil {
					return // with the session, at the end of the test
				}
				h, err := wire.ParseSubgroupHeader(b, s.Draft())
				if err != nil {
					w.t.Error(err)
				}
				got <- h
			}()
		}
	}()
	return got
}

// take returns the groups of the streams that have been collected, in order, for each alias.
func take(got <-chan wire.SubgroupHeader) map[uint64][]uint64 {
	groups := make(map[uint64][]uint64)
	for len(got) > 0 {
		h := <-got
		groups[h.TrackAlias] = append(groups[h.TrackAlias], h.Group)
	}
	for _, g := range groups {
		slices.Sort(g)
	}
	return groups
}

func subscribers(r *relay.Relay) []relay.SubscriberStats { return r.Stats().Tracks[0].Subscribers }

// TestFastJoin joins in the middle of a group: the datapath knows whole groups only, so that the group in progress stays
// with the relay, which knows what the subscriber has asked for.
func TestFastJoin(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		first, _ := w.session(wire.Draft16, nil)
		w.subscribe(first, moq.SubscribeOptions{})
		alias := (<-pub.asks).alias
		send := func(group, subgroup, id uint64) {
			h := wire.SubgroupHeader{TrackAlias: alias, Group: group, SubgroupMode: wire.SubgroupExplicit, Subgroup: subgroup}
			must(t, pub.stream(h, wire.Object{ID: id, Payload: []byte("object")}).Close())
			sleep(t, 1)
		}
		sleep(t, 1)
		send(5, 0, 10)
		late, _ := w.session(wire.Draft16, nil)
		streams := collect(w, late)
		sub := w.subscribe(late, moq.SubscribeOptions{})
		sleep(t, 1)
		send(5, 1, 4)  // before the largest object
		send(5, 2, 11) // after it
		send(6, 0, 0)
		got := take(streams)
		if !slices.Equal(got[sub.Alias], []uint64{5, 6}) {
			t.Errorf("groups of streams: %v", got)
		}
		if s := subscribers(w.relay); len(s) != 2 || s[0].FastStreams != 4 || s[1].FastStreams != 1 || s[1].SlowStreams != 1 {
			t.Errorf("subscribers: %+v; reasons %v", s, w.relay.Stats().Reasons)
		}
	})
}

// TestFastRejoin has two subscriptions of one session to one track, of which the datapath can serve one. When that one
// has ended, it serves the other.
func TestFastRejoin(t *testing.T) {
	inFastWorld(t, func(w *world, _ *sim.Sim) {
		t := w.t
		pub := w.publisher(wire.Draft14, "live")
		s, _ := w.session(wire.Draft14, nil)
		streams := collect(w, s)
		one := w.subscribe(s, moq.SubscribeOptions{})
		two := w.subscribe(s, moq.SubscribeOptions{})
		alias := (<-pub.asks).alias
		send := func(group uint64) {
			must(t, pub.stream(wire.SubgroupHeader{TrackAlias: alias, Group: group}, wire.Object{ID: 0, Payload: []byte("object")}).Close())
			sleep(t, 1)
		}
		sleep(t, 1)
		send(1)
		got := take(streams)
		if !slices.Equal(got[one.Alias], []uint64{1}) || !slices.Equal(got[two.Alias], []uint64{1}) {
			t.Errorf("groups of streams: %v", got)
		}
		if s := subscribers(w.relay); s[0].FastStreams != 1 || s[1].FastStreams != 0 || s[1].SlowStreams != 1 {
			t.Errorf("subscribers: %+v", s)
		}
		must(t, one.Unsubscribe())
		sleep(t, 2)
		send(2)
		if got := take(streams); !slices.Equal(got[two.Alias], []uint64{2}) {
			t.Errorf("groups of streams: %v", got)
		}
		synctest.Wait()
		if s := subscribers(w.relay); len(s) != 1 || s[0].FastStreams != 1 {
			t.Errorf("subscribers: %+v; reasons %v", s, w.relay.Stats().Reasons)
		}
	})
}
