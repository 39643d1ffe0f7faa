package relay_test

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
	"github.com/quic-go/quic-go"
)

// overload is a subscriber that counts what it gets of media that its path does not carry.
type overload struct {
	mu     sync.Mutex
	whole  map[uint8]int // streams by priority
	codes  map[uint64]int
	resets int                        // that came, those before anything else of their stream included
	groups map[uint64]map[uint64]bool // group → object IDs that came whole
}

func (o *overload) read(w *world, s *moq.Session) {
	for {
		rs, err := s.AcceptDataStream(s.Context())
		if err != nil {
			return
		}
		go func() {
			b, err := io.ReadAll(rs)
			var reset *quic.StreamError
			o.mu.Lock()
			defer o.mu.Unlock()
			if errors.As(err, &reset) && reset.Remote {
				o.resets++
				if len(b) > 0 {
					o.codes[uint64(reset.ErrorCode)]++
				}
				return
			}
			if err != nil {
				return // with the session, at the end of the test
			}
			h, err := wire.ParseSubgroupHeader(b, s.Draft())
			if err != nil {
				w.t.Error(err)
				return
			}
			o.whole[h.Priority]++
			if h.Priority >= media.PriorityKey {
				if o.groups[h.Group] == nil {
					o.groups[h.Group] = make(map[uint64]bool)
				}
				o.groups[h.Group][h.Subgroup] = true
			}
		}()
	}
}

// decodable returns how many frames can be decoded: frame 0 is the key frame, every third refers to others and nothing to it.
func (o *overload) decodable(frames uint64) (n int) {
	for _, g := range o.groups {
		for id := range frames {
			if !g[id] {
				if id%3 != 2 {
					break
				}
				continue
			}
			n++
		}
	}
	return n
}

// watched is a heuristic that remembers the last smoothed RTT that it was told.
type watched struct {
	heuristic.Heuristic
	rtt *atomic.Int64
}

func (h watched) Policy(v *heuristic.View) datapath.Policy {
	h.rtt.Store(int64(v.SmoothedRTT))
	return h.Heuristic.Policy(v)
}

// answers is how long the relay's answers were under way.
type answers struct {
	n, late int
	slowest time.Duration
	most    float64 // of smoothed RTTs
}

// ask has the relay answer SUBSCRIBE messages until stop is closed: of what nobody publishes, so that it has nobody to ask.
// A question is under way for as long as question.
func (a *answers) ask(w *world, s *moq.Session, question time.Duration, rtt *atomic.Int64, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(97 * time.Millisecond):
		}
		smoothed, before := time.Duration(rtt.Load()), time.Now()
		var refused *moq.SubscribeError
		if _, err := s.Subscribe(w.context(), []string{"nobody"}, "video", moq.SubscribeOptions{}); !errors.As(err, &refused) {
			w.t.Errorf("what nobody publishes: %v", err)
			return
		}
		took := time.Since(before) - question
		a.n++
		if took > 2*smoothed {
			a.late++
		}
		a.slowest, a.most = max(a.slowest, took), max(a.most, float64(took)/float64(smoothed))
	}
}

// TestOverload sends media through a bottleneck of 55 % of their rate, in virtual time, with the simulated datapath: groups of 30 frames,
// of which the key frame has 6 units, references 1 and the others a half, and audio. The relay says what became of everything,
// audio and key frames survive, a frame that was dropped stalls none, and control messages pass: an answer is under way for two smoothed round trips at most.
func TestOverload(t *testing.T) {
	run := func(t *testing.T, name string) (decodable int) {
		var rtt atomic.Int64
		cfg := relay.Config{Heuristic: func() heuristic.Heuristic {
			h, err := heuristic.New(name)
			must(t, err)
			return watched{h, &rtt}
		}}
		inFastWorldWith(t, cfg, func(w *world, _ *sim.Sim) {
			t := w.t
			const unit, frames, groups, every = 14000, 30, 20, time.Second / 30
			const rate = 30 * unit * 100 / 95 // bytes per second
			pub := w.publisher(wire.Draft16, "live")
			w.up = netsim.Shape{Delay: 10 * time.Millisecond}
			w.down = netsim.Shape{Delay: 10 * time.Millisecond, Rate: rate * 55 / 100, Queue: rate * 55 / 100 / 5}
			s, _ := w.session(wire.Draft16, &quic.Config{MaxIncomingUniStreams: 1000})
			o := &overload{whole: map[uint8]int{}, codes: map[uint64]int{}, groups: map[uint64]map[uint64]bool{}}
			go o.read(w, s)
			sub := w.subscribe(s, moq.SubscribeOptions{})
			videoAsk := <-pub.asks
			video := videoAsk.alias
			audioSub, err := s.Subscribe(w.context(), []string{"live"}, "audio", moq.SubscribeOptions{})
			must(t, err)
			audioAsk := <-pub.asks
			audio := audioAsk.alias
			sleep(t, 1)
			var a answers
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				time.Sleep(time.Second)
				a.ask(w, s, w.up.Delay, &rtt, stop)
			}()
			for g := range uint64(groups) {
				for f := range uint64(frames) {
					size, priority := unit, media.PriorityReference
					switch {
					case f == 0:
						size, priority = 6*unit, media.PriorityKey
					case f%3 == 2:
						size, priority = unit/2, media.PriorityNonReference
					}
					h := wire.SubgroupHeader{TrackAlias: video, Group: g, SubgroupMode: wire.SubgroupExplicit, Subgroup: f, Priority: priority}
					must(t, pub.stream(h, wire.Object{ID: f, Payload: make([]byte, size)}).Close())
					h = wire.SubgroupHeader{TrackAlias: audio, Group: g*frames + f, Priority: media.PriorityAudio}
					must(t, pub.stream(h, wire.Object{Payload: make([]byte, 30*unit*5/95/30)}).Close())
					time.Sleep(every)
				}
			}
			close(stop)
			<-stopped
			sleep(t, 10)
			stats := w.relay.Stats()
			sum := map[uint8]relay.Tally{}
			for _, track := range stats.Tracks {
				for _, sub := range track.Subscribers {
					for p, tally := range sub.Media {
						all := sum[p]
						all.Add(&tally)
						sum[p] = all
					}
				}
			}
			must(t, videoAsk.req.Done(moq.DoneTrackEnded, groups*frames, "over"))
			must(t, audioAsk.req.Done(moq.DoneTrackEnded, groups*frames, "over"))
			announced := uint64(0)
			for _, s := range []*moq.Subscription{sub, audioSub} {
				<-s.Done()
				_, streams, _ := s.Result()
				announced += streams
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			came := o.resets
			for _, n := range o.whole {
				came += n
			}
			if announced != uint64(came) {
				t.Errorf("PUBLISH_DONE announced %d streams, %d came, %d of them reset", announced, came, o.resets)
			}
			offered := map[uint8]int{media.PriorityAudio: groups * frames, media.PriorityKey: groups, media.PriorityReference: groups * 19, media.PriorityNonReference: groups * 10}
			for priority, n := range offered {
				tally := sum[priority]
				ended := tally.Delivered + tally.Open
				for _, m := range []map[string]uint64{tally.Dropped, tally.Reset} {
					for _, k := range m {
						ended += k
					}
				}
				t.Logf("priority %d: %d of %d arrived; %+v", priority, o.whole[priority], n, tally)
				if int(tally.Published) != n || ended != tally.Published || tally.Open != 0 || int(tally.Delivered) != o.whole[priority] {
					t.Errorf("priority %d: %d were sent, %d arrived, and the relay says %+v", priority, n, o.whole[priority], tally)
				}
			}
			decodable = o.decodable(frames)
			t.Logf("%s: %d frames decodable; resets by code %v; %v; %d answers took up to %v, %.2f smoothed RTTs", name, decodable, o.codes, stats.Reasons, a.n, a.slowest, a.most)
			if a.n < 100 || a.late > 0 {
				t.Errorf("%s: of %d answers %d took more than two smoothed RTTs, up to %v or %.2f of them", name, a.n, a.late, a.slowest, a.most)
			}
			if name != heuristic.Default {
				return
			}
			for _, priority := range []uint8{media.PriorityAudio, media.PriorityKey} {
				if 100*o.whole[priority] < 99*offered[priority] {
					t.Errorf("priority %d: %d of %d arrived, want 99 %%", priority, o.whole[priority], offered[priority])
				}
			}
			for code := range o.codes {
				if code != 2 {
					t.Errorf("%d streams were reset with code %d, want DELIVERY_TIMEOUT (2)", o.codes[code], code)
				}
			}
		})
		return decodable
	}
	var best, none int
	t.Run(heuristic.Default, func(t *testing.T) { best = run(t, heuristic.Default) })
	t.Run("none", func(t *testing.T) { none = run(t, "none") })
	if 2*best < 3*none || best == 0 {
		t.Errorf("%d frames decodable, %d with tail drop, want half as many more", best, none)
	}
}
