package datapathtest

import (
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

const window = datapath.ReasonCongestionWindow

// budgetCases are about what a client's path can take now. Packets of clients have at most 1252 bytes.
var budgetCases = []Case{
	{Name: "congestion window full", Run: func(r *Rig) {
		r.Basic(1)
		s := r.spaces[1]
		s.SetSendLimit(1251)
		r.Send(media, Datagram(ObjectDatagram(5, 9, 1, "")))
		// The stream is opened all the same, for userspace to send its start when there is room; the datagram is the slow path's.
		r.Want(Counts{window: 2}, []string{"client 1: number 0 of 0, congestion_window, 0 bytes [2→3 0+7 slot 0 prio 1 opened congestion_window]"})
		if s.PoolLen() != 3 || s.Next() != 0 || s.DataUsed() != 0 || s.Sent() != 0 {
			r.Errorf("%d stream IDs left, next number %d, %d bytes of data and %d of packets used; want 3, 0, 0, 0", s.PoolLen(), s.Next(), s.DataUsed(), s.Sent())
		}
		s.SetSendLimit(1252)
		r.Send(media)
		r.Want(ok(1), []string{"client 1: number 0 of 1, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1]"}, Out{Client: 1})
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{window: 1}, nil)
		if s.Next() != 1 || s.DataUsed() != 7 || s.Sent() != 40 {
			r.Errorf("next number %d, %d bytes of data and %d of packets used; want 1, 7, 40", s.Next(), s.DataUsed(), s.Sent())
		}
		s.SetSendLimit(1292)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 3, forwarded, 34 bytes [2→3 7+1 slot 0 prio 1]"}, Out{Client: 1})
		s.SetSendLimit(datapath.Unlimited)
		s.ChargeBudget(s.Now(), datapath.Unlimited-40-34) // the sum of sent bytes and size overflows
		r.Send(Stream(2, 7, []byte("z"), true))
		r.Want(ok(1), []string{"client 1: number 2 of 4, forwarded, 34 bytes [2→3 8+1 slot 0 prio 1 fin]"}, Out{Client: 1})
	}},
	{Name: "reasons that come before the budget", Run: func(r *Rig) {
		r.Basic(1, 2)
		r.Track(2, 6, 14)
		r.Subscribe(2, 2, 60)
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, FirstGroup: 9}))
		r.Send(media)
		r.Want(ok(2), []string{opened, "client 2: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1}, Out{Client: 2})
		r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: 1, Stream: 2}}))
		r.spaces[1].SetSendLimit(0)
		// For client 1: slow, filtered, filtered, not subscribed.
		r.Send(Stream(2, 6, []byte("y"), false), Stream(6, 0, Subgroup(5, 8, 1, "x"), false), Datagram(ObjectDatagram(5, 8, 1, "")), Datagram(ObjectDatagram(6, 8, 1, "")))
		r.Want(Counts{datapath.Forwarded: 4, slow: 1, datapath.ReasonFiltered: 2},
			[]string{"client 2: number 1 of 1, forwarded, 60 bytes [2→3 7+1 slot 0 prio 1] [6→7 0+7 slot 1 prio 1 opened] [datagram 0 +6 prio 1] [datagram 1 +5 prio 1]"}, Out{Client: 2})
		// The budget comes after the pool, and before the prefix, the size and the credit.
		r.Send(Stream(10, 0, Subgroup(5, 9, 1, "x"), false))
		r.spaces[2].SetSendLimit(0)
		r.spaces[2].SetMaxSize(30)
		r.spaces[2].SetDataLimit(0)
		r.Send(Stream(2, 0, []byte{0x14}, false), Stream(2, 7, []byte("z"), false))
		r.Want(Counts{datapath.Forwarded: 1, slow: 2, window: 3},
			[]string{"client 1: number 0 of 2, congestion_window, 0 bytes [10→7 0+7 slot 1 prio 1 opened congestion_window]",
				"client 2: number 2 of 2, forwarded, 40 bytes [10→11 0+7 slot 2 prio 1 opened]"}, Out{Client: 2})
	}},
	{Name: "paced", Run: func(r *Rig) {
		r.H.SetClock(5e9)
		r.Basic(1)
		s := r.spaces[1]
		s.SetPace(1e6, 1291) // a microsecond per byte
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
		pace := s.Word(datapath.WordPaceTime)
		if at := atomic.LoadUint64(pace); at != 5e9+40e3 || s.Sent() != 40 {
			r.Errorf("pace time %d after %d bytes, want 5000040000 after 40", at, s.Sent())
		}
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.ReasonPaced: 1}, nil)
		r.H.SetClock(5e9 + 999)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.ReasonPaced: 1}, nil)
		r.H.SetClock(5e9 + 1000)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(ok(1), []string{"client 1: number 1 of 3, forwarded, 34 bytes [2→3 7+1 slot 0 prio 1]"}, Out{Client: 1})
		s.SetSendLimit(74)
		r.Send(Stream(2, 7, []byte("z"), false)) // both: the window is told
		r.Want(Counts{window: 1}, nil)
		s.SetSendLimit(datapath.Unlimited)
		r.H.SetClock(6e9)
		r.Send(Stream(2, 7, []byte("z"), false))
		r.Want(ok(1), []string{"client 1: number 2 of 5, forwarded, 34 bytes [2→3 8+1 slot 0 prio 1]"}, Out{Client: 1})
		if at := atomic.LoadUint64(pace); at != 6e9+34e3 {
			r.Errorf("pace time %d, want 6000034000", at)
		}
		s.SetPace(0, 0)
		r.Send(Stream(2, 8, nil, true))
		r.Want(ok(1), []string{"client 1: number 3 of 6, forwarded, 33 bytes [2→3 9+0 slot 0 prio 1 fin]"}, Out{Client: 1})
		if at := atomic.LoadUint64(pace); at != 6e9+34e3 || s.Sent() != 141 {
			r.Errorf("pace time %d after %d bytes, want 6000034000 after 141", at, s.Sent())
		}
	}},
	{Name: "a largest size beyond what packets may have", Run: func(r *Rig) {
		r.Basic(1)
		r.spaces[1].SetMaxSize(5000)
		r.spaces[1].SetSendLimit(datapath.MaxPacketSize)
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
	}},
	{Name: "one clock", Run: func(r *Rig) {
		r.Basic(1)
		if r.spaces[1].Now() == 0 {
			r.Error("the clock is at 0")
		}
		var times []time.Time
		for _, at := range []uint64{7e9, 9e9 + 1} {
			r.H.SetClock(at)
			if now := r.spaces[1].Now(); now != at {
				r.Errorf("the space's clock is at %d, want %d", now, at)
			}
			r.Send(Datagram(ObjectDatagram(5, 9, 1, "")))
			r.must(r.DP.Drain(func(rec *datapath.Record) { times = append(times, rec.Time) }))
		}
		if len(times) != 2 || times[1].Sub(times[0]) != 2e9+1 {
			r.Errorf("records of %v, want two that are 2.000000001 s apart", times)
		}
		r.Want(ok(2), nil, Out{Client: 1}, Out{Client: 1})
	}},
}
