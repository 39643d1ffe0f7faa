package props_test

import (
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// defect is a deliberate fault between the parts, or in one that the model stands for. The zero value is none. Where a
// field is nil, nothing is wrong.
type defect struct {
	name     string
	lesson   int    // of the prototype's defects, as docs/invariants.md numbers them; 0: not one of them
	property string // those that catch it

	// Of the datapath's world.
	connected func(w *world, c *connection)                                   // after a client has come
	joining   func(s *datapath.Subscription)                                  // what the datapath is told
	inbound   func(w *world, p *pubPacket, frame []byte) []byte               // before the datapath
	network   func(w *world, c *connection, packet []byte) []byte             // behind it
	record    func(w *world, r *datapath.Record) bool                         // on the way to userspace; false: lost
	drain     func(w *world, f func(*datapath.Record)) error                  // instead of Drain
	counters  func(c *datapath.Counters)                                      // what is counted
	take      func(w *world, c *connection) uint64                            // instead of TakeNumber
	charge    func(w *world, c *connection, n uint64) bool                    // instead of Charge
	advance   func(w *world, c *connection, s *clientStream, end uint64) bool // instead of Advance
	finalSize func(w *world, c *connection, s *clientStream, final uint64) uint64
	noSetNext bool   // a client's first number is not set
	noLeave   bool   // the datapath is not told of who leaves
	noDrain   bool   // records are not read before packets and ACKs
	askFirst  bool   // who has a stream is asked before the datapath is kept from opening it
	askAmid   bool   // who has a stream is asked in the middle of the fan-out that opens it
	noWait    bool   // records that are being written are not waited for
	noAwait   string // the call that does not wait for fan-outs under way
	hasty     bool   // what was removed is used again while packets of it are under way

	budget budgetDefect // of P8 and P9
	auth   func(w *twins, frame []byte)
	system systemDefect // of P2, P10 and P12
}

var defects = []defect{
	// Numbers.
	{name: "numbers are 16 bits wide", lesson: 1, property: "P1", network: func(_ *world, c *connection, p []byte) []byte {
		p[1+len(c.dcid)], p[2+len(c.dcid)] = 0, 0
		return p
	}},
	{name: "the number counter is read and written without atomics", lesson: 2, property: "P1", take: func(w *world, c *connection) uint64 {
		next := c.space.Word(datapath.WordNext)
		n := atomic.LoadUint64(next)
		w.sched.step(false)
		atomic.StoreUint64(next, n+1)
		return n
	}},
	{name: "long headers take numbers of the 1-RTT space", lesson: 3, property: "P1", take: func(_ *world, c *connection) uint64 {
		c.space.TakeNumber() // of a handshake packet
		return c.space.TakeNumber()
	}},
	{name: "a client starts at number 0 though quic-go has sent packets", property: "P1", noSetNext: true},
	{name: "one counter for all clients", lesson: 16, property: "P1", take: func(w *world, _ *connection) uint64 {
		return w.all[0].space.TakeNumber()
	}},
	{name: "the number of a failed send is given back", property: "P1", record: func(w *world, r *datapath.Record) bool {
		if c := w.live[r.Client]; c != nil && r.Reason == datapath.ReasonSendFailed {
			atomic.AddUint64(c.space.Word(datapath.WordNext), ^uint64(0))
		}
		return true
	}},
	{name: "a client's place is given to the next while packets of it are under way", property: "P1 by churn", hasty: true},

	// Streams.
	{name: "stream IDs are three bits wide", lesson: 9, property: "P3", network: func(_ *world, c *connection, p []byte) []byte {
		if at := 1 + len(c.dcid) + 4; wire.FrameType(p[at])&^7 == 8 {
			p[at+1] &= 7
		}
		return p
	}},
	{name: "userspace takes a stream before it has read the records", lesson: 5, property: "P3, P6", noDrain: true},
	{name: "Drain does not wait for a fan-out under way", property: "P3 on two CPUs", noAwait: "Drain"},
	{name: "Evict does not wait for a fan-out under way", property: "P3 on two CPUs with evictions", noAwait: "Evict"},
	{name: "the relay asks who has a stream before it evicts it", property: "P3 with packets that cannot be read", askFirst: true},
	{name: "the relay asks who has a stream while it is being opened", property: "P3 with packets that cannot be read", askAmid: true},
	{name: "clients cannot leave", lesson: 14, property: "P3", noLeave: true},
	{name: "records name no client", lesson: 4, property: "P3, P7", record: func(_ *world, r *datapath.Record) bool {
		r.Client, r.Generation = 0, 0
		return true
	}},

	// Credit.
	{name: "credit that was not there is kept", property: "P4", charge: func(_ *world, c *connection, n uint64) bool {
		return atomic.AddUint64(c.space.Word(datapath.WordDataUsed), n) <= c.maxData
	}},
	{name: "credit is looked at and then taken", lesson: 2, property: "P4 with little", charge: func(w *world, c *connection, n uint64) bool {
		if c.space.DataUsed()+n > c.maxData {
			return false
		}
		w.sched.step(false)
		atomic.AddUint64(c.space.Word(datapath.WordDataUsed), n)
		return true
	}},
	{name: "limits are raised to 2^60", lesson: 13, property: "P4", connected: func(_ *world, c *connection) {
		c.space.SetDataLimit(1 << 60)
		for _, s := range c.streams {
			c.space.SetStreamLimit(s.slot, 1<<60)
		}
	}},
	{name: "repairs are not charged", lesson: 12, property: "P4", advance: func(w *world, c *connection, s *clientStream, end uint64) bool {
		word := c.space.Word(datapath.WordSlots + 2*int(s.slot))
		if old := atomic.LoadUint64(word); end > old&datapath.StreamOffset {
			atomic.StoreUint64(word, old&^uint64(datapath.StreamOffset)|end)
		}
		return true
	}},
	{name: "the final size is what the records tell of", property: "P4", finalSize: func(_ *world, _ *connection, s *clientStream, _ uint64) uint64 {
		return s.highest
	}},
	{name: "a stream that is reset is not closed for the datapath", property: "P4", finalSize: func(_ *world, c *connection, s *clientStream, final uint64) uint64 {
		atomic.AndUint64(c.space.Word(datapath.WordSlots+2*int(s.slot)), ^uint64(datapath.StreamClosed))
		return final
	}},
	{name: "with a full table streams go out untranslated", lesson: 7, property: "P4", network: func(w *world, c *connection, p []byte) []byte {
		if at := 1 + len(c.dcid) + 4; w.sends > 4 && wire.FrameType(p[at])&^7 == 8 {
			p[at+1] &^= 1
		}
		return p
	}},
	{name: "control streams are forwarded", lesson: 8, property: "P4, P10 of the datapath", network: func(_ *world, _ *connection, p []byte) []byte {
		tag := len(p) - datapath.TagLen
		control := wire.AppendStream(nil, 1, 0, []byte("control"), false, true)
		return append(append(p[:tag:tag], control...), p[tag:]...)
	}},
	{name: "the filter is ignored", property: "P10 of the datapath", joining: func(s *datapath.Subscription) { s.FirstGroup = 0 }},

	// Records and reasons.
	{name: "rewriting the connection ID loses the priority in it", lesson: 11, property: "P7", network: func(_ *world, c *connection, p []byte) []byte {
		p[len(c.dcid)] = c.dcid[len(c.dcid)-1]
		return p
	}},
	{name: "a full ring loses records", lesson: 4, property: "P6, P7", record: func(w *world, _ *datapath.Record) bool {
		w.lost++
		return w.lost%8 != 3
	}},
	{name: "records that are being written are not waited for", lesson: 5, property: "P6", noWait: true},
	{name: "slow streams are not counted", property: "P7", counters: func(c *datapath.Counters) { c[datapath.ReasonSlowStream] = 0 }},
	{name: "failed sends count as sent too", property: "P7", counters: func(c *datapath.Counters) {
		c[datapath.Forwarded] += c[datapath.ReasonSendFailed]
	}},
	{name: "duplicates pass the replay window", property: "P7", inbound: func(w *world, p *pubPacket, frame []byte) []byte {
		w.lost++
		b := p.pub.builder
		b.PNLen = 4
		return b.Frame(p.pub.next+uint64(w.lost), p.frames)
	}},
}
