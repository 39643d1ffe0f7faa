package run

import (
	"math"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

func load(t testing.TB, name string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(t testing.TB, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func simulate(t testing.TB, c Config) *Result {
	t.Helper()
	if c.Congestion == "" {
		c.Congestion = congestion.Live
	}
	r, err := Run(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestClosedForm: frames of three packets over a link that is faster than the media. All arrive, and when is known.
func TestClosedForm(t *testing.T) {
	s := parse(t, `
duration = "10s"
control = "59s"
[media]
bitrate = "1Mbit"
fps = 40
group = 40
key = 1.0
reference = 1.0
every = 0
audio = 0.0
variation = 0.0
uplink = "100Mbit"
[[link]]
rate = "10Mbit"
delay = "20ms"
[[subscribers]]
delay = "7ms"
`)
	const frame = 3125 // bytes: 1 Mbit/s at 40 frames per second
	r := simulate(t, Config{Scenario: s, Heuristic: "none", Seed: 1})
	for class, want := range [Classes]int{Key: 10, Reference: 390} {
		if f := r.Classes[class]; f.Published != want || f.Delivered != want || f.Decodable != want {
			t.Errorf("%v: %+v; want %d of all", Class(class), f, want)
		}
	}
	// The first packet passes the uplink, then all three pass the link, which is slower, and the rest is way. STREAM frames have a type, an
	// ID of one or two bytes, an offset of one for 0 and else two, and a length of two.
	sizes := 3*(headers+udpIP) + frame + 3*(1+2+2+2) - 1
	want := float64(pieceSize+headers+udpIP)*8/100e6 + float64(sizes)*8/10e6 + 0.005 + 0.020 + 0.007
	for _, q := range []int{50, 100} {
		if got := r.Delay.At(q) / 1e3; math.Abs(got-want) > 1.1e-6 {
			t.Errorf("%d %% of the frames are whole within %.6f s, want %.6f", q, got, want)
		}
	}
	if r.Lost+r.Repairs+r.QueueDrops+r.Resent+r.Duplicates > 0 || r.Wasted > 0 || r.Stalls > 0 || r.Arrived != 400*frame {
		t.Errorf("%+v", r)
	}
}

// TestAccounting: each object of each class ends in exactly one way, in every scenario with every heuristic and congestion control. Run
// itself compares what it counts as it happens with its result, for each subscriber.
func TestAccounting(t *testing.T) {
	for _, name := range scenario.Names() {
		s := load(t, name)
		for i, h := range heuristic.Names() {
			if s.Clients() > 1 && i%4 > 0 {
				continue // it takes as long as all others together
			}
			cc := congestion.Names()[i%len(congestion.Names())]
			r := simulate(t, Config{Scenario: s, Heuristic: h, Congestion: cc, Seed: 1})
			for class, f := range r.Classes {
				if got := f.Delivered + f.Late + sum(&f.Dropped) + sum(&f.Reset) + f.Unfinished; got != f.Published || got == 0 {
					t.Errorf("%s with %s: %v: %d published, %d accounted for: %+v", name, h, Class(class), f.Published, got, f)
				}
				if f.Decodable > f.Delivered {
					t.Errorf("%s with %s: %v: %d decodable of %d delivered", name, h, Class(class), f.Decodable, f.Delivered)
				}
			}
			if r.Wasted > r.Arrived || r.Fairness <= 0 || r.Fairness > 1.000001 || r.Utilisation > 1 {
				t.Errorf("%s with %s: %+v", name, h, r)
			}
		}
	}
}

// TestSame: a run depends on its Config alone, and on all of it.
func TestSame(t *testing.T) {
	s := load(t, "cellular")
	c := Config{Scenario: s, Heuristic: "live", Seed: 3}
	a, b := simulate(t, c), simulate(t, c)
	if a.Packets != b.Packets || a.Classes != b.Classes || a.Arrived != b.Arrived || a.Queue.At(95) != b.Queue.At(95) {
		t.Errorf("the same run twice:\n%+v\n%+v", a, b)
	}
	c.Seed = 4
	if b = simulate(t, c); a.Arrived == b.Arrived {
		t.Error("another seed gives the same run")
	}
}

// TestOverload: what a scenario is about is seen in its result.
func TestOverload(t *testing.T) {
	s := load(t, "half-rate")
	r := simulate(t, Config{Scenario: s, Heuristic: heuristic.Default, Congestion: "cubic", Seed: 1})
	if r.Utilisation < 0.7 || r.QueueDrops == 0 || r.Lost == 0 || r.Repairs == 0 {
		t.Errorf("a link at 55 %% of the media's rate: used %.2f, %d drops, %d found lost, %d packets of userspace", r.Utilisation, r.QueueDrops, r.Lost, r.Repairs)
	}
	audio, rest := r.Classes[Audio], r.Classes[NonReference]
	if a, b := float64(audio.Delivered)/float64(audio.Published), float64(rest.Delivered)/float64(rest.Published); a < 0.95 || b > 0.7 {
		t.Errorf("%.2f of the audio and %.2f of the non-reference frames were delivered", a, b)
	}
}

// TestControl: the relay's own packets pass within two round trips though everything is full, with the congestion control for live media.
func TestControl(t *testing.T) {
	for _, name := range []string{"half-rate", "crowd", "bursty-publisher"} {
		r := simulate(t, Config{Scenario: load(t, name), Heuristic: heuristic.Default, Seed: 1})
		if r.ControlSent == 0 || float64(r.ControlInTime) < 0.99*float64(r.ControlSent) {
			t.Errorf("%s: %d of %d control messages passed within two round trips", name, r.ControlInTime, r.ControlSent)
		}
	}
}

// TestDeliveryTimeout: without a policy what waits too long is given up, and nothing waits longer.
func TestDeliveryTimeout(t *testing.T) {
	s := parse(t, `
duration = "5s"
timeout = "300ms"
[media]
bitrate = "2Mbit"
[[link]]
rate = "500kbit"
`)
	r := simulate(t, Config{Scenario: s, Heuristic: "admit-all", Seed: 1})
	n := 0
	for _, f := range r.Classes {
		n += f.Reset[causeAge]
		if sum(&f.Dropped) > 0 || sum(&f.Reset) != f.Reset[causeAge] {
			t.Errorf("%+v: there is no policy", f)
		}
	}
	if n < 80 {
		t.Errorf("%d objects were given up; three quarters of the bytes cannot pass", n)
	}
	if most := r.Delay.At(100); most > 1500 {
		t.Errorf("an object came whole after %v ms; after 300 nothing of it is sent any more", most)
	}
}

// TestPlan: what is admitted draws from the plan, sent or held, and what is dropped does not.
func TestPlan(t *testing.T) {
	w, err := newWorld(Config{Scenario: load(t, "half-rate"), Heuristic: "admit-all", Congestion: "scream", Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := w.clients[0]
	const rate = 1 << 20
	p := datapath.Policy{Rate: rate, Burst: 10 * pieceSize, Bands: []datapath.Band{{UpTo: datapath.MaxImportance}}}
	if err := c.space.SetPolicy(&p); err != nil {
		t.Fatal(err)
	}
	c.space.SetSendLimit(3 * maxSize) // the rest is held
	var bytes, sent uint64
	first := w.program.objects[0].stream // a key frame of more pieces than the plan takes
	for n := range w.program.streams[first].pieces {
		c.egress(w.program.streams[first].first + n)
		if c.streams[first].phase == reset {
			break
		}
		bytes += uint64(w.program.pieces[n].size)
		sent = c.stats.forwarded
	}
	if got := (c.space.PlanTime() - uint64(w.now)) * rate / 1e9; got < bytes-10 || got > bytes+10 || bytes != 10*pieceSize || sent != 3 {
		t.Errorf("the plan is %d bytes ahead; %d were admitted of a burst of %d, %d packets sent", got, bytes, 10*pieceSize, sent)
	}
	if s := &c.streams[first]; s.why != causeReserve || c.held != 0 || len(c.need) != 1 {
		t.Errorf("the stream is %+v, %d bytes are held", s, c.held)
	}
}

// admitAll has no policy.
type admitAll struct{}

func (admitAll) Name() string                           { return "admit-all" }
func (admitAll) Policy(*heuristic.View) datapath.Policy { return datapath.Policy{} }

// nonsense returns what is no policy.
type nonsense struct{}

func (nonsense) Name() string { return "nonsense" }
func (nonsense) Policy(*heuristic.View) datapath.Policy {
	return datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, Drop: -1}}}
}

func init() {
	for _, h := range []heuristic.Heuristic{admitAll{}, nonsense{}} {
		if err := heuristic.Register(h.Name(), func() heuristic.Heuristic { return h }); err != nil {
			panic(err)
		}
	}
}

// TestNonsense: a heuristic that returns nonsense is replaced by the default, and the result names it.
func TestNonsense(t *testing.T) {
	s := load(t, "half-rate")
	r := simulate(t, Config{Scenario: s, Heuristic: "nonsense", Seed: 1})
	want := simulate(t, Config{Scenario: s, Heuristic: heuristic.Default, Seed: 1})
	if r.Refused != 1 || r.Refusal == "" || r.Classes != want.Classes {
		t.Errorf("%d refused, %q; %+v, with the default %+v", r.Refused, r.Refusal, r.Classes, want.Classes)
	}
}

// TestSteadyState: packets cost no allocation once a run has got going. Policies may.
func TestSteadyState(t *testing.T) {
	s := load(t, "half-rate")
	w, err := newWorld(Config{Scenario: s, Heuristic: heuristic.Default, Congestion: "cubic", Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	until := func(end int64) {
		for w.now < end {
			if err := w.step(w.agenda.next()); err != nil {
				t.Fatal(err)
			}
		}
	}
	until(epoch + int64(10*time.Second))
	packets, policies := w.clients[0].stats.packets, w.clients[0].policies
	n := testing.AllocsPerRun(1, func() { until(w.now + int64(5*time.Second)) }) // once more to warm up
	packets, policies = (w.clients[0].stats.packets-packets)/2, (w.clients[0].policies-policies)/2
	if perPacket := (n - 5*float64(policies)) / float64(packets); packets < 500 || perPacket > 0.02 {
		t.Errorf("%v allocations for %d packets and %d policies", n, packets, policies)
	}
}

// BenchmarkRun is one subscriber of 5 Mbit/s for a minute; BenchmarkCrowd 30 on one bottleneck.
func BenchmarkRun(b *testing.B) {
	s := parse(b, `
duration = "60s"
[media]
bitrate = "5Mbit"
[[link]]
rate = "4Mbit"
loss = 0.001
`)
	benchmark(b, s)
}

func BenchmarkCrowd(b *testing.B) { benchmark(b, load(b, "crowd")) }

func benchmark(b *testing.B, s *scenario.Scenario) {
	var seconds float64
	b.ReportAllocs()
	for b.Loop() {
		r := simulate(b, Config{Scenario: s, Heuristic: heuristic.Default, Seed: 1})
		seconds += r.Seconds
	}
	b.ReportMetric(seconds/b.Elapsed().Seconds(), "x-real-time")
}

// sum adds up of counts by reason.
func sum(counts *[causes]int) (n int) {
	for _, x := range counts {
		n += x
	}
	return n
}
