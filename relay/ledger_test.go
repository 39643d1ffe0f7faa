package relay

import (
	"reflect"
	"testing"
)

// TestLedger: what is published ends in one way, also when the subscription ends before it does.
func TestLedger(t *testing.T) {
	var sub, peer, all ledger
	for range 6 {
		sub.published(1)
	}
	sub.published(2)
	sub.delivered(1)
	sub.dropped(1, "drop_group")
	sub.reset(1, "delivery_timeout")
	sub.merge(&peer)
	sub.delivered(1) // later
	sub.merge(&peer)
	want := map[uint8]Tally{
		1: {Published: 6, Delivered: 2, Open: 2, Dropped: map[string]uint64{"drop_group": 1}, Reset: map[string]uint64{"delivery_timeout": 1}},
		2: {Published: 1, Open: 1},
	}
	if got := peer.snapshot(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	peer.settle("connection_closed")
	peer.merge(&all)
	sub.delivered(2) // after all
	var late ledger
	late.published(2)
	late.merge(&peer)
	want = map[uint8]Tally{
		1: {Published: 6, Delivered: 2, Dropped: map[string]uint64{"drop_group": 1}, Reset: map[string]uint64{"delivery_timeout": 1, "connection_closed": 2}},
		2: {Published: 2, Reset: map[string]uint64{"connection_closed": 2}},
	}
	if got := all.snapshot(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
