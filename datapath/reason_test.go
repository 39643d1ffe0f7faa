package datapath_test

import (
	"regexp"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
)

func TestReasonNames(t *testing.T) {
	// Some by number too: a name in the wrong place would count for another reason.
	for r, want := range map[datapath.Reason]string{
		datapath.Forwarded: "forwarded", datapath.ReasonLongHeader: "long_header", datapath.ReasonTruncated: "truncated",
		datapath.ReasonReplay: "replay", datapath.ReasonNoMedia: "no_media", datapath.ReasonUnknownTrack: "unknown_track",
		datapath.ReasonNotOpened: "not_opened", datapath.ReasonTooManyMedia: "too_many_media", datapath.ReasonStaleClient: "stale_client",
		datapath.ReasonClosedStream: "closed_stream", datapath.ReasonRingFull: "ring_full", datapath.ReasonContended: "contended",
		datapath.Reason(datapath.ReasonCount): "unknown",
	} {
		if r.String() != want {
			t.Errorf("reason %d is %q, want %q", r, r, want)
		}
	}
	seen := make(map[string]bool)
	for r := range datapath.Reason(datapath.ReasonCount) {
		name := r.String()
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(name) || seen[name] {
			t.Errorf("reason %d has the name %q", r, name)
		}
		seen[name] = true
	}
}

func TestCountersMap(t *testing.T) {
	c := datapath.Counters{datapath.ReasonReplay: 3}
	if m := c.Map(); len(m) != 1 || m["replay"] != 3 {
		t.Errorf("map is %v", m)
	}
}

func TestLimitsDefaults(t *testing.T) {
	l := datapath.Limits{Clients: 7}.WithDefaults()
	if l.Clients != 7 || l.Upstreams != 256 || l.RingBytes != 4<<20 || l.ClientStreams != 65536 {
		t.Errorf("limits are %+v", l)
	}
}
