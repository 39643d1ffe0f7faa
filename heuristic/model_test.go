package heuristic

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// model is a closed loop around a heuristic: a publisher's video and audio, a client's space with the policy's own decisions, and a path
// that takes what congestion control allows at once, the most important that waits first. What the network itself does is the study's.
type model struct {
	fps, gop  int
	unit      int                             // bytes of a reference frame
	key       float64                         // units of a key frame
	skip      int                             // every skip-th frame is one that nothing refers to; 0: none
	light     float64                         // its units
	jitter    float64                         // of sizes
	audio     int                             // bytes of an audio frame, 50 a second; 0: none
	rate      func(t time.Duration) float64   // bytes per second
	gopLength func(r *rand.Rand, gop int) int // nil: gop
	deadline  time.Duration                   // after which a frame is of no use; 0: none
	timeout   time.Duration                   // View.Timeout
	seconds   int
	trace     func(v *View, p *datapath.Policy) // each view
}

// halfRate is the media of the scenario of that name, at share of their rate.
func halfRate(share float64) *model {
	const unit = 20_000
	media := 30.0*unit + 50*600
	return &model{fps: 30, gop: 30, unit: unit, key: 6, skip: 3, light: 0.5, jitter: 0.1, audio: 600, seconds: 60,
		deadline: time.Second, rate: func(time.Duration) float64 { return media * share }}
}

const (
	modelAudio = iota
	modelKey
	modelReference
	modelLight
)

var modelImportance = [...]uint16{128<<8 | 16, 128<<8 | 32, 128<<8 | 64, 128<<8 | 128}

type modelFrame struct {
	kind            int
	group, at       int // at: place in the group
	size, left      int // left: bytes that wait
	came            time.Duration
	done            time.Duration // 0: not whole
	dropped, opened bool
}

// result counts frames by kind.
type result struct {
	published, delivered [4]int
	decodable, video     int
	wasted, sent         int // bytes
	idle                 int // bytes that the path could have taken
	delays               []time.Duration
}

func (r *result) share(kind int) float64 {
	return float64(r.delivered[kind]) / float64(max(r.published[kind], 1))
}

func (m *model) run(h Heuristic, seed uint64) *result {
	var (
		rng    = rand.New(rand.NewPCG(seed, 1))
		now    time.Duration
		space  = datapath.NewSpace(nil, func() uint64 { return uint64(now) + 1e9 })
		meter  Meter
		frames []*modelFrame
		queue  []*modelFrame // admitted, by importance
		cut    uint64        // of the video track
		group  = 1
		at     int
		length = m.gop
		credit float64
		age    [4]time.Duration
		res    result
		id     uint64
		phase  = time.Duration(rng.Int64N(int64(time.Second)))
	)
	space.Reset()
	offer := func(f *modelFrame) {
		frames = append(frames, f)
		id++
		f.came = now
		for off := 0; off < f.size; off += 1200 {
			n := min(1200, f.size-off)
			reason := datapath.ReasonDropStream
			if !f.dropped {
				o := datapath.Offer{Importance: modelImportance[f.kind], Group: uint64(f.group), Sample: id, Size: uint64(n), Started: f.opened}
				if f.kind != modelAudio {
					o.Cut = cut
				}
				var c bool
				reason, c = space.Admit(space.Now(), &o)
				if c && f.kind != modelAudio {
					cut = max(cut, uint64(f.group)+1)
				}
				if reason.Dropped() {
					f.dropped, f.left = true, 0
				} else {
					space.ChargePlan(space.Now(), uint64(n))
					f.opened = true
					f.left += n
				}
			}
			meter.Offer(now, modelImportance[f.kind], uint64(f.group), id, n, reason)
		}
		if !f.dropped {
			i, _ := slices.BinarySearchFunc(queue, f, func(a, b *modelFrame) int {
				if a.kind != b.kind {
					return a.kind - b.kind
				}
				return -1 // behind its like
			})
			queue = slices.Insert(queue, i, f)
		}
	}
	size := func(units float64) int {
		return max(int(units*float64(m.unit)*(1+m.jitter*(2*rng.Float64()-1))), 1)
	}
	nextVideo, nextAudio, nextView := phase/10, phase/20, time.Duration(0)
	var sent uint64
	for ; now < time.Duration(m.seconds)*time.Second; now += time.Millisecond {
		for nextAudio <= now && m.audio > 0 {
			offer(&modelFrame{kind: modelAudio, group: int(now / time.Second), size: m.audio})
			nextAudio += 20 * time.Millisecond
		}
		for nextVideo <= now {
			f := &modelFrame{kind: modelReference, group: group, at: at}
			switch {
			case at == 0:
				f.kind, f.size = modelKey, size(m.key)
			case m.skip > 0 && at%m.skip == 0:
				f.kind, f.size = modelLight, size(m.light)
			default:
				f.size = size(1)
			}
			offer(f)
			nextVideo += time.Second / time.Duration(m.fps)
			if at++; at >= length {
				group, at = group+1, 0
				if m.gopLength != nil {
					length = m.gopLength(rng, m.gop)
				}
			}
		}
		rate := m.rate(now)
		credit += rate / 1000
		for i := 0; i < len(queue); i++ {
			f := queue[i]
			if a := age[f.kind]; a > 0 && now-f.came > a { // userspace resets it
				f.dropped, f.left = true, 0
			} else {
				n := min(f.left, int(credit))
				f.left -= n
				credit -= float64(n)
				sent += uint64(n)
				res.sent += n
				if f.left == 0 {
					f.done = now + 1
				}
			}
			if f.left == 0 {
				queue = slices.Delete(queue, i, i+1)
				i--
			}
		}
		if len(queue) == 0 && credit > 2400 {
			res.idle += int(credit - 2400)
			credit = 2400
		}
		if now >= nextView {
			nextView += Interval
			v := View{Now: now, Rate: uint64(m.rate(max(now-100*time.Millisecond, 0))), Timeout: m.timeout, SmoothedRTT: 40 * time.Millisecond, MinRTT: 40 * time.Millisecond, Sent: sent}
			sent = 0
			for _, f := range queue {
				v.Backlog += uint64(f.left)
			}
			if plan := space.PlanTime(); plan > space.Now() {
				v.Plan = time.Duration(plan - space.Now())
			}
			meter.View(&v)
			p := h.Policy(&v)
			if err := space.SetPolicy(&p); err != nil {
				panic(err)
			}
			if m.trace != nil {
				m.trace(&v, &p)
			}
			for k := range age {
				age[k] = m.timeout
				for _, b := range p.Bands {
					if modelImportance[k] <= b.UpTo {
						if b.MaxAge > 0 && (age[k] == 0 || b.MaxAge < age[k]) {
							age[k] = b.MaxAge
						}
						break
					}
				}
			}
		}
	}
	chain, in := 0, 0
	for _, f := range frames {
		if now-f.came < 2*time.Second { // may be under way
			break
		}
		ok := f.done > 0 && (m.deadline == 0 || f.done-f.came <= m.deadline)
		res.published[f.kind]++
		if ok {
			res.delivered[f.kind]++
			res.delays = append(res.delays, f.done-f.came)
		}
		if f.kind == modelAudio {
			continue
		}
		res.video++
		if f.kind == modelKey {
			in, chain = f.group, 0
		}
		decodable := ok && in == f.group && (f.kind == modelKey || chain == 1)
		switch {
		case f.kind == modelKey && ok:
			chain = 1
		case f.kind == modelReference && !ok:
			chain = 0
		}
		if decodable {
			res.decodable++
		} else if f.done > 0 {
			res.wasted += f.size
		}
	}
	slices.Sort(res.delays)
	return &res
}
