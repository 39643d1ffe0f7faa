package datapathtest

import (
	"github.com/fastrelay/fastrelay/datapath"
)

const slow = datapath.ReasonSlowStream

// frameCases are about frames that no client gets, and about who owns a stream.
var frameCases = []Case{
	{Name: "unknown track", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(Stream(2, 0, Subgroup(6, 9, 1, "x"), false), Datagram(ObjectDatagram(6, 9, 1, "")))
		r.Want(Counts{datapath.ReasonUnknownTrack: 2}, nil)
		r.Track(2, 6, 14) // too late for the stream
		r.Subscribe(2, 1, 60)
		r.Send(Stream(2, 0, Subgroup(6, 9, 1, "x"), false))
		r.Want(Counts{datapath.ReasonNotOpened: 1}, nil)
	}},
	{Name: "no subscriber", Run: func(r *Rig) {
		r.Basic()
		r.Client(1, 4)
		r.Send(media)
		r.Want(Counts{datapath.ReasonNoSubscriber: 1}, nil)
		r.Subscribe(1, 1, 101) // too late
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{slow: 1}, nil)
		r.Send(media)
		r.Want(Counts{slow: 1}, nil)
	}},
	{Name: "bad and split headers", Run: func(r *Rig) {
		r.Basic(1)
		for i, c := range []struct {
			data []byte
			want datapath.Reason
		}{
			{nil, datapath.ReasonHeaderSplit}, {[]byte{0x14}, datapath.ReasonHeaderSplit}, {[]byte{0x14, 5, 9, 0}, datapath.ReasonHeaderSplit},
			{[]byte{0x05, 5, 9, 0}, datapath.ReasonBadHeader}, {[]byte{0x16, 5, 9, 0, 1}, datapath.ReasonBadHeader}, {[]byte{0x40, 0x14, 5, 9, 0, 1}, datapath.ReasonBadHeader},
		} {
			r.Send(Stream(uint64(4*i+2), 0, c.data, false))
			r.Want(Counts{c.want: 1}, nil)
			r.Send(Stream(uint64(4*i+2), 0, Subgroup(5, 9, 1, "x"), false)) // userspace owns it
			r.Want(Counts{datapath.ReasonNotOpened: 1}, nil)
		}
		for _, d := range [][]byte{nil, {0x08}, {0x22, 5, 9, 0, 1}, {0x00, 5, 9, 0}, {0x10, 5, 9, 0, 1}} {
			r.Send(Datagram(d))
			r.Want(Counts{datapath.ReasonBadHeader: 1}, nil)
		}
	}},
	{Name: "start not seen", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.ReasonNotOpened: 1}, nil)
		r.Send(media) // reordered: nothing has been decided before
		r.Want(ok(1), []string{"client 1: number 0 of 1, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "table of streams full", Limits: datapath.Limits{Streams: 1}, Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
		r.Send(Stream(6, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(Counts{datapath.ReasonStreamsFull: 1}, nil)
		r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: datapath.NoClient, Stream: 2}}))
		r.Send(Stream(6, 0, Subgroup(5, 9, 1, "x"), false), media)
		r.Want(Counts{datapath.ReasonNotOpened: 2}, nil)
		r.Send(Stream(10, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 3, forwarded, 40 bytes [10→7 0+7 slot 1 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "an upstream's share of the table of streams", Limits: datapath.Limits{Streams: 8, Upstreams: 2}, Run: func(r *Rig) {
		// 2 of the 8 entries are the upstream's, and of the 4 for all it gets as long as it has fewer than are free.
		next := uint64(2)
		open := func(opens, refused int) {
			r.Helper()
			for range opens + refused {
				r.Send(Stream(next, 0, Subgroup(5, 9, 1, "x"), false))
				next += 4
			}
			want := Counts{datapath.ReasonNoSubscriber: uint64(opens), datapath.ReasonStreamsFull: uint64(refused)}
			if refused == 0 {
				delete(want, datapath.ReasonStreamsFull)
			}
			r.Want(want, nil)
		}
		evict := func(streams ...uint64) {
			r.Helper()
			for _, s := range streams {
				r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: datapath.NoClient, Stream: s}}))
			}
		}
		r.Basic()
		open(4, 2)
		evict(2, 2, 6, 22) // those that there are
		open(2, 1)
		r.must(r.DP.SetTrack(1, nil))
		r.Track(1, 5, 14)
		open(4, 1)
		r.must(r.DP.SetUpstream(1, nil))
		r.Basic()
		r.Next, next = 0, 2
		open(4, 1)
	}},
	{Name: "more than four media frames", Run: func(r *Rig) {
		r.Basic(1)
		d := Datagram(ObjectDatagram(5, 9, 1, ""))
		r.Send(d, d, d, d, Stream(10, 0, Subgroup(5, 9, 1, "x"), false), Stream(2, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(Counts{datapath.Forwarded: 4, datapath.ReasonTooManyMedia: 2}, []string{
			"client 1: number 0 of 0, forwarded, 61 bytes [datagram 0 +6 prio 1] [datagram 1 +6 prio 1] [datagram 2 +6 prio 1] [datagram 3 +6 prio 1]",
		}, Out{Client: 1})
		// Userspace has read their starts: a retransmission must not open them.
		r.Send(Stream(10, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(Counts{datapath.ReasonNotOpened: 1}, nil)
		r.Send(Stream(14, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 2, forwarded, 40 bytes [14→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "retransmitted start", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Client(2, 4)
		r.Subscribe(1, 2, 102)
		r.Send(media) // for client 1 a retransmission, for client 2 too late
		r.Want(Counts{datapath.Forwarded: 2, slow: 1}, []string{
			"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]",
			"client 1: number 1 of 1, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1]",
		}, Out{Client: 1}, Out{Client: 1})
		if n := r.spaces[1].DataUsed(); n != 7 {
			r.Errorf("%d bytes of credit used, want 7", n)
		}
	}},
	{Name: "joins before and after, leaves and comes back", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
		r.must(r.DP.SetSubscription(1, 1, nil))
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.ReasonNoSubscriber: 1}, nil)
		r.Subscribe(1, 1, 101)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{slow: 1}, nil)
		r.Send(Stream(6, 0, Subgroup(5, 10, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 3, forwarded, 40 bytes [6→7 0+7 slot 1 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "evicted streams stay slow", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Want(ok(1), []string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
		r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: 1, Stream: 2}}))
		r.Send(media)
		r.Want(Counts{slow: 1}, nil)
		r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: datapath.NoClient, Stream: 2}}))
		r.Send(media)
		r.Want(Counts{datapath.ReasonNotOpened: 1}, nil)
	}},
	{Name: "group outside the subscription", Run: func(r *Rig) {
		r.Basic()
		r.Client(1, 4)
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, FirstGroup: 5, LastGroup: 6}))
		for i, g := range []uint64{4, 7} {
			r.Send(Stream(uint64(4*i+2), 0, Subgroup(5, g, 1, "x"), false), Datagram(ObjectDatagram(5, g, 1, "")))
			r.Want(Counts{datapath.ReasonFiltered: 2}, nil)
		}
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{slow: 1}, nil)
		r.Send(Stream(10, 0, Subgroup(5, 6, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 0 of 3, forwarded, 40 bytes [10→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
	}},
}
