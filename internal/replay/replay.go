package replay

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Report says how decisions that were taken again compare with those that were recorded.
type Report struct {
	Policies  int               `json:"policies"`
	Records   int               `json:"records"`
	Decisions int               `json:"decisions"` // frames for clients with a policy
	Dropped   map[string]uint64 `json:"dropped"`   // of them, by reason
	Differ    int               `json:"differ"`
	Examples  []string          `json:"examples"` // of those that differ, at most 10
	// Unknown are decisions by a policy that the recording does not have.
	Unknown int `json:"unknown"`
	// Cut: the last line is not whole and was left out.
	Cut bool `json:"cut"`
}

const maxExamples = 10

// Bounds of what a recording may name, so that a file that nobody recorded does not take all memory: each client is a simulator.
const (
	maxClients   = 4096
	maxUpstreams = 1024 // for one client; those with datagrams count twice
)

// Run takes the decisions of a recording again, with a simulator for each client.
func Run(r io.ReadSeeker) (*Report, error) {
	p := &player{clients: make(map[clientKey]*client), report: Report{Dropped: map[string]uint64{}, Examples: []string{}}}
	// Policies first: the first records by a policy may be written before it is.
	whole, err := Read(r, p.policy)
	if err != nil {
		return nil, err
	}
	p.report.Cut = !whole
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := Read(r, p.record); err != nil {
		return nil, err
	}
	return &p.report, nil
}

type clientKey struct {
	id         datapath.ClientID
	generation uint8
}

type player struct {
	clients map[clientKey]*client
	report  Report
}

func (p *player) policy(e *Event) error {
	if e.Policy == nil {
		return nil
	}
	if err := e.Policy.Policy.Check(); err != nil {
		return err
	}
	p.report.Policies++
	c, err := p.client(clientKey{e.Policy.Client, e.Policy.Generation})
	if err != nil {
		return err
	}
	c.policies[e.Policy.Version] = e.Policy.Policy
	return nil
}

func (p *player) record(e *Event) error {
	if e.Record == nil {
		return nil
	}
	p.report.Records++
	c, err := p.client(clientKey{e.Record.Client, e.Record.Generation})
	if err != nil {
		return err
	}
	for i := range e.Record.Frames {
		if err := p.frame(c, e.Record, &e.Record.Frames[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) client(k clientKey) (*client, error) {
	c := p.clients[k]
	if c == nil {
		if len(p.clients) == maxClients {
			return nil, fmt.Errorf("recording has more than %d clients", maxClients)
		}
		var err error
		if c, err = newClient(); err != nil {
			return nil, err
		}
		p.clients[k] = c
	}
	return c, nil
}

// frame takes the decision on a frame again.
func (p *player) frame(c *client, r *datapath.Record, f *datapath.RecordFrame) error {
	policy, known := c.policies[r.Policy]
	if !known && r.Policy != 0 {
		p.report.Unknown++
		return nil
	}
	got, cut, err := c.decide(r, f, &policy)
	if err != nil {
		return err
	}
	if len(policy.Bands) == 0 {
		return nil // everything is admitted: there was nothing to decide
	}
	p.report.Decisions++
	if f.Reason.Dropped() {
		p.report.Dropped[f.Reason.String()]++
	}
	// What was admitted may have been sent or held, for reasons that are not the policy's.
	if same := got == f.Reason || !got.Dropped() && !f.Reason.Dropped(); same && cut == f.Cut {
		return nil
	}
	p.report.Differ++
	if len(p.report.Examples) < maxExamples {
		p.report.Examples = append(p.report.Examples, fmt.Sprintf("client %d, stream %d of upstream %d, group %d, offset %d at %s: recorded %v with cut %d, simulated %v with cut %d",
			r.Client, f.UpstreamStream, r.Upstream, f.Group, f.Offset, r.Time.Format(time.RFC3339Nano), f.Reason, f.Cut, got, cut))
	}
	return nil
}

// client is a simulator with one client.
type client struct {
	sim       *sim.Sim
	space     *datapath.Space
	now       time.Time
	number    uint64 // next packet's, of streams
	datagram  uint64 // least that a packet with a datagram may have
	stream    uint64 // next one that is reserved
	tracks    map[datapath.TrackID]*track
	upstreams map[source]datapath.UpstreamID // the simulator's
	policies  map[uint32]datapath.Policy
	inUse     uint32 // version of the policy that the space has
	packet    []byte
	frames    []byte
}

// track is what is known of a track.
type track struct {
	priority uint8  // of the subscription
	from     source // of its first frame
	apart    bool   // its group was cut by a decision without a packet, so all further ones are
}

// source is an upstream of the recording, or of the simulator: datagrams have packet numbers that count, so they have an upstream of their own.
type source struct {
	upstream  datapath.UpstreamID
	datagrams bool
}

// The parties of a replay; nothing leaves the process.
var (
	relayAddr  = netip.MustParseAddrPort("192.0.2.1:4433")
	clientAddr = netip.MustParseAddrPort("198.51.100.1:4433")
	clientLink = rules.Link{Interface: 1}
)

// endless is what credits of a replay are: their limits have no part in a policy's decisions.
const endless = 1 << 40

func newClient() (*client, error) {
	c := &client{tracks: make(map[datapath.TrackID]*track), upstreams: make(map[source]datapath.UpstreamID), policies: make(map[uint32]datapath.Policy), now: time.Unix(0, 0)}
	c.sim = sim.New(sim.Config{
		Limits: datapath.Limits{Clients: 1, Upstreams: maxUpstreams, Streams: 1 << 22, ClientStreams: 1 << 22}, Port: relayAddr.Port(),
		Now:  func() time.Time { return c.now },
		Send: func([]byte, int, time.Time) error { return nil },
	})
	var err error
	c.space, err = c.sim.SetClient(0, &datapath.Client{Local: relayAddr, Remote: clientAddr, DCID: []byte{1}, MaxSize: datapath.MaxPacketSize, MaxDatagram: 1 << 16})
	if err != nil {
		return nil, err
	}
	c.space.SetDataLimit(endless)
	hello := make([]byte, rules.HeaderLen(relayAddr.Addr()), 64)
	hello = rules.AppendNull(hello, []byte{1}, 0, nil)
	rules.PutHeaders(hello, &clientLink, clientAddr, relayAddr)
	c.sim.ClientIngress(hello, clientLink.Interface, c.now) // the link is learned
	return c, nil
}

// decide has the simulator decide on a frame as it was recorded, and returns what it says and what cut it saw.
func (c *client) decide(r *datapath.Record, f *datapath.RecordFrame, policy *datapath.Policy) (reason datapath.Reason, cut uint64, err error) {
	from := source{r.Upstream, f.Datagram}
	if err := c.meet(from, f); err != nil {
		return 0, 0, err
	}
	c.now = r.Time
	*c.space.Word(datapath.WordPlanTime) = c.space.Now() + uint64(max(f.Plan, 0))
	if r.Policy != c.inUse {
		if err := c.space.SetPolicy(policy); err != nil {
			return 0, 0, err
		}
		c.inUse = r.Policy
	}
	if t := c.tracks[f.Track]; f.Datagram && r.UpstreamNumber < c.datagram || t.from != from || t.apart {
		return c.alone(r, f)
	}
	if c.space.PoolLen() == 0 {
		if !c.space.Reserve(c.stream<<2|3, uint8(c.stream%datapath.Slots), endless) {
			return 0, 0, errors.New("no stream can be reserved")
		}
		c.stream++
	}
	number := &c.number
	if f.Datagram {
		number = &c.datagram
		*number = r.UpstreamNumber
	}
	if err := c.compose(from, *number, f); err != nil {
		return 0, 0, err
	}
	*number++
	c.sim.ServerIngress(c.packet, 2, c.now)
	reason = datapath.ReasonNotOpened // if nothing is recorded
	if !f.Opened && !f.Datagram {
		reason = datapath.Forwarded // admitted, and not sent
	}
	cut = f.Cut
	err = c.sim.Drain(func(got *datapath.Record) {
		if len(got.Frames) > 0 {
			reason, cut = got.Frames[0].Reason, got.Frames[0].Cut
		}
	})
	return reason, cut, err
}

// alone decides without a packet: on a further datagram of one, and where a track has streams and datagrams.
func (c *client) alone(r *datapath.Record, f *datapath.RecordFrame) (reason datapath.Reason, cut uint64, err error) {
	o := datapath.Offer{Importance: datapath.Importance(f.Subscriber, f.Priority), Group: f.Group, Sample: f.UpstreamStream >> 2, Size: uint64(f.Length),
		Started: !f.Datagram && !f.Opened, Cut: f.Cut}
	if f.Datagram {
		o.Sample = r.UpstreamNumber
	}
	reason, cuts := c.space.Admit(c.space.Now(), &o)
	if cuts {
		c.tracks[f.Track].apart = true // the simulator does not know
	}
	return reason, f.Cut, nil
}

// cid is the connection ID of an upstream of the simulator.
func cid(id datapath.UpstreamID) []byte {
	b := make([]byte, datapath.CIDLen)
	b[0], b[1], b[2], b[3] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
	return b
}

// alias is that of a track on both sides; its length is always the same.
func alias(t datapath.TrackID) uint64 { return 1<<14 + uint64(t) }

// meet makes known what a frame is the first of.
func (c *client) meet(from source, f *datapath.RecordFrame) error {
	id, known := c.upstreams[from]
	if !known {
		id = datapath.UpstreamID(len(c.upstreams)) // beyond maxUpstreams the simulator refuses it
		c.upstreams[from] = id
		u := &datapath.Upstream{Remote: clientAddr, CIDs: [][]byte{cid(id)}, Streams: 2}
		if !f.Datagram {
			u.Streams = uint8(f.UpstreamStream & 3)
		}
		if err := c.sim.SetUpstream(id, u); err != nil {
			return err
		}
	}
	t := c.tracks[f.Track]
	if t == nil {
		t = &track{from: from}
		c.tracks[f.Track] = t
		if err := c.sim.SetTrack(f.Track, &datapath.Track{Upstream: id, Alias: alias(f.Track), Draft: 14}); err != nil {
			return err
		}
	} else if t.priority == f.Subscriber {
		return nil
	}
	t.priority = f.Subscriber
	return c.sim.SetSubscription(f.Track, 0, &datapath.Subscription{Alias: alias(f.Track), Priority: f.Subscriber})
}

// compose makes the publisher's packet with a frame like the one recorded.
func (c *client) compose(from source, number uint64, f *datapath.RecordFrame) error {
	var data []byte
	if f.Opened || f.Datagram {
		data = append(data, 0x14) // a subgroup's stream, with subgroup and priority
		if f.Datagram {
			data[0] = 0x00
		}
		data = wire.AppendVarint(data, alias(f.Track))
		data = wire.AppendVarint(data, f.Group)
		data = append(data, 0, f.Priority)
	}
	if len(data) > int(f.Length) && f.Length > 0 || f.Length > datapath.MaxPacketSize {
		return fmt.Errorf("frame of %d bytes cannot have been recorded", f.Length)
	}
	data = append(data, make([]byte, int(f.Length)-min(len(data), int(f.Length)))...)
	c.frames = c.frames[:0]
	if f.Datagram {
		c.frames = wire.AppendDatagram(c.frames, data, true)
	} else {
		c.frames = wire.AppendStream(c.frames, f.UpstreamStream, f.Offset, data, f.Fin, true)
	}
	c.packet = slices.Grow(c.packet[:0], rules.MaxFrame)[:rules.HeaderLen(relayAddr.Addr())]
	c.packet = rules.AppendNull(c.packet, cid(c.upstreams[from]), number, c.frames)
	rules.PutHeaders(c.packet, &clientLink, clientAddr, relayAddr)
	return nil
}
