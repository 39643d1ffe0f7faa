package relay_test

import (
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

var dropSeeds = flag.String("dropseeds", "1-60", "seeds of TestDropScenarios: FIRST-LAST, or one")

// TestDropScenarios runs the random whole systems of TestScenarios with paths to subscribers that do not carry the media, and heuristics: the
// default, policies drawn at random, and some that fail. What comes is unchanged and comes once, no stream hangs, and in the end
// nothing is left. An object that does not come was dropped for a reason that the relay's tallies have, which add up.
func TestDropScenarios(t *testing.T) {
	first, last, err := seedRange(*dropSeeds)
	if err != nil || last < first {
		t.Fatalf("-dropseeds=%s: give FIRST-LAST or one number", *dropSeeds)
	}
	if testing.Short() {
		last = min(last, first+9)
	}
	var total scenarioTotals
	t.Run("all", func(t *testing.T) {
		for seed := first; seed <= last; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				p := newScenarioPlan(seed)
				p.addDrops()
				runScenario(t, p, &total)
			})
		}
	})
	t.Logf("%d objects of streams were expected, %d did not come; of %d streams that came, the datapath had opened %d",
		total.objects.Load(), total.missing.Load(), total.streams.Load(), total.fast.Load())
	if last-first > 40 && total.missing.Load() < total.objects.Load()/20 {
		t.Error("almost nothing was dropped")
	}
	if last-first > 40 && total.refused.Load() == 0 {
		t.Error("no heuristic was refused")
	}
}

// dropPlan says which heuristic the clients of a scenario have.
type dropPlan struct {
	seed uint64
	kind int           // of heuristics
	over chan struct{} // lets those go that do not come back
}

// addDrops makes a scenario's paths too narrow.
func (p *scenarioPlan) addDrops() {
	rnd := rand.New(rand.NewPCG(p.seed, 7))
	p.drops = &dropPlan{seed: p.seed, kind: rnd.IntN(8)}
	for i := range p.subscribers {
		s := &p.subscribers[i]
		s.down.Rate, s.down.Queue = 15_000+rnd.IntN(120_000), 8<<10+rnd.IntN(40<<10)
		s.priority = uint8(rnd.IntN(256))
		if rnd.IntN(3) == 0 {
			s.timeout = time.Duration(100+rnd.IntN(900)) * time.Millisecond
		}
	}
}

func (d *dropPlan) end() {
	if d != nil && d.over != nil {
		close(d.over)
	}
}

func (d *dropPlan) heuristics() func() heuristic.Heuristic {
	if d == nil {
		return nil
	}
	d.over = make(chan struct{})
	return func() heuristic.Heuristic {
		if d.kind < 3 {
			return &heuristic.Live{}
		}
		return &randomPolicies{d: d, rnd: rand.New(rand.NewPCG(d.seed, 8))}
	}
}

// allows reports whether a stream may end with an error: the reset of what would come too late.
func (d *dropPlan) allows(err error) bool {
	var reset *quic.StreamError
	return d != nil && errors.As(err, &reset) && reset.Remote && reset.ErrorCode == 2
}

// randomPolicies is a heuristic that knows nothing, and may fail in the end.
type randomPolicies struct {
	d     *dropPlan
	rnd   *rand.Rand
	calls int
}

func (h *randomPolicies) Name() string { return "random" }

func (h *randomPolicies) Policy(*heuristic.View) datapath.Policy {
	if h.calls++; h.calls > 20 {
		switch h.d.kind {
		case 3:
			panic("the heuristic is wrong")
		case 4:
			<-h.d.over
		case 5:
			return datapath.Policy{Rate: 1, Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: math.NaN()}}}
		}
	}
	if h.rnd.IntN(10) == 0 {
		return datapath.Policy{}
	}
	p := datapath.Policy{Rate: uint64(h.rnd.IntN(150_000)), Burst: uint64(h.rnd.IntN(30_000)), Overflow: uint64(h.rnd.IntN(10_000))}
	n := 1 + h.rnd.IntN(datapath.Bands)
	b := datapath.Band{Overflow: true, ByGroup: h.rnd.IntN(2) == 0}
	for i := range n {
		b.UpTo = uint16((i + 1) * (datapath.MaxImportance / n))
		if i == n-1 {
			b.UpTo = datapath.MaxImportance
		}
		b.Reserve += uint64(h.rnd.IntN(5000))
		b.Overflow = b.Overflow && h.rnd.IntN(3) > 0
		b.Drop = min(b.Drop+h.rnd.Float64()*0.2, 1)
		b.Cut = h.rnd.IntN(3) == 0
		if b.MaxAge = 0; h.rnd.IntN(3) == 0 {
			b.MaxAge = time.Duration(50+h.rnd.IntN(500)) * time.Millisecond
		}
		p.Bands = append(p.Bands, b)
	}
	return p
}

// dropCheck sums by the publisher's priority what those received and missed who stayed to the end.
type dropCheck struct {
	arrived map[uint8]uint64 // streams, whole
	missing map[uint8]uint64 // objects; of a stream for each
}

func (c *dropCheck) whole(priority uint8) {
	if c.arrived == nil {
		c.arrived = make(map[uint8]uint64)
	}
	c.arrived[priority]++
}

func (c *dropCheck) note(t *publishedTrack, missing []moq.Location) {
	if c.missing == nil {
		c.missing = make(map[uint8]uint64)
	}
	groups := make(map[uint64]bool)
	for _, l := range missing {
		t.p.total.missing.Add(1)
		if t.plan.layout == perFrame {
			c.missing[uint8(64+l.Object%64)]++
		} else if !groups[l.Group] {
			groups[l.Group] = true
			c.missing[100]++
		}
	}
}

// cutOff counts the streams that ended with a reset before it could be told what they are.
func (r *receivingSession) cutOff() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		var reset *quic.StreamError
		if _, err := wire.ParseSubgroupHeader(s.data, r.session.Draft()); err != nil && errors.As(s.err, &reset) && reset.Remote {
			n++
		}
	}
	return n
}

// checkDrops compares what did not come with the relay's tallies.
func (s *scenario) checkDrops(stats *relay.Stats) {
	if s.plan.drops == nil {
		return
	}
	t := s.t
	stay := true // all of them, from the first visit on
	for _, sub := range s.plan.subscribers {
		stay = stay && len(sub.visits) == 1 && sub.visits[0].end == stays
	}
	for priority, tally := range stats.Ended {
		ended, lost, gone := tally.Delivered, uint64(0), uint64(0)
		for _, m := range []map[string]uint64{tally.Dropped, tally.Reset} {
			for why, n := range m {
				ended += n
				switch {
				case strings.HasPrefix(why, "drop_"), why == "delivery_timeout":
					lost += n
				case why == "connection_closed", why == "unwanted":
					gone += n
				case strings.HasPrefix(why, "datagram_"):
				default:
					t.Errorf("priority %d: %d are lost because of %q", priority, n, why)
				}
			}
		}
		if tally.Open != 0 || tally.Published != ended {
			t.Errorf("priority %d: the tally does not add up: %+v", priority, tally)
		}
		if priority == 32 {
			continue // datagrams
		}
		if n := s.drops.missing[priority]; n > lost {
			t.Errorf("priority %d: %d did not come, and %d were dropped: %+v", priority, n, lost, tally)
		}
		if n := s.drops.arrived[priority]; n > tally.Delivered+gone+lost || stay && tally.Delivered > n {
			t.Errorf("priority %d: %d arrived: %+v", priority, n, tally)
		}
	}
	for priority, n := range s.drops.missing {
		if _, ok := stats.Ended[priority]; !ok {
			t.Errorf("priority %d: %d did not come, and there is no tally", priority, n)
		}
	}
	s.total.refused.Add(stats.Reasons["heuristic_refused"])
}
