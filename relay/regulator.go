package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// regulator asks a client's heuristic for policies and makes them the client's. Without a heuristic it does nothing.
type regulator struct {
	once sync.Once

	mu    sync.Mutex
	meter *heuristic.Meter // nil: there is no heuristic
	start time.Time

	policy atomic.Pointer[datapath.Policy] // in use; nil: none yet
}

// regulate starts the regulator of a client that has joined the datapath. It may be called again.
func (p *peer) regulate() {
	if p.relay.cfg.Heuristic == nil || p.fast == nil {
		return
	}
	p.regulator.once.Do(func() {
		h := p.relay.cfg.Heuristic()
		if h == nil {
			return
		}
		guard := heuristic.NewGuard(h, 0, func(_ string, err error) {
			p.relay.counts.add("heuristic_refused", 1)
			p.log.Warn("policy refused", "err", err)
		})
		p.regulator.mu.Lock()
		p.regulator.meter, p.regulator.start = new(heuristic.Meter), time.Now()
		p.regulator.mu.Unlock()
		p.relay.spawn(func() { p.regulator.run(p, guard) })
	})
}

// run asks until the session ends.
func (g *regulator) run(p *peer, h heuristic.Heuristic) {
	tick := time.NewTicker(heuristic.Interval)
	defer tick.Stop()
	var before quicadapt.Path
	for {
		path := p.fast.Path()
		policy := h.Policy(g.view(p, &path, &before))
		before = path
		if err := p.fast.SetPolicy(&policy); err != nil { // the guard has checked it
			p.log.Warn("policy was refused", "heuristic", h.Name(), "err", err)
		} else {
			g.policy.Store(&policy)
			if record := p.relay.cfg.OnPolicy; record != nil {
				client, generation, version := p.fast.PolicyInUse()
				record(client, generation, version, policy)
			}
		}
		select {
		case <-tick.C:
		case <-p.conn.Context().Done():
			return
		}
	}
}

// view makes what the heuristic is shown.
func (g *regulator) view(p *peer, path, before *quicadapt.Path) *heuristic.View {
	v := &heuristic.View{
		Rate: path.Rate, Window: path.Window, InFlight: path.InFlight, SmoothedRTT: path.SmoothedRTT, MinRTT: path.MinRTT,
		Sent: path.Sent - before.Sent, Lost: path.Lost - before.Lost, Backlog: path.Backlog, Plan: path.Plan,
		Timeout: p.relay.cfg.Playout,
	}
	var reported *Report
	if f := p.relay.cfg.Reported; f != nil {
		if r, ok := f(p.conn.RemoteAddr()); ok {
			reported, v.Reported = &r, &heuristic.Report{Rate: r.Rate, Delay: r.Delay}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	v.Now = time.Since(g.start)
	if reported != nil {
		v.Reported.At = max(reported.At.Sub(g.start), 0)
	}
	g.meter.View(v)
	return v
}

// offer notes n bytes of a stream that were offered to the subscriber, and what the policy made of the stream.
func (s *subscriber) offer(st *stream, n int, r datapath.Reason) {
	s.peer.regulator.measure(s.rank(st.header.Priority), st.track.number, st.header.Group, st.key(), n, r)
}

func (g *regulator) measure(rank uint16, track, group, stream uint64, n int, r datapath.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.meter != nil {
		g.meter.Offer(time.Since(g.start), rank, track, group, stream, n, r)
	}
}

// band returns what the policy says of an importance, nil if nothing.
func (g *regulator) band(rank uint16) *datapath.Band {
	p := g.policy.Load()
	if p == nil {
		return nil
	}
	for i := range p.Bands {
		if rank <= p.Bands[i].UpTo {
			return &p.Bands[i]
		}
	}
	return nil
}

// maxAge returns how long a stream of an importance is worth sending, 0 for ever.
func (g *regulator) maxAge(rank uint16) time.Duration {
	if b := g.band(rank); b != nil {
		return b.MaxAge
	}
	return 0
}

// cuts says whether the rest of a group goes when something of an importance is dropped.
func (g *regulator) cuts(rank uint16) bool {
	b := g.band(rank)
	return b != nil && b.Cut
}

// usefulFor returns how long an object of an importance is of use to the subscriber, 0 for ever. It needs track.mu.
func (s *subscriber) usefulFor(rank uint16) time.Duration {
	d, age := s.timeout, s.peer.regulator.maxAge(rank)
	if d == 0 || age > 0 && age < d {
		return age
	}
	return d
}

// admits has the policy decide on a stream that the slow path would send; the reason is datapath.Forwarded if it may.
func (s *subscriber) admits(st *stream) datapath.Reason {
	return s.decide(&datapath.Offer{Importance: s.rank(st.header.Priority), Group: st.header.Group, Sample: st.id >> 2})
}

// decide has the policy decide on what the slow path would send, and remembers what it cuts.
func (s *subscriber) decide(o *datapath.Offer) datapath.Reason {
	if s.peer.fast == nil || s.peer.regulator.policy.Load() == nil {
		return datapath.Forwarded
	}
	o.Cut = s.cut.Load()
	r, _ := s.peer.fast.Admit(o)
	if r != datapath.Forwarded {
		s.noteCut(o.Group, o.Importance)
	}
	return r
}
