package props_test

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// profile says what a property wants of its cases. The zero value of a field is the usual.
type profile struct {
	packets int   // at most, of each publisher
	ops     int   // at most, of each userspace task
	kinds   []int // of what userspace does; default: all
	still   bool  // nobody joins, leaves or changes
	single  bool  // one media frame in a packet
	anyCPU  bool  // packets of one upstream may be on several CPUs at once
	tight   bool  // small tables
	failing bool  // sends fail
	// unreadable: some packets are ones that the datapath cannot read.
	unreadable bool
	pressure   bool   // small limits of the clients
	window     uint64 // send limit of the clients; default: none
	priority   func(t *rapid.T) uint8
	policies   bool // clients have policies
}

// world is publishers, a datapath on several CPUs, and userspace.
type world struct {
	prof    profile
	bug     *defect
	sched   *schedule
	sim     *sim.Sim
	relay   datapathtest.Side
	at      time.Time
	pubs    []*publisher
	limits  datapath.Limits
	clients int
	live    map[datapath.ClientID]*connection
	all     []*connection
	flying  []*pubPacket // by CPU: what it forwards now
	flown   []int        // by CPU: packets that it has finished
	cpus    [][]*pubPacket
	socket  []*pubPacket // what userspace has not read yet
	seen    map[*publisher]map[uint64]bool
	records []datapath.Record
	policy  datapath.Policy
	waiting uint32
	dropped map[datapath.ClientID]map[droppedStream]bool // true: at its start
	sendErr []bool
	sends   int
	lost    int // of defects
	wrong   []error
}

// violate notes that an invariant does not hold.
func (w *world) violate(name, format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Errorf("%s: "+format, append([]any{name}, args...)...))
}

// verdict returns what is wrong; with a defect, what the property finds.
func (w *world) verdict(name string) error {
	for _, err := range w.wrong {
		if w.bug.name == "" || len(err.Error()) > len(name) && err.Error()[:len(name)+1] == name+":" {
			return err
		}
	}
	return nil
}

// drawWorld draws all that will happen, and runs it.
func runWorld(t *rapid.T, prof profile, bug *defect) *world {
	if prof.priority == nil {
		prof.priority = func(*rapid.T) uint8 { return 7 }
	}
	w := &world{prof: prof, bug: bug, sched: drawSchedule(t), relay: hostSide(1, 443), at: time.Unix(1000, 0),
		live: make(map[datapath.ClientID]*connection), seen: make(map[*publisher]map[uint64]bool)}
	if prof.tight {
		w.limits.Streams = uint32(rapid.IntRange(1, 6).Draw(t, "room for streams"))
		w.limits.ClientStreams = uint32(rapid.IntRange(1, 8).Draw(t, "room for client streams"))
		w.limits.RingBytes = 4096
	}
	w.waiting, w.dropped = datapath.NothingWaits, make(map[datapath.ClientID]map[droppedStream]bool)
	if !prof.policies { // every property holds with them too
		prof.policies = rapid.IntRange(0, 3).Draw(t, "policies") == 0
		w.prof.policies = prof.policies
	}
	if prof.policies {
		w.policy = drawPolicy(t, 400)
		w.waiting = rapid.SampledFrom([]uint32{datapath.NothingWaits, datapath.NothingWaits, 0}).Draw(t, "waits")
	}
	if prof.failing {
		w.sendErr = rapid.SliceOfN(rapid.Bool(), 1, 20).Draw(t, "sends that fail")
	}
	w.sim = sim.New(sim.Config{Limits: w.limits, Port: w.relay.Addr.Port(), Send: w.send, Step: w.step, Await: w.await})
	for i := range datapath.UpstreamID(rapid.IntRange(1, 2).Draw(t, "publishers")) {
		p := drawPublisher(t, i, w.relay, prof)
		w.pubs = append(w.pubs, p)
		w.seen[p] = make(map[uint64]bool)
		first := p.next
		for _, pk := range p.packets {
			first = min(first, pk.number)
		}
		w.must(w.sim.SetUpstream(i, &datapath.Upstream{Remote: p.builder.From.Addr, CIDs: [][]byte{p.builder.CID}, Streams: 2,
			NextNumber: first, Protection: datapath.Protection{Version: wire.Version1}}))
		for _, tr := range p.tracks {
			w.must(w.sim.SetTrack(tr, &datapath.Track{Upstream: i, Alias: p.aliases[tr], Draft: 14}))
		}
	}
	w.clients = rapid.IntRange(1, 3).Draw(t, "clients")
	for id := range datapath.ClientID(w.clients) {
		w.connect(id, rapid.SampledFrom([]uint64{0, 5, 1<<16 - 4, 1<<32 - 4, 1<<32 + 7}).Draw(t, "first number"))
		for _, p := range w.pubs {
			for _, tr := range p.tracks {
				if prof.still || rapid.IntRange(0, 3).Draw(t, "subscribed") > 0 {
					w.join(w.live[id], tr, uint64(rapid.IntRange(0, 1).Draw(t, "first group")))
				}
			}
		}
	}
	w.cpus = make([][]*pubPacket, 2)
	if prof.anyCPU {
		w.cpus = make([][]*pubPacket, 3)
	}
	for i, p := range w.pubs {
		for _, pk := range p.packets {
			cpu := i
			if prof.anyCPU {
				cpu = rapid.IntRange(0, 2).Draw(t, "CPU")
			}
			w.cpus[cpu] = append(w.cpus[cpu], pk)
		}
	}
	w.flying, w.flown = make([]*pubPacket, len(w.cpus)), make([]int, len(w.cpus))
	for i := range w.cpus {
		w.sched.add(fmt.Sprint("CPU ", i), func() { w.cpu(i) })
	}
	for i := range 2 {
		ops := drawOps(t, prof)
		w.sched.add(fmt.Sprint("userspace ", i), func() {
			for _, op := range ops {
				w.do(op)
				w.sched.step(false)
			}
		})
	}
	if err := w.sched.run(); err != nil {
		w.violate("P12", "%v", err)
		w.violate(bug.property, "%v", err)
		return w
	}
	w.sched.choices = []uint8{0}
	w.drain()
	w.settle()
	return w
}

func (w *world) must(err error) {
	if err != nil {
		panic(err)
	}
}

// errUnwritten ends a Drain that should have waited.
var errUnwritten = errors.New("record is being written")

func (w *world) step(waiting bool) {
	if waiting && w.bug.noWait && w.sched.current != nil && w.sched.current.draining {
		panic(errUnwritten)
	}
	w.sched.step(waiting)
}

func (w *world) await(call string, pending func() bool) {
	for call != w.bug.noAwait && pending() {
		w.step(true)
	}
}

// cpu takes the packets of one CPU.
func (w *world) cpu(i int) {
	for _, pk := range w.cpus[i] {
		w.flying[i] = pk
		frame := pk.frame
		if w.bug.inbound != nil {
			frame = w.bug.inbound(w, pk, frame)
		}
		if !pk.unreadable {
			w.sim.ServerIngress(frame, 1, w.at)
		}
		w.flying[i] = nil
		w.flown[i]++
		w.socket = append(w.socket, pk)
		w.sched.step(false)
	}
}

// grace waits until every CPU has finished the packet that it is at, as the kernel datapath does before a call that removes something
// returns (quiesce in datapath/ebpf). The simulator has a lock for that, but not here.
func (w *world) grace() {
	if w.bug.hasty {
		return
	}
	was := append([]int(nil), w.flown...)
	for i := range was {
		for w.flying[i] != nil && w.flown[i] == was[i] {
			w.sched.step(true)
		}
	}
}

var errSend = errors.New("queue is full")

// send is the network behind the datapath.
func (w *world) send(frame []byte, _ int, _ time.Time) error {
	w.sends++
	s, err := datapathtest.ParseFrame(frame)
	if err != nil {
		w.violate("P11", "%v", err)
		return nil
	}
	for _, c := range w.all {
		if c.side.Addr == s.Dst {
			return w.receive(c, bytes.Clone(s.Payload), len(w.sendErr) > 0 && w.sendErr[w.sends%len(w.sendErr)])
		}
	}
	w.violate("P7", "packet to %v, which is nobody", s.Dst)
	return nil
}

// receive is a client that gets a packet of the datapath, or does not: then sending fails.
func (w *world) receive(c *connection, p []byte, fails bool) error {
	if w.bug.network != nil {
		p = w.bug.network(w, c, p)
	}
	named := len(c.dcid) // bytes of the connection ID that name it
	if c.marked {
		named--
	}
	if len(p) < 1+len(c.dcid)+4+16 || p[0] != 0x43 || !bytes.Equal(p[1:1+named], c.dcid[:named]) {
		w.violate("P1", "packet %x is not for connection %v", p, c)
		return nil
	}
	at := 1 + len(c.dcid)
	truncated := uint64(p[at])<<24 | uint64(p[at+1])<<16 | uint64(p[at+2])<<8 | uint64(p[at+3])
	number := wire.DecodePacketNumber(c.largest, truncated, 4)
	c.largest = max(c.largest, number+1)
	if fails {
		c.use(w, number, "a failed send")
		c.failed[number] = true
		return errSend
	}
	c.use(w, number, "datapath")
	c.wire[number] = wirePacket{payload: p[at+4 : len(p)-16], size: len(p), mark: p[len(c.dcid)]}
	w.checkLimits(c, number, p[at+4:len(p)-16])
	w.checkBudget(c, len(p))
	return nil
}

// checkLimits is P4 at the moment that a packet is sent.
func (w *world) checkLimits(c *connection, number uint64, frames []byte) {
	var f wire.Frame
	for len(frames) > 0 {
		n, err := f.Parse(frames)
		if err != nil {
			w.violate("P2", "packet %d: %v", number, err)
			return
		}
		frames = frames[n:]
		if f.IsDatagram() && uint64(len(f.Raw)) > c.maxDatagram {
			w.violate("P4", "DATAGRAM frame of %d bytes, max_datagram_frame_size is %d", len(f.Raw), c.maxDatagram)
		}
		if !f.IsStream() {
			continue
		}
		s := c.streams[f.V[0]]
		if s == nil {
			w.violate("P4", "packet %d has stream %d, which was not reserved", number, f.V[0])
			continue
		}
		end := f.Offset + uint64(len(f.Data))
		s.onWire = max(s.onWire, end)
		if end > s.limit {
			w.violate("P4", "stream %d is sent up to %d, its limit is %d", s.id, end, s.limit)
		}
		if s.closed && end > s.final {
			w.violate("P4", "stream %d is sent up to %d after its final size was %d", s.id, end, s.final)
		}
	}
	sum := c.ownData
	for _, s := range c.streams {
		sum += s.onWire
	}
	if sum > c.maxData {
		w.violate("P4", "%d bytes are sent, MAX_DATA is %d", sum, c.maxData)
	}
}

// windowSize is the largest packet where a property has a window.
const windowSize = 160

// checkBudget is P9 for the window: one packet too much for each other sender, which are the CPUs and userspace.
func (w *world) checkBudget(c *connection, size int) {
	c.bytes += uint64(size)
	if most := w.prof.window + uint64(len(w.cpus))*windowSize; w.prof.window > 0 && c.bytes > most {
		w.violate("P9", "%d bytes are sent to connection %v, its window is %d", c.bytes, c, w.prof.window)
	}
}
