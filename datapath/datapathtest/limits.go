package datapathtest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

const opened = "client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"

// clientCases are about what a client cannot take.
var clientCases = []Case{
	{Name: "pool empty", Run: func(r *Rig) {
		r.Basic()
		r.Client(1, 0)
		r.Subscribe(1, 1, 101)
		r.Send(media)
		r.Want(Counts{datapath.ReasonPoolEmpty: 1}, nil)
		r.Ready(r.spaces[1], 1)
		r.Send(media)
		r.Want(Counts{slow: 1}, nil)
	}},
	{Name: "table of client streams full", Limits: datapath.Limits{ClientStreams: 1}, Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media, Stream(6, 0, Subgroup(5, 9, 1, "y"), false))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonClientStreams: 1}, []string{opened}, Out{Client: 1})
		if n := r.spaces[1].PoolLen(); n != 2 {
			r.Errorf("%d IDs left in the pool, want 2", n)
		}
	}},
	{Name: "a client's share of the table of client streams", Limits: datapath.Limits{ClientStreams: 8, Clients: 3}, Run: func(r *Rig) {
		// An entry is kept for each client, and of the 5 for all one gets as long as it has fewer than are free.
		r.Basic()
		next, number := uint64(2), 0
		send := func(client datapath.ClientID, opens int, ids ...int) {
			r.Helper()
			var records []string
			var out []Out
			for i := range opens + 1 {
				r.Send(Stream(next, 0, Subgroup(5, 9, 1, "x"), false))
				if i < opens {
					records = append(records, fmt.Sprintf("client %d: number %d of %d, forwarded, 40 bytes [%d→%d 0+7 slot %d prio 1 opened]",
						client, i+ids[0], number, next, 4*(i+ids[1])+3, i+ids[1]))
					out = append(out, Out{Client: client, Number: uint64(i + ids[0])})
				}
				next, number = next+4, number+1
			}
			r.Want(Counts{datapath.Forwarded: uint64(opens), datapath.ReasonClientStreams: 1}, records, out...)
		}
		r.Client(1, 16)
		r.Subscribe(1, 1, 101)
		send(1, 4, 0, 0)
		for _, s := range []uint64{2, 2, 6, 1000} {
			r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: 1, Stream: s}}))
		}
		send(1, 2, 4, 5)
		r.must(r.DP.SetSubscription(1, 1, nil))
		r.Subscribe(1, 1, 101)
		send(1, 4, 6, 8)
		r.must(r.DP.SetSubscription(1, 1, nil)) // its entries go with it
		r.Client(2, 12)
		r.Subscribe(1, 2, 102)
		send(2, 4, 0, 0)
		_, err := r.DP.SetClient(2, nil)
		r.must(err)
		r.Client(2, 12)
		r.Subscribe(1, 2, 102)
		send(2, 4, 0, 0)
	}},
	{Name: "closed stream", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		if n := r.spaces[1].CloseStream(0); n != 7 {
			r.Errorf("final size %d, want 7", n)
		}
		r.Send(Stream(2, 6, []byte("y"), true))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonClosedStream: 1}, []string{opened}, Out{Client: 1})
	}},
	{Name: "after FIN", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Send(Stream(2, 6, []byte("y"), true))
		r.Send(Stream(2, 7, []byte("z"), false)) // beyond the final size
		r.Send(Stream(2, 6, []byte("yz"), true)) // another one
		r.Send(Stream(2, 6, []byte("y"), true))  // again: userspace repairs
		r.Want(Counts{datapath.Forwarded: 2, datapath.ReasonClosedStream: 3},
			[]string{opened, "client 1: number 1 of 1, forwarded, 34 bytes [2→3 7+1 slot 0 prio 1 fin]"}, Out{Client: 1}, Out{Client: 1})
		if n, finished := r.spaces[1].FinishStream(0); n != 8 || !finished {
			r.Errorf("final size %d, finished %v, want 8 and true", n, finished)
		}
	}},
	{Name: "FIN within what was sent", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Send(Stream(2, 4, []byte("y"), true))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonClosedStream: 1}, []string{opened}, Out{Client: 1})
		if n, finished := r.spaces[1].FinishStream(0); n != 7 || finished {
			r.Errorf("final size %d, finished %v, want 7 and false", n, finished)
		}
	}},
	{Name: "slot of another stream", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.spaces[1].Reserve(31, 0, 1<<20) // gives slot 0 away
		r.Send(Stream(2, 6, []byte("y"), true))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonClosedStream: 1}, []string{opened}, Out{Client: 1})
	}},
	{Name: "stream credit", Run: func(r *Rig) {
		r.Basic(1)
		r.spaces[1].SetStreamLimit(0, 7)
		r.Send(media)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonStreamCredit: 1}, []string{opened}, Out{Client: 1})
		r.Send(Stream(2, 6, nil, true)) // takes no credit
		r.Want(ok(1), []string{"client 1: number 1 of 2, forwarded, 33 bytes [2→3 7+0 slot 0 prio 1 fin]"}, Out{Client: 1})
	}},
	{Name: "connection credit", Run: func(r *Rig) {
		r.Basic(1)
		r.spaces[1].SetDataLimit(6)
		r.Send(media)
		r.Want(Counts{datapath.ReasonConnectionCredit: 1},
			[]string{"client 1: number 0 of 0, connection_credit, 0 bytes [2→3 0+7 slot 0 prio 1 opened connection_credit]"})
		if used, next := r.spaces[1].DataUsed(), r.spaces[1].Next(); used != 0 || next != 0 {
			r.Errorf("credit used %d and next number %d, want 0", used, next)
		}
		r.spaces[1].SetDataLimit(7)
		r.Send(Stream(2, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 0 of 1, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1]"}, Out{Client: 1})
	}},
	{Name: "beyond 2^48", Run: func(r *Rig) {
		r.Basic(1)
		r.spaces[1].SetStreamLimit(0, 1<<62)
		r.spaces[1].SetDataLimit(1 << 62)
		r.Send(media)
		r.Send(Stream(2, 1<<48-2, []byte("y"), false))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonStreamCredit: 1}, []string{opened}, Out{Client: 1})
		r.Send(Stream(2, 1<<48-3, []byte("y"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 2, forwarded, 41 bytes [2→3 281474976710654+1 slot 0 prio 1]"}, Out{Client: 1})
	}},
	{Name: "too big", Run: func(r *Rig) {
		r.Basic(1)
		r.spaces[1].SetMaxSize(38)
		r.Send(media)
		r.Want(Counts{datapath.ReasonTooBig: 1},
			[]string{"client 1: number 0 of 0, too_big, 0 bytes [2→3 0+7 slot 0 prio 1 opened too_big]"})
		r.spaces[1].SetMaxSize(39)
		// Without a length the first fits and ends the packet, so the second does not.
		r.Send(media, Stream(2, 6, nil, true))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonTooBig: 1},
			[]string{"client 1: number 0 of 1, forwarded, 39 bytes [2→3 0+7 slot 0 prio 1]"},
			Out{1, 0, append([]byte{0x0c, 3, 0}, Subgroup(101, 9, 1, "x")...)})
	}},
	{Name: "datagram beyond the client's limit", Run: func(r *Rig) {
		r.Basic(1)
		limit := func(n uint64) {
			r.AddClient(1, func(c *datapath.Client) { c.MaxDatagram = n })
		}
		d := Datagram(ObjectDatagram(5, 9, 1, "x")) // 7 bytes with the client's alias, 9 of frame
		for i, n := range []uint64{0, 8} {
			limit(n)
			r.Send(d, d)
			r.Want(Counts{datapath.ReasonTooBig: 2}, nil)
			if next := r.spaces[1].Next(); next != 0 {
				r.Errorf("limit %d: next number %d after packet %d", n, next, i)
			}
		}
		limit(9)
		r.Send(d)
		r.Want(ok(1), []string{"client 1: number 0 of 2, forwarded, 38 bytes [datagram 0 +7 prio 1]"}, Out{1, 0, Datagram(ObjectDatagram(101, 9, 1, "x"))})
		// Without its length field the frame has 8 bytes; it is too big for the packet otherwise.
		limit(8)
		r.spaces[1].SetMaxSize(37)
		r.Send(d)
		r.Want(ok(1), []string{"client 1: number 1 of 3, forwarded, 37 bytes [datagram 0 +7 prio 1]"},
			Out{1, 1, append([]byte{0x30}, ObjectDatagram(101, 9, 1, "x")...)})
		r.spaces[1].SetMaxSize(1252)
		limit(1 << 62)
		r.Send(d, media) // streams have no such limit
		r.Want(ok(2), []string{"client 1: number 2 of 4, forwarded, 49 bytes [datagram 0 +7 prio 1] [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
		limit(0)
		r.Send(Stream(2, 6, nil, true), d)
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonTooBig: 1}, []string{"client 1: number 3 of 5, forwarded, 33 bytes [2→3 7+0 slot 0 prio 1 fin]"}, Out{Client: 1})
	}},
	{Name: "prefix split", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
		r.Send(Stream(2, 0, []byte{0x14}, false), Stream(2, 1, []byte{5, 9}, false), Stream(2, 0, nil, false))
		r.Want(Counts{datapath.ReasonPrefixSplit: 3}, nil)
	}},
	{Name: "ring full", Limits: datapath.Limits{RingBytes: 4096}, Run: func(r *Rig) {
		r.Basic(1)
		d := Datagram(ObjectDatagram(5, 9, 1, ""))
		for range 25 {
			r.Send(d)
		}
		var out []Out
		now, err := r.DP.Counters()
		r.must(err)
		for range now[datapath.Forwarded] {
			out = append(out, Out{Client: 1})
		}
		if now[datapath.Forwarded] != 13 || now[datapath.ReasonRingFull] != 12 || r.spaces[1].Next() != 13 {
			r.Errorf("%d forwarded, %d found the ring full, next number %d; want 13, 12, 13", now[datapath.Forwarded], now[datapath.ReasonRingFull], r.spaces[1].Next())
		}
		n := 0
		r.must(r.DP.Drain(func(*datapath.Record) { n++ }))
		if n != 13 {
			r.Errorf("%d records, want 13", n)
		}
		r.Want(Counts{datapath.Forwarded: 13, datapath.ReasonRingFull: 12}, nil, out...)
		r.Send(d)
		r.Want(ok(1), []string{"client 1: number 13 of 25, forwarded, 37 bytes [datagram 0 +6 prio 1]"}, Out{Client: 1})
	}},
	{Name: "link not learned", Run: func(r *Rig) {
		r.Basic()
		r.Ready(r.AddClient(1, nil), 4)
		r.Subscribe(1, 1, 101)
		r.Send(media, Datagram(ObjectDatagram(5, 9, 1, "")))
		r.Want(Counts{datapath.ReasonNoRoute: 1}, nil)
		r.Learn(1)
		r.Send(Stream(6, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 0 of 1, forwarded, 40 bytes [6→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "stale generation", Run: func(r *Rig) {
		r.Basic(1)
		atomic.AddUint64(r.spaces[1].Word(datapath.WordGeneration), 1)
		r.Send(media)
		r.Want(Counts{datapath.ReasonStaleClient: 1}, nil)
	}},
	{Name: "send fails", Run: func(r *Rig) {
		r.Basic(1)
		r.Client(2, 4)
		r.Subscribe(1, 2, 102)
		r.H.FailSends(true)
		r.Send(media, Datagram(ObjectDatagram(5, 9, 1, "")))
		r.Want(Counts{datapath.ReasonSendFailed: 4}, []string{
			"client 1: number 0 of 0, forwarded, 48 bytes [2→3 0+7 slot 0 prio 1 opened] [datagram 0 +6 prio 1]",
			"client 1: number 0 of 0, send_failed, 48 bytes",
			"client 2: number 0 of 0, forwarded, 48 bytes [2→3 0+7 slot 0 prio 1 opened] [datagram 0 +6 prio 1]",
			"client 2: number 0 of 0, send_failed, 48 bytes",
		})
		if s := r.spaces[1]; s.DataUsed() != 7 || s.Sent() != 48 || s.Next() != 1 {
			r.Errorf("%d bytes of data and %d of packets used, next number %d; want 7, 48, 1: they are not given back", s.DataUsed(), s.Sent(), s.Next())
		}
		r.spaces[1].SetSendLimit(0)
		r.Send(Stream(2, 6, []byte("y"), false)) // nothing is sent to client 1, so nothing fails
		r.Want(Counts{window: 1, datapath.ReasonSendFailed: 1}, []string{
			"client 2: number 1 of 1, forwarded, 34 bytes [2→3 7+1 slot 0 prio 1]",
			"client 2: number 1 of 1, send_failed, 34 bytes",
		})
		r.spaces[1].SetSendLimit(datapath.Unlimited)
		_, err := r.DP.SetClient(2, nil)
		r.must(err)
		r.H.FailSends(false)
		r.Send(Stream(2, 6, nil, true))
		r.Want(ok(1), []string{"client 1: number 1 of 2, forwarded, 33 bytes [2→3 7+0 slot 0 prio 1 fin]"}, Out{Client: 1})
	}},
	{Name: "send fails and the ring is full", Limits: datapath.Limits{RingBytes: 4096}, Run: func(r *Rig) {
		r.Basic(1)
		r.H.FailSends(true)
		for range 8 { // the ring holds 13 records, one of the last packet
			r.Send(Datagram(ObjectDatagram(5, 9, 1, "")))
		}
		r.H.FailSends(false)
		var forwarded, failed uint64
		r.must(r.DP.Drain(func(rec *datapath.Record) {
			switch {
			case rec.Reason == datapath.Forwarded && rec.Number == forwarded:
				forwarded++
			case rec.Reason == datapath.ReasonSendFailed && rec.Number == failed && len(rec.Frames) == 0:
				failed++
			default:
				r.Errorf("unexpected record: %s", FormatRecord(rec))
			}
		}))
		if forwarded != 7 || failed != 6 {
			r.Errorf("%d records of forwarded packets and %d of failed ones, want 7 and 6", forwarded, failed)
		}
		r.Want(Counts{datapath.ReasonSendFailed: 7, datapath.ReasonRingFull: 1}, nil)
		for range 12 {
			r.Send(Datagram(ObjectDatagram(5, 9, 1, "")))
		}
		r.H.FailSends(true)
		r.Send(Datagram(ObjectDatagram(5, 9, 1, ""))) // the last place is its first record's
		n := 0
		r.must(r.DP.Drain(func(rec *datapath.Record) {
			if n++; rec.Reason != datapath.Forwarded {
				r.Errorf("unexpected record: %s", FormatRecord(rec))
			}
		}))
		if n != 13 {
			r.Errorf("%d records, want 13", n)
		}
		r.Want(Counts{datapath.Forwarded: 12, datapath.ReasonSendFailed: 1}, nil, slices.Repeat([]Out{{Client: 1}}, 12)...)
	}},
}

// lifeCases are about tables that change, and about calls that are refused.
var lifeCases = []Case{
	{Name: "client replaced", Run: func(r *Rig) { // lessons 14 and 15
		r.Basic(1)
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
		g := r.spaces[1].Generation()
		_, err := r.DP.SetClient(1, nil)
		r.must(err)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.ReasonNoSubscriber: 1}, nil)
		s := r.Client(1, 4)
		if s.Generation() == g || s.Next() != 0 || s.DataUsed() != 0 {
			r.Errorf("new client has generation %d after %d, next number %d, %d bytes used", s.Generation(), g, s.Next(), s.DataUsed())
		}
		r.Subscribe(1, 1, 101)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{slow: 1}, nil)
		r.Send(Stream(6, 0, Subgroup(5, 9, 1, "x"), false))
		r.Want(ok(1), []string{"client 1: number 0 of 3, forwarded, 40 bytes [6→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "address of two clients", Run: func(r *Rig) { // found by traces
		r.Basic()
		r.Ready(r.AddClient(1, nil), 4)
		r.Subscribe(1, 1, 101)
		r.AddClient(2, func(c *datapath.Client) { c.Remote = r.subscriber(1).Addr })
		_, err := r.DP.SetClient(2, nil)
		r.must(err)
		r.Learn(1)
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
	}},
	{Name: "connection ID twice in a list", Limits: datapath.Limits{CIDs: 2}, Run: func(r *Rig) { // found by traces
		set := func(id datapath.UpstreamID, cids ...[]byte) error {
			return r.DP.SetUpstream(id, &datapath.Upstream{Remote: r.Pub.From.Addr, CIDs: cids, Streams: 2, Protection: datapath.Protection{Version: wire.Version1}})
		}
		r.must(set(1, CID(1), CID(1)))
		r.must(set(2, CID(30), CID(30)))
		if err := set(3, CID(60)); !errors.Is(err, datapath.ErrFull) {
			r.Errorf("a third connection ID: %v", err)
		}
		r.must(set(1))
		r.must(set(3, CID(60)))
	}},
	{Name: "upstream and track removed", Run: func(r *Rig) {
		r.Basic(1)
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
		r.must(r.DP.SetTrack(1, nil))
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.ReasonNotOpened: 1}, nil)
		r.must(r.DP.SetUpstream(1, nil))
		r.Send(media)
		r.Want(Counts{datapath.ReasonUnknownCID: 1}, nil)
		r.must(r.DP.SetUpstream(1, nil)) // nothing there: no error
	}},
	{Name: "refused calls", Limits: datapath.Limits{Upstreams: 2, CIDs: 1, Tracks: 2, Clients: 3, Subscriptions: 1}, Run: func(r *Rig) {
		r.Basic(1)
		r.Client(2, 0)
		_, client := r.DP.SetClient(3, &datapath.Client{})
		long := &datapath.Upstream{Remote: r.Pub.From.Addr, CIDs: [][]byte{CID(1), CID(9)}, Streams: 2, Protection: datapath.Protection{Version: wire.Version1}}
		odd := *long
		odd.Protection.Cipher, odd.CIDs = 0x1305, nil
		for _, c := range []struct{ got, want error }{
			{r.DP.SetUpstream(2, &datapath.Upstream{}), datapath.ErrOutOfRange},
			{r.DP.SetTrack(2, &datapath.Track{}), datapath.ErrOutOfRange},
			{client, datapath.ErrOutOfRange},
			{r.DP.SetTrack(0, &datapath.Track{Upstream: 0, Draft: 14}), datapath.ErrUnknown},
			{r.DP.SetSubscription(0, 1, &datapath.Subscription{}), datapath.ErrUnknown},
			{r.DP.SetSubscription(1, 0, &datapath.Subscription{}), datapath.ErrUnknown},
			{r.DP.SetSubscription(1, 2, &datapath.Subscription{}), datapath.ErrFull},
			{r.DP.SetUpstream(1, long), datapath.ErrFull},
			{r.DP.SetUpstream(0, &odd), datapath.ErrCipher},
		} {
			if !errors.Is(c.got, c.want) {
				r.Errorf("error is %v, want %v", c.got, c.want)
			}
		}
		r.Send(media) // all is as it was
		r.Want(ok(1), []string{opened}, Out{Client: 1})
	}},
	{Name: "closed datapath", Run: func(r *Rig) {
		r.Basic(1)
		r.must(r.DP.Close())
		r.must(r.DP.Close())
		_, client := r.DP.SetClient(1, nil)
		_, counters := r.DP.Counters()
		for i, err := range []error{client, counters, r.DP.SetUpstream(1, nil), r.DP.SetTrack(1, nil), r.DP.SetSubscription(1, 1, nil),
			r.DP.Evict(nil), r.DP.Drain(func(*datapath.Record) {})} {
			if !errors.Is(err, datapath.ErrClosed) {
				r.Errorf("call %d after Close returned %v", i, err)
			}
		}
	}},
}
