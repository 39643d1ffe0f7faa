package props_test

import (
	"bytes"
	"fmt"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// connection is what userspace, and the client, know of one client, from its coming to its leaving.
type connection struct {
	id          datapath.ClientID
	incarnated  int
	generation  uint8
	space       *datapath.Space
	side        datapathtest.Side
	dcid        []byte
	marked      bool // the last byte of dcid tells the priority of each packet
	first       uint64
	largest     uint64 // of the client: next number expected
	numbers     map[uint64]string
	wire        map[uint64]wirePacket
	records     map[uint64]datapath.Record
	failed      map[uint64]bool // numbers whose packet was not sent
	bytes       uint64
	maxDatagram uint64
	ownData     uint64
	maxData     uint64
	streams     map[uint64]*clientStream
	nextID      uint64
	free        []uint8
	subs        map[datapath.TrackID]*subscription
	busy, gone  bool
}

func (c *connection) String() string { return fmt.Sprintf("%d.%d", c.id, c.incarnated) }

type wirePacket struct {
	payload []byte
	size    int
	mark    byte // last byte of the connection ID
}

// clientStream is a reserved stream of a connection.
type clientStream struct {
	id      uint64
	slot    uint8
	limit   uint64
	source  *pubStream // that the datapath opened it for
	sub     *subscription
	highest uint64 // that records and userspace tell of
	onWire  uint64
	closed  bool
	final   uint64
	freed   bool // its slot belongs to another
}

// subscription is one, from joining to leaving.
type subscription struct {
	datapath.Subscription
	track  datapath.TrackID
	opened map[*pubStream]*clientStream
	slow   map[*pubStream]bool // decided: userspace has read the stream's start, and no record had come
	left   bool
}

// use notes that a number was sent.
func (c *connection) use(w *world, number uint64, by string) {
	if other, ok := c.numbers[number]; ok {
		w.violate("P1", "number %d of connection %v is used by %s and by %s", number, c, other, by)
	}
	c.numbers[number] = by
}

// connect makes a client, with a number to start from: quic-go has sent packets before.
func (w *world) connect(id datapath.ClientID, first uint64) *connection {
	n := len(w.all)
	c := &connection{id: id, incarnated: n, first: first, largest: first, side: hostSide(byte(20+n), 5000), dcid: []byte{byte(n), 1, 2, 3},
		numbers: make(map[uint64]string), wire: make(map[uint64]wirePacket), records: make(map[uint64]datapath.Record), failed: make(map[uint64]bool), maxDatagram: 100,
		streams: make(map[uint64]*clientStream), subs: make(map[datapath.TrackID]*subscription), nextID: 3, maxData: 1 << 20}
	if c.marked = n%2 == 1; c.marked {
		c.dcid = append(bytes.Repeat([]byte{byte(n)}, datapath.CIDLen-1), 0)
	}
	if first > 0 {
		c.numbers[first-1] = "the handshake"
	}
	if w.prof.pressure {
		c.maxData, c.maxDatagram = 150, 14
	}
	maxSize := 1252
	if w.prof.window > 0 {
		maxSize = windowSize
	}
	space, err := w.sim.SetClient(id, &datapath.Client{Local: w.relay.Addr, Remote: c.side.Addr, DCID: c.dcid, MaxSize: maxSize, MaxDatagram: c.maxDatagram, PriorityCID: c.marked,
		Protection: datapath.Protection{Version: wire.Version1}})
	w.must(err)
	c.space, c.generation = space, space.Generation()
	w.all = append(w.all, c)
	if !w.bug.noSetNext {
		space.SetNext(first)
	}
	space.SetDataLimit(c.maxData)
	if w.prof.window > 0 {
		space.SetSendLimit(w.prof.window)
	}
	if w.prof.policies {
		w.must(space.SetPolicy(&w.policy))
		space.SetWaiting(w.waiting)
	}
	w.sim.ClientIngress(datapathtest.UDPFrame(c.side, w.relay, []byte{0x40}), 1, w.at)
	for i := range uint8(6) {
		c.free = append(c.free, i)
	}
	for range 3 {
		w.reserve(c)
	}
	if w.bug.connected != nil {
		w.bug.connected(w, c)
	}
	w.live[id] = c
	return c
}

func (w *world) reserve(c *connection) {
	if len(c.free) == 0 {
		return
	}
	s := &clientStream{id: c.nextID, slot: c.free[0], limit: 1 << 20}
	if w.prof.pressure {
		s.limit = 40
	}
	c.nextID += 4
	c.free = c.free[1:]
	c.streams[s.id] = s
	if !c.space.Reserve(s.id, s.slot, s.limit) {
		w.violate("P4", "the pool of connection %v is full with 6 slots", c)
	}
}

func (w *world) join(c *connection, tr datapath.TrackID, first uint64) {
	if c.subs[tr] != nil {
		return
	}
	s := &subscription{track: tr, opened: make(map[*pubStream]*clientStream), slow: make(map[*pubStream]bool)}
	s.Alias, s.FirstGroup = 100+uint64(tr)+300*uint64(c.incarnated), first
	c.subs[tr] = s
	told := s.Subscription
	if w.bug.joining != nil {
		w.bug.joining(&told)
	}
	if err := w.sim.SetSubscription(tr, c.id, &told); err != nil {
		delete(c.subs, tr)
	}
}

func (w *world) leave(c *connection, tr datapath.TrackID) {
	s := c.subs[tr]
	if s == nil || s.left || c.gone {
		return
	}
	s.left = true
	if !w.bug.noLeave {
		w.must(w.sim.SetSubscription(tr, c.id, nil))
	}
	w.grace()
	w.drain() // what is told afterwards is the next subscription's
	delete(c.subs, tr)
}

// disconnect is a client that goes; another comes to its place.
func (w *world) disconnect(c *connection, first uint64) {
	if c.gone {
		return
	}
	for c.busy {
		w.sched.step(true)
	}
	if c.gone {
		return
	}
	c.gone = true
	id := c.id
	_, err := w.sim.SetClient(id, nil)
	w.must(err)
	if !w.bug.hasty {
		w.grace()
		w.drain()
	}
	delete(w.live, id)
	w.connect(id, first)
}
