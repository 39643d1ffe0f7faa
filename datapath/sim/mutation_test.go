package sim

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/rules"
)

// mutation is a defect: what a wrong simulator does around a packet, or around a call. Nil is what a right one does.
type mutation struct {
	name   string
	packet func(s *Sim, play func())
	call   func(s *Sim, play func())
	frame  func(out []byte) // changes a frame that goes out
}

// word adds 1 to a word of every client's space while play runs, unless it says that there is no limit.
func word(i int) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		var raised []*uint64
		for _, space := range s.spaces {
			if space != nil && *space.Word(i) != datapath.Unlimited {
				*space.Word(i)++
				raised = append(raised, space.Word(i))
			}
		}
		play()
		for _, w := range raised {
			*w--
		}
	}
}

// grown changes a word by n after it has grown.
func grown(i int, n uint64) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		before := make([]uint64, len(s.spaces))
		for id, space := range s.spaces {
			if space != nil {
				before[id] = *space.Word(i)
			}
		}
		play()
		for id, space := range s.spaces {
			if space != nil && *space.Word(i) > before[id] {
				*space.Word(i) += n
			}
		}
	}
}

// counted calls f for every space after a reason was counted.
func counted(r datapath.Reason, f func(s *Sim, space *datapath.Space)) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		before := s.counters[r]
		play()
		if s.counters[r] > before {
			for _, space := range s.spaces {
				if space != nil {
					f(s, space)
				}
			}
		}
	}
}

// records calls f for every record that play makes.
func records(f func(s *Sim, e *entry)) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		n := s.ring.tail - s.ring.head
		play()
		for at := s.ring.head + n; at < s.ring.tail; at++ {
			f(s, s.ring.entries[at%uint64(len(s.ring.entries))])
		}
	}
}

// window keeps what f returns of each upstream as it was, if the upstream stays.
func window[T any](f func(u *upstream) *T) func(*Sim, func()) {
	return func(s *Sim, play func()) {
		was := make(map[int]T)
		for id, u := range s.upstreams {
			if u != nil {
				was[id] = *f(u)
			}
		}
		play()
		for id, u := range s.upstreams {
			if v, ok := was[id]; ok && u != nil {
				*f(u) = v
			}
		}
	}
}

func sentFrames(s *Sim, play func()) {
	was := maps.Clone(s.sent)
	play()
	for k, v := range was {
		s.sent[k] = v
	}
}

var mutations = []mutation{
	{name: "the watermark is not raised", packet: window(func(u *upstream) *uint64 { return &u.watermark })},
	{name: "the largest number is not kept", packet: window(func(u *upstream) *uint64 { return &u.next })},
	{name: "the window forgets", packet: window(func(u *upstream) *[datapath.ReplaySlots]uint64 { return &u.replay })},
	{name: "connection credit is off by one", packet: word(datapath.WordDataLimit)},
	{name: "the largest size is off by one", packet: word(datapath.WordMaxSize)},
	{name: "the send limit is off by one", packet: word(datapath.WordSendLimit)},
	{name: "the burst is off by a nanosecond", packet: word(datapath.WordPaceBurst)},
	{name: "stream credit is off by one", packet: func(s *Sim, play func()) {
		add := func(n uint64) {
			for _, space := range s.spaces {
				for i := 0; space != nil && i < datapath.Slots; i++ {
					*space.Word(datapath.WordSlots + 2*i + 1) += n
				}
			}
		}
		add(1)
		play()
		add(^uint64(0))
	}},
	{name: "a number is taken twice", packet: grown(datapath.WordNext, ^uint64(0))},
	{name: "the tag is not charged", packet: grown(datapath.WordSent, ^uint64(datapath.TagLen-1))},
	{name: "pacing is charged twice", packet: grown(datapath.WordPaceTime, 1)},
	{name: "credit is not given back", packet: counted(datapath.ReasonConnectionCredit, func(_ *Sim, space *datapath.Space) { *space.Word(datapath.WordDataUsed) += 5 })},
	{name: "a stream ID is given back when the table is full", packet: counted(datapath.ReasonClientStreams, func(_ *Sim, space *datapath.Space) {
		if *space.Word(datapath.WordPoolHead) > 0 {
			*space.Word(datapath.WordPoolHead)--
		}
	})},
	{name: "media frames beyond the fourth are counted once more", packet: counted(datapath.ReasonTooManyMedia, func(s *Sim, _ *datapath.Space) { s.counters[datapath.ReasonTooManyMedia]++ })},
	{name: "records are in the wrong order", packet: func(s *Sim, play func()) {
		n := s.ring.tail - s.ring.head
		play()
		if at := s.ring.head + n; at+2 <= s.ring.tail {
			size := uint64(len(s.ring.entries))
			a, b := s.ring.entries[at%size], s.ring.entries[(at+1)%size]
			a.record.Client, b.record.Client = b.record.Client, a.record.Client
			a.record.Number, b.record.Number = b.record.Number, a.record.Number
		}
	}},
	{name: "a record is stamped late", packet: records(func(_ *Sim, e *entry) { e.record.Time = e.record.Time.Add(1) })},
	{name: "a record does not say that a stream was opened", packet: records(func(_ *Sim, e *entry) {
		for i := range e.record.Frames {
			e.record.Frames[i].Opened = false
		}
	})},
	{name: "a record loses the FIN", packet: records(func(_ *Sim, e *entry) {
		for i := range e.record.Frames {
			e.record.Frames[i].Fin = false
		}
	})},
	{name: "no second record when sending fails", packet: records(func(_ *Sim, e *entry) {
		e.submitted = e.submitted && (e.record.Reason != datapath.ReasonSendFailed || len(e.record.Frames) > 0)
	})},
	{name: "the ring holds one record more", packet: func(s *Sim, play func()) { s.ring.capacity++; play(); s.ring.capacity-- }},
	{name: "discarded records take no room", packet: func(s *Sim, play func()) {
		play()
		for s.ring.tail > s.ring.head && !s.ring.entries[(s.ring.tail-1)%uint64(len(s.ring.entries))].submitted {
			s.ring.tail--
		}
	}},
	{name: "a stream without subscribers has no entry", packet: func(s *Sim, play func()) {
		before, was := s.counters[datapath.ReasonNoSubscriber], maps.Clone(s.streams)
		play()
		if s.counters[datapath.ReasonNoSubscriber] > before {
			s.streams = was
		}
	}},
	{name: "the client's alias is taken for a byte shorter", packet: func(s *Sim, play func()) {
		was := maps.Clone(s.sent)
		play()
		for k, v := range s.sent {
			if _, old := was[k]; !old {
				v.prefix.New--
				s.sent[k] = v
			}
		}
	}},
	{name: "the last member gets nothing", packet: func(s *Sim, play func()) {
		for _, t := range s.tracks {
			if t != nil && t.places > 1 {
				t.places--
				defer func() { t.places++ }()
			}
		}
		play()
	}},
	{name: "the first group is off by one", packet: func(s *Sim, play func()) {
		for k, v := range s.subs {
			v.FirstGroup++
			s.subs[k] = v
		}
		play()
		for k, v := range s.subs {
			v.FirstGroup--
			s.subs[k] = v
		}
	}},
	{name: "the size of datagrams is off by one", packet: func(s *Sim, play func()) {
		for _, c := range s.clients {
			if c != nil {
				c.MaxDatagram++
				defer func() { c.MaxDatagram-- }()
			}
		}
		play()
	}},
	{name: "the connection ID's priority is not taken", packet: func(s *Sim, play func()) {
		for _, u := range s.upstreams {
			if u != nil && u.PriorityCID {
				u.PriorityCID = false
				defer func() { u.PriorityCID = true }()
			}
		}
		play()
	}},
	{name: "a link's addresses are the wrong way round", packet: func(s *Sim, play func()) {
		was := append([]rules.Link(nil), s.links...)
		play()
		for i := range s.links {
			if l := &s.links[i]; *l != was[i] {
				l.Src, l.Dst = l.Dst, l.Src
			}
		}
	}},
	{name: "the hop limit is the publisher's", frame: func(out []byte) {
		if out[12] == 8 {
			out[22]--
		} else {
			out[21]--
		}
	}},
	{name: "the checksum is wrong", frame: func(out []byte) { out[len(out)-1]++ }},
	{name: "a removed client keeps its generation", call: func(s *Sim, play func()) {
		was := make(map[int]uint8)
		for i, c := range s.clients {
			if c != nil {
				was[i] = s.spaces[i].Generation()
			}
		}
		play()
		for i, g := range was {
			setGeneration(s.spaces[i], g)
		}
	}},
	{name: "eviction does not raise the watermark", call: window(func(u *upstream) *uint64 { return &u.watermark })},
	{name: "a changed upstream loses its window", call: func(s *Sim, play func()) {
		was := append([]*upstream(nil), s.upstreams...)
		play()
		for i, u := range s.upstreams {
			if u != nil && was[i] != nil && u != was[i] {
				u.replay = [datapath.ReplaySlots]uint64{}
			}
		}
	}},
	{name: "streams of a subscription stay", call: sentFrames},
	{name: "a removed upstream leaves its connection IDs", call: func(s *Sim, play func()) {
		was := maps.Clone(s.cids)
		play()
		for k, v := range was {
			if s.upstreams[v.upstream] == nil {
				s.cids[k] = v
				s.upstreams[v.upstream] = &upstream{}
			}
		}
	}},
	{name: "a moved client keeps its link", call: func(s *Sim, play func()) {
		was := append([]rules.Link(nil), s.links...)
		play()
		copy(s.links, was)
	}},
}

// mutant is a stage whose simulator has a defect.
type mutant struct {
	*datapathtest.SimStage[Dumper]
	s *Sim
	mutation
}

func newMutant(limits datapath.Limits, m mutation) *mutant {
	x := &mutant{SimStage: datapathtest.NewSimStage(func(d *datapathtest.Dump) Dumper { return d }), mutation: m}
	x.s = New(Config{Limits: limits, Port: datapathtest.TracePort, Now: x.Now, HasInterface: x.HasInterface,
		Send: func(frame []byte, ifindex int, at time.Time) error {
			if m.frame != nil {
				m.frame(frame)
			}
			return x.Send(frame, ifindex, at)
		}})
	x.Use(x.s)
	return x
}

func (m *mutant) Inject(iface int, frame []byte) {
	play := func() { m.SimStage.Inject(iface, frame) }
	if m.packet == nil {
		play()
		return
	}
	m.packet(m.s, play)
}

func (m *mutant) Datapath() datapath.Datapath {
	if m.call == nil {
		return m.s
	}
	return calls{m.s, m}
}

type calls struct {
	*Sim
	m *mutant
}

func (c calls) SetUpstream(id datapath.UpstreamID, u *datapath.Upstream) (err error) {
	c.m.call(c.Sim, func() { err = c.Sim.SetUpstream(id, u) })
	return err
}

func (c calls) SetTrack(id datapath.TrackID, t *datapath.Track) (err error) {
	c.m.call(c.Sim, func() { err = c.Sim.SetTrack(id, t) })
	return err
}

func (c calls) SetClient(id datapath.ClientID, v *datapath.Client) (space *datapath.Space, err error) {
	c.m.call(c.Sim, func() { space, err = c.Sim.SetClient(id, v) })
	return space, err
}

func (c calls) SetSubscription(t datapath.TrackID, id datapath.ClientID, v *datapath.Subscription) (err error) {
	c.m.call(c.Sim, func() { err = c.Sim.SetSubscription(t, id, v) })
	return err
}

func (c calls) Evict(keys []datapath.StreamKey) (err error) {
	c.m.call(c.Sim, func() { err = c.Sim.Evict(keys) })
	return err
}

// mutationSteps is within how many steps of random traces each defect must show.
const mutationSteps = 40000

// TestTracesFindDefects plays traces on a simulator and one with a defect: they must part, for each defect.
func TestTracesFindDefects(t *testing.T) {
	most := 0
	all := append(slices.Clone(mutations), policyMutations...)
	for _, m := range all {
		steps, found := 0, false
		for seed := uint64(1); steps < mutationSteps && !found; seed++ {
			tr := datapathtest.Generate(seed)
			d := datapathtest.Compare(newMutant(tr.Limits, mutation{}), newMutant(tr.Limits, m), tr.Steps, 4, nil)
			if found = d != nil; found {
				steps += d.Step + 1
			} else {
				steps += len(tr.Steps)
			}
		}
		if !found {
			t.Errorf("%d steps do not show that %s", steps, m.name)
		}
		most = max(most, steps)
	}
	t.Logf("%d defects found, each within %d steps", len(all), most)
}

// TestShrink leaves of a trace that shows a defect what is needed for it.
func TestShrink(t *testing.T) {
	tr := datapathtest.Generate(1)
	compare := func(steps []datapathtest.Step) *datapathtest.Divergence {
		return datapathtest.Compare(newMutant(tr.Limits, mutation{}), newMutant(tr.Limits, mutations[1]), steps, 1, nil)
	}
	if compare(tr.Steps) == nil {
		t.Fatalf("seed 1 does not show that %s", mutations[1].name)
	}
	less := datapathtest.Shrink(tr.Steps, 300, compare)
	if d := compare(less); len(less) != 2 || d == nil || d.Step != 1 {
		tr.Steps = less
		t.Errorf("not what a defect of the window needs, an upstream and a packet:\n%s", tr)
	}
}

// TestLedger: what is accepted does not diverge, and what is accepted without being seen is stale.
func TestLedger(t *testing.T) {
	tr := datapathtest.Generate(1)
	ledger := func(what string, kind string) *datapathtest.Ledger {
		return datapathtest.NewLedger(datapathtest.Accepted{What: what, Why: "this test", Line: func(line string) bool {
			return len(line) > len(kind) && line[1:1+len(kind)] == kind
		}})
	}
	compare := func(l *datapathtest.Ledger) *datapathtest.Divergence {
		return datapathtest.Compare(newMutant(tr.Limits, mutation{}), newMutant(tr.Limits, mutation{name: "one more", packet: func(s *Sim, play func()) {
			play()
			s.counters[datapath.ReasonGSO]++
		}}), tr.Steps, 4, l)
	}
	l := ledger("counters", "counter gso")
	if d := compare(l); d != nil || len(l.Stale()) > 0 {
		t.Errorf("an accepted divergence is told: %v, stale %v", d, l.Stale())
	}
	l = ledger("records", "record")
	if compare(l) == nil || len(l.Stale()) != 1 {
		t.Errorf("a divergence that is not accepted is not told, or a stale entry is not: %v", l.Stale())
	}
}
