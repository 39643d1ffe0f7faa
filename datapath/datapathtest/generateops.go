package datapathtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// change makes a call of userspace's to the tables.
func (g *generator) change() {
	sound := !g.OneIn(3)
	switch g.IntN(20) {
	case 0, 1:
		g.setUpstream(g.IntN(len(g.ups)), sound)
	case 2, 3:
		g.setTrack(g.IntN(len(g.tracks)), sound)
	case 4, 5, 6:
		i := g.IntN(len(g.clients))
		g.setClient(i, sound)
		if g.OneIn(2) {
			g.ready(i)
			g.learn(i)
		}
	case 7, 8, 9, 10, 11, 12:
		g.subscribe(g.IntN(len(g.tracks)), g.IntN(len(g.clients)), sound)
	case 13, 14:
		g.evict()
	default:
		g.remove()
	}
}

func (g *generator) setUpstream(i int, sound bool) {
	u := &g.ups[i]
	set := datapath.Upstream{Remote: u.From.Addr, CIDs: [][]byte{genCID(i, 0)}, Streams: u.bits, Protection: datapath.Protection{Version: wire.Version1}}
	id := datapath.UpstreamID(i)
	u.priority = g.OneIn(3)
	set.PriorityCID = u.priority
	if g.OneIn(3) {
		set.CIDs = append(set.CIDs, genCID(i, 1))
	}
	if g.OneIn(4) {
		u.next = max(u.next, Pick(g.Random, u.next+3, 1<<32-2, 1<<40, 1000))
		set.NextNumber = u.next
	}
	if !sound {
		switch g.IntN(12) {
		case 10: // a connection ID that ends in something else
			set.CIDs[0] = bytes.Clone(set.CIDs[0])
			set.CIDs[0][datapath.CIDLen-1] = byte(1 + g.IntN(3))
		case 11: // two that differ in the end
			set.CIDs = append(set.CIDs, append(genCID(i, 0)[:datapath.CIDLen-1], byte(g.IntN(2))))
		case 0:
			id = datapath.UpstreamID(g.limits.Upstreams) + datapath.UpstreamID(g.IntN(2))
		case 1:
			set.CIDs = [][]byte{genCID((i+1)%len(g.ups), g.IntN(2)), genCID(i, 0)}
		case 2:
			set.CIDs = [][]byte{genCID(i, 0)[:19]}
		case 3:
			set.Streams = uint8(g.IntN(5))
		case 4:
			set.Remote = netip.AddrPort{}
		case 5:
			set.Protection.Cipher = 0x1305
		case 6:
			set.CIDs = nil
		case 7:
			set.Remote = netip.AddrPortFrom(set.Remote.Addr(), set.Remote.Port()+1)
		case 8:
			set.Remote = netip.AddrPortFrom(netip.AddrFrom16(set.Remote.Addr().As16()), set.Remote.Port())
		case 9:
			for n := range 3 {
				set.CIDs = append(set.CIDs, genCID(i, n))
			}
		}
	}
	g.do(func() string { return fmt.Sprintf("set upstream %d: %+v", id, set) },
		func(p *player) string { return outcome(p.Datapath().SetUpstream(id, &set)) })
}

func (g *generator) setTrack(i int, sound bool) {
	t := &g.tracks[i]
	if g.OneIn(6) {
		t.alias = Pick(g.Random, t.alias, g.field())
	}
	id, set := datapath.TrackID(i), datapath.Track{DefaultPriority: byte(g.IntN(256))}
	if !sound {
		switch g.IntN(5) {
		case 0:
			id = datapath.TrackID(g.limits.Tracks)
		case 1:
			set.Draft = byte(g.IntN(20))
		case 2:
			set.Upstream = datapath.UpstreamID(g.limits.Upstreams)
		case 3:
			t.alias = g.tracks[g.IntN(len(g.tracks))].alias
		case 4:
			t.upstream = datapath.UpstreamID(g.IntN(len(g.ups)))
		}
	}
	if set.Upstream == 0 {
		set.Upstream = t.upstream
	}
	if set.Draft == 0 {
		set.Draft = t.draft
	}
	set.Alias = t.alias
	g.do(func() string { return fmt.Sprintf("set track %d: %+v", id, set) },
		func(p *player) string { return outcome(p.Datapath().SetTrack(id, &set)) })
}

func (g *generator) setClient(i int, sound bool) {
	c := &g.clients[i]
	id := datapath.ClientID(i)
	set := datapath.Client{Local: c.relay.Addr, Remote: c.Addr, DCID: bytes.Repeat([]byte{byte(0xa0 + i)}, Pick(g.Random, 8, 8, 0, 20, g.IntN(21))),
		MaxSize: Pick(g.Random, 1252, 1252, datapath.MaxPacketSize, 60+g.IntN(60), g.IntN(1300)), Protection: datapath.Protection{Version: wire.Version1},
		MaxDatagram: Pick(g.Random, 65535, 65535, 0, g.Uint64N(60), 1<<62)}
	if set.PriorityCID = len(set.DCID) == datapath.CIDLen && g.OneIn(2) || g.OneIn(30); set.PriorityCID && len(set.DCID) > 0 {
		set.DCID[len(set.DCID)-1] = 0
	}
	if g.OneIn(8) { // the same address as another one, or one that is new
		other := &g.clients[g.IntN(len(g.clients))]
		if other.relay == c.relay && g.OneIn(2) {
			c.Addr = other.Addr
		} else {
			c.Addr = netip.AddrPortFrom(c.Addr.Addr(), uint16(5100+g.IntN(4)))
		}
		set.Remote = c.Addr
	}
	if !sound {
		switch g.IntN(7) {
		case 0:
			id = datapath.ClientID(g.limits.Clients)
		case 1:
			set.DCID = make([]byte, 21)
		case 2:
			set.MaxSize = Pick(g.Random, -1, datapath.MaxPacketSize+1)
		case 3:
			set.Local = netip.AddrPort{}
		case 4:
			set.Local = traceSide(1, TracePort, set.Remote.Addr().Is4()).Addr
		case 5:
			set.Protection.Cipher = 0x1305
		case 6:
			set.Remote = netip.AddrPortFrom(netip.AddrFrom16(set.Remote.Addr().As16()), set.Remote.Port())
		}
	}
	g.do(func() string { return fmt.Sprintf("set client %d: %+v", id, set) }, func(p *player) string {
		space, err := p.Datapath().SetClient(id, &set)
		if space != nil {
			p.spaces[id] = space
		}
		return fmt.Sprintf("%s, space %v", outcome(err), space != nil)
	})
}

func (g *generator) subscribe(t, c int, sound bool) {
	track, client := datapath.TrackID(t), datapath.ClientID(c)
	set := datapath.Subscription{Alias: Pick(g.Random, uint64(t), uint64(60+t), 1<<14, g.Number()), Priority: g.subscriberPriority()}
	if g.OneIn(4) {
		set.FirstGroup, set.LastGroup = g.Uint64N(4), g.Uint64N(6)
	}
	if !sound {
		switch g.IntN(4) {
		case 0:
			track = datapath.TrackID(g.limits.Tracks)
		case 1:
			client = datapath.ClientID(g.limits.Clients)
		case 2:
			set.Alias = 1 << 62
		}
	}
	g.do(func() string { return fmt.Sprintf("subscribe client %d to track %d: %+v", client, track, set) },
		func(p *player) string { return outcome(p.Datapath().SetSubscription(track, client, &set)) })
}

func (g *generator) evict() {
	var keys []datapath.StreamKey
	for range 1 + g.IntN(3) {
		i := g.IntN(len(g.ups))
		k := datapath.StreamKey{Upstream: datapath.UpstreamID(i), Client: datapath.NoClient, Stream: g.field()}
		if n := len(g.ups[i].streams); n > 0 {
			k.Stream = g.ups[i].streams[g.IntN(n)].id
		}
		if g.OneIn(2) {
			k.Client = datapath.ClientID(g.IntN(len(g.clients)))
		}
		switch g.IntN(24) {
		case 0:
			k.Upstream = datapath.UpstreamID(g.limits.Upstreams)
		case 1:
			k.Client = datapath.ClientID(g.limits.Clients)
		}
		keys = append(keys, k)
	}
	g.do(func() string { return fmt.Sprintf("evict %+v", keys) }, func(p *player) string { return outcome(p.Datapath().Evict(keys)) })
}

func (g *generator) remove() {
	u, t, c := datapath.UpstreamID(g.IntN(len(g.ups)+1)), datapath.TrackID(g.IntN(len(g.tracks)+1)), datapath.ClientID(g.IntN(len(g.clients)+1))
	switch g.IntN(8) {
	case 0:
		g.do(func() string { return fmt.Sprintf("remove upstream %d", u) }, func(p *player) string { return outcome(p.Datapath().SetUpstream(u, nil)) })
	case 1, 2:
		g.do(func() string { return fmt.Sprintf("remove track %d", t) }, func(p *player) string { return outcome(p.Datapath().SetTrack(t, nil)) })
	case 3, 4:
		g.do(func() string { return fmt.Sprintf("remove client %d", c) }, func(p *player) string {
			_, err := p.Datapath().SetClient(c, nil)
			return outcome(err)
		})
	default:
		g.do(func() string { return fmt.Sprintf("unsubscribe client %d from track %d", c, t) },
			func(p *player) string { return outcome(p.Datapath().SetSubscription(t, c, nil)) })
	}
}

// on makes a step that userspace takes on a client's space, if there is one.
func (g *generator) on(i int, text string, f func(p *player, s *datapath.Space) string) {
	g.do(func() string { return fmt.Sprintf("client %d: %s", i, text) }, func(p *player) string {
		if s := p.spaces[datapath.ClientID(i)]; s != nil {
			return f(p, s)
		}
		return ""
	})
}

// ready gives a client credit and stream IDs.
func (g *generator) ready(i int) {
	limit := Pick(g.Random, 1<<20, 1<<20, 1<<62, g.Uint64N(400))
	g.on(i, fmt.Sprintf("data limit %d", limit), func(_ *player, s *datapath.Space) string { s.SetDataLimit(limit); return "" })
	for range 1 + g.IntN(5) {
		g.reserve(i)
	}
}

func (g *generator) reserve(i int) {
	c := &g.clients[i]
	id, slot, limit := c.stream, uint8(c.slot), Pick(g.Random, 1<<20, 1<<20, 1<<62, g.Uint64N(100))
	c.stream += 4
	if g.OneIn(12) {
		c.stream = Pick(g.Random, uint64(63), 16383, 1<<30-1, 1<<47|3)
	}
	if c.slot = (c.slot + 1) % datapath.Slots; g.OneIn(20) {
		c.slot = g.IntN(datapath.Slots)
	}
	g.on(i, fmt.Sprintf("reserve stream %d in slot %d up to %d", id, slot, limit),
		func(_ *player, s *datapath.Space) string { return fmt.Sprint(s.Reserve(id, slot, limit)) })
}

// word makes an operation of userspace's on a client's space.
func (g *generator) word() {
	i := g.IntN(len(g.clients))
	n, slot := g.Uint64N(600), uint8(g.IntN(8))
	if g.OneIn(8) {
		n = g.Number()
	}
	now, limit := g.clock, g.Uint64N(1<<21)
	switch g.IntN(17) {
	case 15: // at the edge of the window
		more := g.Uint64N(3)
		g.on(i, fmt.Sprintf("send limit: a packet of the largest size and %d more, less 1", more), func(_ *player, s *datapath.Space) string {
			s.SetSendLimit(s.Sent() + *s.Word(datapath.WordMaxSize) + more - 1)
			return ""
		})
		g.media()
	case 16: // at the edge of the burst
		rate, less := Pick(g.Random, uint64(1000), 50_000, 1_000_000), g.Uint64N(2)
		g.on(i, fmt.Sprintf("%d bytes/s, a burst that a packet of the largest size fits into, less %d ns", rate, less), func(_ *player, s *datapath.Space) string {
			s.SetPace(rate, 0)
			pace, cost, size := *s.Word(datapath.WordPaceTime), *s.Word(datapath.WordPaceCost), min(*s.Word(datapath.WordMaxSize), datapath.MaxPacketSize)
			*s.Word(datapath.WordPaceBurst) = datapath.PaceAfter(pace, cost, now, size) - now - less
			return ""
		})
		g.media()
	case 14:
		g.on(i, "read the clock", func(_ *player, s *datapath.Space) string { return fmt.Sprint(s.Now()) })
	case 0, 1, 2:
		for range 1 + g.IntN(3) {
			g.reserve(i)
		}
	case 3:
		if more := 8 + g.Uint64N(30); g.OneIn(2) {
			g.on(i, fmt.Sprintf("data limit: %d more", more), func(_ *player, s *datapath.Space) string { s.SetDataLimit(s.DataUsed() + more); return "" })
			g.media()
			return
		}
		g.on(i, fmt.Sprintf("data limit %d", n), func(_ *player, s *datapath.Space) string { s.SetDataLimit(n); return "" })
	case 4:
		g.on(i, fmt.Sprintf("limit %d of slot %d", n, slot), func(_ *player, s *datapath.Space) string { s.SetStreamLimit(slot, n); return "" })
	case 5:
		g.on(i, fmt.Sprintf("close slot %d", slot), func(_ *player, s *datapath.Space) string { return fmt.Sprint(s.CloseStream(slot)) })
	case 6:
		g.on(i, fmt.Sprintf("advance slot %d to %d within %d", slot, n, limit),
			func(_ *player, s *datapath.Space) string { return fmt.Sprint(s.Advance(slot, n, limit)) })
	case 7:
		g.on(i, fmt.Sprintf("charge %d within %d", n, limit), func(_ *player, s *datapath.Space) string { return fmt.Sprint(s.Charge(n, limit)) })
	case 8:
		g.on(i, "take a number", func(_ *player, s *datapath.Space) string { return fmt.Sprint(s.TakeNumber()) })
	case 9:
		size := Pick(g.Random, g.IntN(200), g.IntN(1500), 1252, datapath.MaxPacketSize)
		g.on(i, fmt.Sprintf("largest size %d", size), func(_ *player, s *datapath.Space) string { s.SetMaxSize(size); return "" })
	case 10:
		more := g.Uint64N(4000)
		if g.OneIn(3) {
			g.on(i, "no send limit", func(_ *player, s *datapath.Space) string { s.SetSendLimit(datapath.Unlimited); return "" })
			return
		}
		g.on(i, fmt.Sprintf("send limit: %d more", more), func(_ *player, s *datapath.Space) string { s.SetSendLimit(s.Sent() + more); return "" })
	case 11:
		rate, burst := Pick(g.Random, 0, 1000, 50_000, 1_000_000, 1<<34), Pick(g.Random, 0, 1252, 3000, 10_000)
		g.on(i, fmt.Sprintf("%d bytes/s, burst %d", rate, burst), func(_ *player, s *datapath.Space) string { s.SetPace(uint64(rate), uint64(burst)); return "" })
	case 12:
		g.on(i, fmt.Sprintf("send %d bytes at %d ns", n&0xfff, now), func(_ *player, s *datapath.Space) string {
			fits := s.Budget(now, n&0xfff)
			s.ChargeBudget(now, n&0xfff)
			return fits.String()
		})
	case 13:
		frame := g.packet()
		g.on(i, fmt.Sprintf("generation is one further while a packet comes in: %x", frame), func(p *player, s *datapath.Space) string {
			w := s.Word(datapath.WordGeneration)
			old := atomic.LoadUint64(w)
			atomic.StoreUint64(w, old&^0xff|uint64(uint8(old)+1))
			p.Inject(Publishers, frame)
			atomic.StoreUint64(w, old)
			return ""
		})
	}
}
