package relay_test

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// TestEarlyDatagrams: datagrams that come before the SUBSCRIBE_OK of their track are the track's, up to a bound; those of other aliases are
// dropped as soon as nobody is asked any more.
func TestEarlyDatagrams(t *testing.T) {
	const held, alias = 64, 0
	for name, c := range map[string]struct {
		early   []wire.ObjectDatagram
		largest *moq.Location
		dropped uint64
	}{
		"none":          {},
		"two":           {early: []wire.ObjectDatagram{{TrackAlias: alias, ObjectID: 1}, {TrackAlias: alias, ObjectID: 2}}, largest: &moq.Location{Object: 2}},
		"another alias": {early: []wire.ObjectDatagram{{TrackAlias: 7, ObjectID: 1}, {TrackAlias: alias, ObjectID: 0}}, largest: &moq.Location{}, dropped: 1},
		"too many": {early: func() (all []wire.ObjectDatagram) {
			for i := range uint64(held + 10) {
				all = append(all, wire.ObjectDatagram{TrackAlias: alias, ObjectID: i})
			}
			return all
		}(), largest: &moq.Location{Object: held - 1}, dropped: 10},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, relay.Config{}, func(w *world) {
				t := w.t
				pub := &publisher{w: w, conn: w.dial(wire.Draft16, nil)}
				s, err := moq.Connect(w.context(), pub.conn, moq.Handlers{Subscribe: func(r *moq.Request) {
					for _, o := range c.early {
						o.Payload = []byte("early")
						if err := pub.SendDatagram(o.Append(nil, wire.Draft16)); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(time.Second)
					if got, err := r.Accept(nil); got != alias || err != nil {
						t.Errorf("alias %d: %v", got, err)
					}
				}})
				must(t, err)
				pub.Session = s
				must(t, s.Announce(w.context(), []string{"live"}))
				sub, _ := w.session(wire.Draft16, nil)
				got := w.subscribe(sub, moq.SubscribeOptions{}).Largest
				if (got == nil) != (c.largest == nil) || got != nil && *got != *c.largest {
					t.Errorf("the largest object is %v, want %v", got, c.largest)
				}
				if n := w.relay.Stats().Reasons["unknown_alias"]; n != c.dropped {
					t.Errorf("%d datagrams were dropped, want %d", n, c.dropped)
				}
			})
		})
	}
}

// TestLateDatagram: a datagram that PUBLISH_DONE has overtaken is sent on, and the end of the track after it.
func TestLateDatagram(t *testing.T) {
	inWorld(t, relay.Config{}, func(w *world) {
		t := w.t
		pub := w.publisher(wire.Draft16, "live")
		s, _ := w.session(wire.Draft16, nil)
		sub := w.subscribe(s, moq.SubscribeOptions{})
		a := <-pub.asks
		send := func(id uint64) {
			must(t, pub.SendDatagram((&wire.ObjectDatagram{TrackAlias: a.alias, ObjectID: id, Payload: []byte("x")}).Append(nil, wire.Draft16)))
		}
		send(0)
		must(t, a.req.Done(moq.DoneTrackEnded, 0, "over"))
		time.Sleep(30 * time.Millisecond)
		send(1)
		for want := range uint64(2) {
			b, err := s.ReceiveDatagram(w.context())
			must(t, err)
			if o, err := wire.ParseObjectDatagram(b, wire.Draft16); err != nil || o.ObjectID != want {
				t.Errorf("object %d instead of %d: %v", o.ObjectID, want, err)
			}
		}
		<-sub.Done()
		if code, _, _ := sub.Result(); code != moq.DoneTrackEnded {
			t.Errorf("the track ended with code %d", code)
		}
	})
}
