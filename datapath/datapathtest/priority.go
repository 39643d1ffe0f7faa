package datapathtest

import (
	"bytes"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// priorityID returns the n-th connection ID of 20 bytes with a priority as its last.
func priorityID(n, priority byte) []byte {
	id := CID(n)
	id[len(id)-1] = priority
	return id
}

// priorityClient sets a client that gets priorities, with a link and four reserved streams.
func (r *Rig) priorityClient(id datapath.ClientID) {
	r.dcid[id] = priorityID(byte(0x80+id), 0xee)
	r.Ready(r.AddClient(id, func(c *datapath.Client) { c.PriorityCID = true }), 4)
	r.Learn(id)
	r.Subscribe(1, id, 100+uint64(id))
}

// wantPriority sets the priority that is expected in the client's connection ID.
func (r *Rig) wantPriority(id datapath.ClientID, priority byte) {
	r.dcid[id] = priorityID(byte(0x80+id), priority)
}

// priorityCases are about the priority of the publisher in the last byte of a connection ID.
var priorityCases = []Case{
	{Name: "priority in the connection ID", Run: func(r *Rig) {
		r.Upstream(func(u *datapath.Upstream) { u.PriorityCID, u.CIDs = true, [][]byte{priorityID(1, 0)} })
		r.Track(1, 5, 14)
		r.priorityClient(1)
		r.Client(2, 4)
		r.Subscribe(1, 2, 102)
		r.Pub.CID = priorityID(1, 40)
		r.wantPriority(1, 40)
		d := Datagram(ObjectDatagram(5, 9, 200, ""))
		r.Send(media, d)
		r.Want(ok(4), []string{
			"client 1: number 0 of 0, forwarded, 60 bytes [2→3 0+7 slot 0 prio 40 opened] [datagram 0 +6 prio 40]",
			"client 2: number 0 of 0, forwarded, 48 bytes [2→3 0+7 slot 0 prio 40 opened] [datagram 0 +6 prio 40]",
		}, Out{1, 0, append(Stream(3, 0, Subgroup(101, 9, 1, "x"), false), Datagram(ObjectDatagram(101, 9, 200, ""))...)},
			Out{2, 0, append(Stream(3, 0, Subgroup(102, 9, 1, "x"), false), Datagram(ObjectDatagram(102, 9, 200, ""))...)})
		r.must(r.DP.SetSubscription(1, 2, nil))
		for i, p := range []byte{0, 255, 7} { // also of a stream that was opened with another one
			r.Pub.CID = priorityID(1, p)
			r.wantPriority(1, p)
			r.Send(Stream(2, uint64(6+i), []byte("y"), false))
			want := []string{
				"client 1: number 1 of 1, forwarded, 46 bytes [2→3 7+1 slot 0 prio 0]",
				"client 1: number 2 of 2, forwarded, 46 bytes [2→3 8+1 slot 0 prio 255]",
				"client 1: number 3 of 3, forwarded, 46 bytes [2→3 9+1 slot 0 prio 7]",
			}[i]
			r.Want(ok(1), []string{want}, Out{1, uint64(i + 1), Stream(3, uint64(7+i), []byte("y"), false)})
		}
	}},
	{Name: "the most important priority of a packet", Run: func(r *Rig) {
		r.Basic()
		r.priorityClient(1)
		r.must(r.DP.SetSubscription(1, 1, &datapath.Subscription{Alias: 101, FirstGroup: 9}))
		d := func(group uint64, priority uint8) []byte { return Datagram(ObjectDatagram(5, group, priority, "")) }
		r.wantPriority(1, 4)
		r.Send(d(9, 9), d(8, 0), d(9, 4), d(9, 250)) // the second is not forwarded
		out := func(priorities ...uint8) (b []byte) {
			for _, p := range priorities {
				b = append(b, Datagram(ObjectDatagram(101, 9, p, ""))...)
			}
			return b
		}
		r.Want(Counts{datapath.Forwarded: 3, datapath.ReasonFiltered: 1},
			[]string{"client 1: number 0 of 0, forwarded, 65 bytes [datagram 0 +6 prio 9] [datagram 2 +6 prio 4] [datagram 3 +6 prio 250]"}, Out{1, 0, out(9, 4, 250)})
		r.wantPriority(1, 255)
		r.Send(d(9, 255))
		r.Want(ok(1), []string{"client 1: number 1 of 1, forwarded, 49 bytes [datagram 0 +6 prio 255]"}, Out{1, 1, out(255)})
		r.AddClient(1, nil) // its priority is not wanted any more
		r.dcid[1] = priorityID(0x81, 0xff)
		r.Send(d(9, 3))
		r.Want(ok(1), []string{"client 1: number 2 of 2, forwarded, 49 bytes [datagram 0 +6 prio 3]"}, Out{1, 2, out(3)})
	}},
	{Name: "last byte of a connection ID", Run: func(r *Rig) {
		r.Basic(1)
		set := func(priority bool, last byte) {
			r.Upstream(func(u *datapath.Upstream) { u.PriorityCID, u.CIDs = priority, [][]byte{priorityID(1, last)} })
		}
		send := func(last byte, found bool) {
			r.Helper()
			r.Pub.CID = priorityID(1, last)
			r.Send(wire.AppendPing(nil))
			reason := datapath.ReasonUnknownCID
			if found {
				reason = datapath.ReasonNoMedia
			}
			r.Want(Counts{reason: 1}, nil)
		}
		set(false, 0)
		send(0, true)
		send(1, false)
		set(true, 0)
		send(0, true)
		send(1, true)
		set(false, 0)
		send(1, false)
		set(false, 9) // takes the place of the other
		send(0, false)
		send(9, true)
		r.must(r.DP.SetUpstream(1, nil))
		send(9, false)
	}},
	{Name: "connection IDs that are refused", Run: func(r *Rig) {
		r.Basic(1)
		up := func(id datapath.UpstreamID, priority bool, cids ...[]byte) error {
			return r.DP.SetUpstream(id, &datapath.Upstream{Remote: r.Pub.From.Addr, CIDs: cids, Streams: 2, PriorityCID: priority,
				Protection: datapath.Protection{Version: wire.Version1}})
		}
		_, short := r.DP.SetClient(2, &datapath.Client{Local: r.Relay.Addr, Remote: r.subscriber(2).Addr, DCID: make([]byte, 19), MaxSize: 1252,
			PriorityCID: true, Protection: datapath.Protection{Version: wire.Version1}})
		for name, err := range map[string]error{
			"no place for a priority":            up(2, true, priorityID(9, 1)),
			"too short":                          up(2, false, CID(9)[1:]),
			"two that differ in the last byte":   up(2, false, priorityID(9, 1), priorityID(9, 2)),
			"as another's but for the last byte": up(2, false, priorityID(1, 0)),
			"of a client, too short":             short,
		} {
			if err == nil {
				r.Errorf("%s: no error", name)
			}
		}
		r.must(up(2, false, priorityID(9, 1), priorityID(9, 1)))
		r.Send(media) // all is as it was
		r.Want(ok(1), []string{opened}, Out{Client: 1})
	}},
	{Name: "priority under packet protection", Run: func(r *Rig) {
		const cipher = datapath.CipherAES128GCM
		protection := datapath.Protection{Cipher: cipher, Version: wire.Version1, Secret: bytes.Repeat([]byte{1}, 32)}
		if !r.H.Supports(cipher) {
			r.refused(func(byte) datapath.Protection { return protection })
			return
		}
		keys := func() *wire.Keys {
			k, err := wire.NewKeys(wire.Suite(cipher), protection.Version, protection.Secret)
			r.must(err)
			return k
		}
		r.Upstream(func(u *datapath.Upstream) {
			u.PriorityCID, u.CIDs, u.Protection = true, [][]byte{priorityID(1, 0)}, protection
		})
		r.Track(1, 5, 14)
		r.priorityClient(1)
		r.AddClient(1, func(c *datapath.Client) { c.PriorityCID, c.Protection = true, protection })
		r.Pub.Keys, r.Pub.CID = keys(), priorityID(1, 40)
		frame := r.Pub.Frame(0, media)
		forged := bytes.Clone(frame)
		forged[r.udpAt()+8+datapath.CIDLen] = 3 // the byte is authenticated as it is on the wire
		r.H.Publish(forged)
		r.H.Publish(frame)
		got := r.H.Collect()
		if len(got) != 1 {
			r.Fatalf("%d packets came out, want 1", len(got))
		}
		sent, err := ParseFrame(got[0])
		r.must(err)
		if id := sent.Payload[1 : 1+datapath.CIDLen]; !bytes.Equal(id, priorityID(0x81, 40)) {
			r.Errorf("connection ID is %x", id)
		}
		var o wire.Opened
		r.must(keys().Open(nil, sent.Payload, datapath.CIDLen, 0, &o))
		if want := Stream(3, 0, Subgroup(101, 9, 1, "x"), false); !bytes.Equal(o.Payload, want) {
			r.Errorf("payload is %x, want %x", o.Payload, want)
		}
		r.Want(Counts{datapath.Forwarded: 1, datapath.ReasonAuth: 1},
			[]string{"client 1: number 0 of 0, forwarded, 52 bytes [2→3 0+7 slot 0 prio 40 opened]"})
	}},
}
