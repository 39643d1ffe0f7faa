package datapathtest

import (
	"fmt"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"

	"github.com/fastrelay/fastrelay/datapath"
)

// At planRate a byte takes planByte nanoseconds of a plan, and bursts of bands are exact.
const (
	planRate = 976562
	planByte = 1024
)

// Policy makes a policy the client's.
func (r *Rig) Policy(c datapath.ClientID, p datapath.Policy) {
	r.Helper()
	r.must(r.spaces[c].SetPolicy(&p))
}

// one is a policy of one band.
func one(burst, overflow uint64, b datapath.Band) datapath.Policy {
	b.UpTo = datapath.MaxImportance
	return datapath.Policy{Rate: planRate, Burst: burst, Overflow: overflow, Bands: []datapath.Band{b}}
}

// FormatDecision writes what a record says of the policy's decisions, in one line.
func FormatDecision(rec *datapath.Record) string {
	s := fmt.Sprintf("policy %d", rec.Policy)
	for _, f := range rec.Frames {
		s += fmt.Sprintf(" [track %d group %d cut %d plan %d priorities %d %d]", f.Track, f.Group, f.Cut, f.Plan, f.Subscriber, f.Priority)
	}
	return s
}

// wantPlan checks how many bytes were drawn from the plan of client 1, with the clock at 5 s.
func (r *Rig) wantPlan(bytes uint64) {
	r.Helper()
	if got := r.spaces[1].PlanTime(); got != 5e9+bytes*planByte && (bytes > 0 || got != 0) {
		r.Errorf("plan is full %d ns after now, want %d", int64(got-5e9), bytes*planByte)
	}
}

// begin is Basic(1) with the clock at 5 s.
func (r *Rig) begin() *datapath.Space {
	r.Helper()
	r.H.SetClock(5e9)
	r.Basic(1)
	return r.spaces[1]
}

// subgroup is the first frame of a stream of a group: 6 bytes, and 7 with the client's alias.
func subgroup(stream, group uint64) []byte {
	return Stream(stream, 0, Subgroup(5, group, 1, "x"), false)
}

// policyCases are about what a client's policy drops, and what waits.
var policyCases = []Case{
	{Name: "policy drops a share of streams", Run: func(r *Rig) {
		s := r.begin()
		r.Policy(1, datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: 0.5}}})
		r.Send(subgroup(2, 9), subgroup(6, 9))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropShare: 1},
			[]string{"client 1: number 0 of 0, forwarded, 40 bytes [2→0 0+7 slot 0 prio 1 opened drop_share] [6→3 0+7 slot 0 prio 1 opened]"},
			Out{1, 0, Stream(3, 0, Subgroup(101, 9, 1, "x"), false)})
		if s.PoolLen() != 3 || s.DataUsed() != 7 || s.PlanTime() != 0 {
			r.Errorf("%d stream IDs left, %d bytes used, plan time %d; want 3, 7, 0", s.PoolLen(), s.DataUsed(), s.PlanTime())
		}
		r.Send(Stream(2, 6, []byte("y"), true), Stream(6, 6, []byte("y"), true))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropStream: 1},
			[]string{"client 1: number 1 of 1, forwarded, 34 bytes [6→3 7+1 slot 0 prio 1 fin]"}, Out{Client: 1})
		r.Policy(1, datapath.Policy{}) // what was dropped stays so
		r.Send(subgroup(2, 9))
		r.Want(Counts{datapath.ReasonDropStream: 1}, nil)
		r.must(r.DP.Evict([]datapath.StreamKey{{Upstream: 1, Client: 1, Stream: 2}}))
		r.Send(subgroup(2, 9))
		r.Want(Counts{slow: 1}, nil)
		r.Send(subgroup(18, 9)) // sample 4
		r.Want(ok(1), []string{"client 1: number 2 of 4, forwarded, 40 bytes [18→7 0+7 slot 1 prio 1 opened]"}, Out{Client: 1})
	}},
	{Name: "policy drops a share of groups, and of datagrams", Run: func(r *Rig) {
		r.begin()
		r.Policy(1, datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: 0.5, ByGroup: true}}})
		r.Send(subgroup(2, 1), subgroup(6, 0))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropShare: 1},
			[]string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened] [6→0 0+7 slot 0 prio 1 opened drop_share]"}, Out{Client: 1})
		r.Policy(1, datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: 0.5}}})
		d := Datagram(ObjectDatagram(5, 9, 1, ""))
		r.Send(d) // packet 1, and then 2: a share of 0.618, and of 0.236
		r.Want(ok(1), []string{"client 1: number 1 of 1, forwarded, 37 bytes [datagram 0 +6 prio 1]"}, Out{Client: 1})
		r.Send(d, d)
		r.Want(Counts{datapath.ReasonDropShare: 2}, []string{"client 1: number 0 of 2, drop_share, 0 bytes [datagram 0 +6 prio 1 drop_share] [datagram 1 +6 prio 1 drop_share]"})
	}},
	{Name: "plan has no room for a stream", Run: func(r *Rig) {
		s := r.begin()
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, Priority: 3}))
		p := datapath.Policy{Rate: planRate, Burst: 20, Bands: []datapath.Band{{UpTo: datapath.Importance(3, 0)},
			{UpTo: datapath.Importance(3, 1), Reserve: 7}, {UpTo: datapath.MaxImportance, Reserve: 14}}}
		r.Policy(1, p)
		with := func(stream uint64, priority uint8) []byte {
			return Stream(stream, 0, Subgroup(5, 9, priority, "x"), false)
		}
		r.Send(with(2, 2)) // 7 of 6
		r.Want(Counts{datapath.ReasonDropReserve: 1}, []string{"client 1: number 0 of 0, drop_reserve, 0 bytes [2→0 0+7 slot 0 prio 2 opened drop_reserve]"})
		r.wantPlan(0)
		r.Send(with(6, 1)) // 7 of 13
		r.Want(ok(1), []string{"client 1: number 0 of 1, forwarded, 40 bytes [6→3 0+7 slot 0 prio 1 opened]"}, Out{Client: 1})
		r.wantPlan(7)
		r.Send(with(10, 1), with(14, 0)) // 14 of 13, 14 of 20
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropReserve: 1},
			[]string{"client 1: number 1 of 2, forwarded, 40 bytes [10→0 0+7 slot 0 prio 1 opened drop_reserve] [14→7 0+7 slot 1 prio 0 opened]"}, Out{Client: 1})
		r.wantPlan(14)
		// A nanosecond less than the time of one byte is not enough; all that a record tells of the decision is checked too.
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, Priority: 2}))
		for i, step := range []struct {
			at   uint64
			want datapath.Reason
		}{{5e9 + planByte - 1, datapath.ReasonDropReserve}, {5e9 + planByte, datapath.Forwarded}} {
			r.H.SetClock(step.at)
			p.Bands = p.Bands[2:]
			p.Bands[0].Reserve = 0
			r.Policy(1, p)
			p.Bands = append(make([]datapath.Band, 2), p.Bands...)
			r.Send(Datagram(ObjectDatagram(5, 9, 8, "x"))) // 7 bytes, of 20 less 14 and what came in meanwhile
			var got []string
			r.must(r.DP.Drain(func(rec *datapath.Record) {
				if f := rec.Frames[0]; f.Reason != step.want || len(rec.Frames) != 1 {
					r.Errorf("datagram %d: %s, want %v", i, FormatRecord(rec), step.want)
				}
				got = append(got, FormatDecision(rec))
			}))
			want := []string{fmt.Sprintf("policy %d [track 1 group 9 cut 0 plan %d priorities 2 8]", 2+i, 5e9+14*planByte-step.at)}
			if d := cmp.Diff(want, got); d != "" {
				r.Errorf("decision (-want +got):\n%s", d)
			}
		}
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropReserve: 1}, nil, Out{Client: 1})
		if at := s.PlanTime(); at != 5e9+21*planByte {
			r.Errorf("plan is full at %d, want %d", at, 5000000000+21*planByte)
		}
	}},
	{Name: "policy drops the rest of a stream", Run: func(r *Rig) {
		s := r.begin()
		r.Policy(1, one(7, 4, datapath.Band{}))
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
		r.Send(Stream(2, 6, []byte("yyyy"), false)) // burst and overflow, to the last byte
		r.Want(ok(1), []string{"client 1: number 1 of 1, forwarded, 37 bytes [2→3 7+4 slot 0 prio 1]"}, Out{Client: 1})
		r.wantPlan(11)
		r.Send(Stream(2, 10, []byte("z"), false))
		r.Want(Counts{datapath.ReasonDropReserve: 1}, []string{"client 1: number 0 of 2, drop_reserve, 0 bytes [2→3 11+1 slot 0 prio 1 drop_reserve]"})
		if word, _ := s.StreamWord(0); word != datapath.StreamClosed|datapath.StreamTag(3)|11 || s.DataUsed() != 11 {
			r.Errorf("stream word is %#x with %d bytes used, want closed at 11", word, s.DataUsed())
		}
		r.wantPlan(11)
		r.H.SetClock(6e9)
		r.Send(Stream(2, 10, []byte("z"), false))
		r.Want(Counts{datapath.ReasonDropStream: 1}, nil)
	}},
	{Name: "dropped stream's slot is another's", Run: func(r *Rig) {
		s := r.begin()
		r.Policy(1, one(7, 0, datapath.Band{}))
		r.Send(media)
		s.Reserve(31, 0, 1<<20) // gives slot 0 away
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropReserve: 1},
			[]string{opened, "client 1: number 0 of 1, drop_reserve, 0 bytes [2→3 7+1 slot 0 prio 1 drop_reserve]"}, Out{Client: 1})
		if word, _ := s.StreamWord(0); word != datapath.StreamTag(31) {
			r.Errorf("stream word is %#x, want that of a fresh stream 31", word)
		}
	}},
	{Name: "policy cuts a group", Run: func(r *Rig) {
		r.begin()
		r.Track(2, 6, 14)
		r.Subscribe(2, 1, 60)
		cut := datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.Importance(0, 1)}, {UpTo: datapath.MaxImportance, Drop: 1, Cut: true}}}
		r.Policy(1, cut)
		less := func(stream uint64) []byte { return Stream(stream, 0, Subgroup(5, 9, 2, "x"), false) }
		r.Send(subgroup(2, 9), less(6), subgroup(10, 9), Datagram(ObjectDatagram(5, 9, 1, "")))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropShare: 1, datapath.ReasonDropGroup: 2},
			[]string{"client 1: number 0 of 0, forwarded, 40 bytes [2→3 0+7 slot 0 prio 1 opened] [6→0 0+7 slot 0 prio 2 opened drop_share]" +
				" [10→0 0+7 slot 0 prio 1 opened drop_group] [datagram 0 +6 prio 1 drop_group]"}, Out{Client: 1})
		// What was begun goes on, other groups and tracks are not concerned.
		r.Send(Stream(2, 6, []byte("y"), false), subgroup(14, 8), subgroup(18, 10), Datagram(ObjectDatagram(6, 9, 1, "")))
		r.Want(ok(4), []string{"client 1: number 1 of 1, forwarded, 63 bytes [2→3 7+1 slot 0 prio 1] [14→7 0+7 slot 1 prio 1 opened]" +
			" [18→11 0+7 slot 2 prio 1 opened] [datagram 0 +5 prio 1]"}, Out{Client: 1})
		// A change of the subscription keeps the cut, also one of an older group does; a new subscription has none.
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, Priority: 0}))
		r.Send(Stream(22, 0, Subgroup(5, 3, 2, "x"), false), Datagram(ObjectDatagram(5, 9, 1, "")), Datagram(ObjectDatagram(5, 3, 1, "")))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropShare: 1, datapath.ReasonDropGroup: 1},
			[]string{"client 1: number 2 of 2, forwarded, 37 bytes [22→0 0+7 slot 0 prio 2 opened drop_share] [datagram 0 +6 prio 1 drop_group] [datagram 1 +6 prio 1]"}, Out{Client: 1})
		r.must(r.DP.SetSubscription(1, 1, nil))
		r.Subscribe(1, 1, 101)
		r.Send(Datagram(ObjectDatagram(5, 9, 1, "")))
		r.Want(ok(1), []string{"client 1: number 3 of 3, forwarded, 37 bytes [datagram 0 +6 prio 1]"}, Out{Client: 1})
	}},
	{Name: "rest of a stream cuts its group", Run: func(r *Rig) {
		r.begin()
		r.Policy(1, one(7, 0, datapath.Band{Cut: true}))
		r.Send(media)
		r.Send(Stream(2, 6, []byte("y"), false), Datagram(ObjectDatagram(5, 9, 1, "")))
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonDropReserve: 1, datapath.ReasonDropGroup: 1},
			[]string{opened, "client 1: number 0 of 1, drop_reserve, 0 bytes [2→3 7+1 slot 0 prio 1 drop_reserve] [datagram 0 +6 prio 1 drop_group]"}, Out{Client: 1})
	}},
	{Name: "admitted and held", Run: func(r *Rig) {
		s := r.begin()
		r.Policy(1, one(100, 0, datapath.Band{}))
		s.SetWaiting(uint32(datapath.Importance(0, 1)))
		d := func(priority uint8) []byte { return Datagram(ObjectDatagram(5, 9, priority, "")) }
		r.Send(media, Stream(2, 6, []byte("y"), false), d(1), d(0)) // what is held draws from the plan, if the datapath has it
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonWaiting: 3},
			[]string{"client 1: number 0 of 0, forwarded, 37 bytes [2→3 0+7 slot 0 prio 1 opened waiting] [datagram 1 +6 prio 0]"}, Out{Client: 1})
		r.wantPlan(7 + 1 + 6)
		if s.PoolLen() != 3 || s.DataUsed() != 0 {
			r.Errorf("%d stream IDs left, %d bytes used; want 3, 0", s.PoolLen(), s.DataUsed())
		}
		s.SetSendLimit(0)
		r.Send(Stream(6, 0, Subgroup(5, 9, 0, "x"), false), subgroup(10, 9)) // the budget is asked first
		r.Want(Counts{window: 2}, []string{"client 1: number 0 of 1, congestion_window, 0 bytes [6→7 0+7 slot 1 prio 0 opened congestion_window]" +
			" [10→11 0+7 slot 2 prio 1 opened congestion_window]"})
		r.wantPlan(28)
		s.SetSendLimit(datapath.Unlimited)
		s.SetWaiting(datapath.NothingWaits)
		s.SetDataLimit(0) // what fails later has drawn too
		r.Send(Stream(2, 7, []byte("z"), false))
		r.Want(Counts{datapath.ReasonConnectionCredit: 1}, nil)
		r.wantPlan(29)
		r.Send(Stream(2, 0, []byte{0x14}, false)) // without a place in the client's stream a frame has no size
		r.Want(Counts{datapath.ReasonPrefixSplit: 1}, nil)
		r.wantPlan(29)
	}},
	{Name: "reasons that come before the policy, and after it", Limits: datapath.Limits{ClientStreams: 1}, Run: func(r *Rig) {
		s := r.begin()
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, FirstGroup: 9}))
		all := one(0, 0, datapath.Band{Drop: 1, Cut: true})
		r.Policy(1, all)
		r.Send(subgroup(2, 8), Datagram(ObjectDatagram(5, 8, 1, "")))
		r.Want(Counts{datapath.ReasonFiltered: 2}, nil)
		r.Send(Stream(2, 6, []byte("y"), false))
		r.Want(Counts{slow: 1}, nil)
		s.SetSendLimit(0)
		s.SetWaiting(0)
		r.Send(subgroup(6, 9)) // takes the table's only place, with no ID
		r.Want(Counts{datapath.ReasonDropShare: 1}, []string{"client 1: number 0 of 2, drop_share, 0 bytes [6→0 0+7 slot 0 prio 1 opened drop_share]"})
		r.Send(subgroup(10, 9)) // is cut, and then slow
		r.Want(Counts{datapath.ReasonClientStreams: 1}, nil)
		r.Policy(1, datapath.Policy{})
		r.Send(subgroup(14, 9)) // nothing draws from the plan that is not the datapath's
		r.Want(Counts{datapath.ReasonClientStreams: 1}, nil)
		r.wantPlan(0)
		if s.PoolLen() != 3 {
			r.Errorf("%d stream IDs left, want 3", s.PoolLen())
		}
		if v := atomic.LoadUint64(s.Word(datapath.WordPolicy)) >> 2; v != 2 {
			r.Errorf("policy has version %d, want 2", v)
		}
	}},
	{Name: "client that comes back has no policy", Run: func(r *Rig) {
		r.begin()
		r.Policy(1, one(0, 0, datapath.Band{}))
		_, err := r.DP.SetClient(1, nil)
		r.must(err)
		r.Client(1, 4)
		r.Subscribe(1, 1, 101)
		r.Send(media)
		r.Want(ok(1), []string{opened}, Out{Client: 1})
		r.wantPlan(0)
	}},
}
