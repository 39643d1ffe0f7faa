package run

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// Class is what kind of frame an object is.
type Class uint8

// Classes of objects, the most important first.
const (
	Audio Class = iota
	Key
	Reference
	NonReference
	Classes = 4
)

var classNames = [Classes]string{"audio", "key", "reference", "non_reference"}

func (c Class) String() string { return classNames[c] }

// object is what is published: one frame.
type object struct {
	at       int64 // when it was captured, ns
	handed   int64 // when the publisher sends it
	group    uint64
	size     int32
	stream   int32
	last     int32 // position of its last piece in the stream
	needs    int32 // the object that it cannot be decoded without, -1 for none
	class    Class
	priority uint8 // of the publisher
	track    uint8
	layer    uint8 // temporal layer; with one alone, 1 is what nothing refers to
	came     int64 // when its first piece comes to the relay
}

// stream is a stream of the publisher.
type stream struct {
	group    uint64
	first    int32 // its first piece
	pieces   int32
	bytes    int32
	priority uint8
	track    uint8
}

// piece is what one packet of the publisher carries: bytes of one stream.
type piece struct {
	stream, object int32
	offset         uint32 // in the stream
	size           uint16
	fin            bool
}

// program is all that is published in a run, for all subscribers. Pieces of a stream stand together.
type program struct {
	objects  []object // as handed over
	streams  []stream
	pieces   []piece
	arrivals []arrival // at the relay
	end      int64
}

type arrival struct {
	at    int64
	piece int32
}

// Tracks of a program.
const (
	trackVideo = iota
	trackAudio
	tracks
)

// pieceSize is how many bytes of a stream a packet carries: what fits maxSize with the largest headers.
const pieceSize = 1400

// uplinkDelay is one way from the publisher to the relay.
const uplinkDelay = 5 * int64(time.Millisecond)

// newProgram makes the media of a scenario. seed makes the sizes of frames.
func newProgram(s *scenario.Scenario, seed uint64) *program {
	p := &program{end: s.Duration.Nanoseconds()}
	if s.Media.Clip != nil {
		p.fromClip(&s.Media)
	} else {
		p.fromModel(&s.Media, rand.New(rand.NewPCG(seed, 0x3ed1a)))
	}
	for i := range p.objects {
		o := &p.objects[i]
		o.handed = o.at
		if b := s.Media.Burst.Nanoseconds(); b > 0 {
			o.handed = (o.at + b - 1) / b * b
		}
	}
	p.cut(s.Media.Streams == media.PerLayer.String())
	p.send(float64(s.Media.Uplink) / 8)
	return p
}

// fromModel makes groups of pictures, and audio.
func (p *program) fromModel(m *scenario.Media, random *rand.Rand) {
	layers := pattern(m)
	sum := 0.0
	for i := range m.Group {
		sum += weight(m, layers, i)
	}
	video := float64(m.Bitrate) / 8 * (1 - *m.Audio) * float64(m.Group) / float64(m.FPS) / sum // bytes per unit
	var last [4]int32                                                                          // newest object of each temporal layer in the group
	for n := int64(0); n*int64(time.Second)/int64(m.FPS) < p.end && *m.Audio < 1; n++ {
		i := int(n) % m.Group
		o := object{at: n * int64(time.Second) / int64(m.FPS), group: uint64(n) / uint64(m.Group), track: trackVideo, needs: -1}
		o.size = int32(max(video*weight(m, layers, i)*vary(random, *m.Variation), 16))
		layer := layers(i)
		switch top := m.Layers - 1; {
		case i == 0:
			o.class = Key
			for l := range last {
				last[l] = int32(len(p.objects))
			}
		case layer > top || layer == top && top > 0:
			o.class, o.needs = NonReference, last[top]
			if layer > 0 && top > 0 {
				o.needs = last[layer-1]
			}
		default:
			o.class, o.needs = Reference, last[max(layer-1, 0)]
			for l := layer; l < len(last); l++ {
				last[l] = int32(len(p.objects))
			}
		}
		o.layer, o.priority = uint8(layer), priority(o.class)
		if o.class == Reference {
			o.priority += uint8(16 * layer)
		}
		p.objects = append(p.objects, o)
	}
	if *m.Audio == 0 {
		return
	}
	const audioInterval = int64(20 * time.Millisecond)
	bytes := float64(m.Bitrate) / 8 * *m.Audio * float64(audioInterval) / 1e9
	for at := int64(0); at < p.end; at += audioInterval {
		o := object{at: at, class: Audio, priority: media.PriorityAudio, track: trackAudio, needs: -1}
		o.group = uint64(at) * uint64(m.FPS) / uint64(time.Second) / uint64(m.Group)
		o.size = int32(max(bytes*vary(random, *m.Variation/3), 16))
		p.objects = append(p.objects, o)
	}
	slices.SortStableFunc(p.objects, func(a, b object) int { return cmp.Compare(a.at, b.at) })
	p.renumber()
}

// renumber mends what frames need after audio was sorted among them: video frames keep their order.
func (p *program) renumber() {
	var video []int32
	for i := range p.objects {
		o := &p.objects[i]
		if o.track != trackVideo {
			continue
		}
		if o.needs >= 0 {
			o.needs = video[o.needs]
		}
		video = append(video, int32(i))
	}
}

// pattern returns the temporal layer of the i-th frame of a group. With one layer, frames that nothing refers to are in layer 1.
func pattern(m *scenario.Media) func(i int) int {
	if m.Layers == 1 {
		return func(i int) int {
			if *m.Every > 0 && i%*m.Every == *m.Every-1 {
				return 1
			}
			return 0
		}
	}
	return func(i int) int { // a dyadic hierarchy: of four frames 0, 2, 1, 2
		layer := m.Layers - 1
		for ; layer > 0 && i%2 == 0; i /= 2 {
			layer--
		}
		return layer
	}
}

// weight is the size of the i-th frame of a group, in units.
func weight(m *scenario.Media, layers func(int) int, i int) float64 {
	switch {
	case i == 0:
		return m.Key
	case m.Layers == 1 && layers(i) == 1, m.Layers > 1 && layers(i) == m.Layers-1:
		return m.NonReference
	}
	return m.Reference
}

// vary returns a factor around 1.
func vary(random *rand.Rand, deviation float64) float64 {
	return min(max(1+deviation*random.NormFloat64(), 0.3), 2)
}

func priority(c Class) uint8 {
	switch c {
	case Audio:
		return media.PriorityAudio
	case Key:
		return media.PriorityKey
	case Reference:
		return media.PriorityReference
	}
	return media.PriorityNonReference
}

// fromClip plays a file until the end. Of several tracks of a kind the first is taken.
func (p *program) fromClip(m *scenario.Media) {
	clip := m.Clip
	scale := 1.0
	var bytes int
	for _, t := range clip.Tracks {
		for i := range t.Objects {
			bytes += len(t.Objects[i].Payload)
		}
	}
	if m.Bitrate > 0 && bytes > 0 {
		scale = float64(m.Bitrate) / 8 * clip.Duration.Seconds() / float64(bytes)
	}
	seen := map[media.Kind]bool{}
	for _, t := range clip.Tracks {
		if seen[t.Kind] {
			continue
		}
		seen[t.Kind] = true
		for round := int64(0); round*int64(clip.Duration) < p.end; round++ {
			p.fromTrack(t, round*int64(clip.Duration), uint64(round)*uint64(len(clip.Groups)), scale)
		}
	}
	slices.SortStableFunc(p.objects, func(a, b object) int { return cmp.Compare(a.at, b.at) })
	p.chain()
}

func (p *program) fromTrack(t *media.Track, start int64, group uint64, scale float64) {
	for i := range t.Objects {
		x := &t.Objects[i]
		o := object{at: start + int64(x.Time), group: group + x.Group, priority: x.Priority, needs: -1}
		if o.at >= p.end {
			return
		}
		o.size = int32(max(float64(len(x.Payload))*scale, 16))
		switch {
		case t.Kind == media.KindAudio:
			o.class, o.track = Audio, trackAudio
		case x.Key:
			o.class = Key
		case x.Reference:
			o.class = Reference
		default:
			o.class, o.layer = NonReference, 1
		}
		p.objects = append(p.objects, o)
	}
}

// chain has each frame of a file need the last reference before it: which ones it really needs is not read.
func (p *program) chain() {
	last := int32(-1)
	for i := range p.objects {
		o := &p.objects[i]
		if o.class == Reference || o.class == NonReference {
			o.needs = last
		}
		if o.class == Key || o.class == Reference {
			last = int32(i)
		}
	}
}

// cut makes streams of the objects, and pieces of the streams.
func (p *program) cut(layered bool) {
	type key struct {
		track, layer uint8
		group        uint64
	}
	of := map[key]int32{}
	members := make([][]int32, 0, len(p.objects))
	for i := range p.objects {
		o := &p.objects[i]
		k := key{o.track, o.layer, o.group}
		n, ok := of[k]
		if !ok || !layered {
			n = int32(len(p.streams))
			of[k] = n
			s := stream{group: o.group, track: o.track, priority: o.priority}
			p.streams = append(p.streams, s)
			members = append(members, nil)
		}
		o.stream = n
		o.priority = p.streams[n].priority
		members[n] = append(members[n], int32(i))
	}
	for n := range p.streams {
		s := &p.streams[n]
		s.first = int32(len(p.pieces))
		for j, i := range members[n] {
			o := &p.objects[i]
			for left := o.size; left > 0; {
				size := min(left, pieceSize)
				left -= size
				p.pieces = append(p.pieces, piece{
					stream: int32(n), object: i, offset: uint32(s.bytes), size: uint16(size), fin: left == 0 && j == len(members[n])-1,
				})
				s.bytes += size
			}
			o.last = int32(len(p.pieces)) - s.first - 1
		}
		s.pieces = int32(len(p.pieces)) - s.first
	}
}

// send works out when the pieces arrive at the relay over the publisher's uplink, in bytes per second.
func (p *program) send(rate float64) {
	next := make([]int32, len(p.streams))
	order := make([]int32, len(p.objects))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(p.objects[a].handed, p.objects[b].handed) })
	free := int64(0)
	for _, i := range order {
		o := &p.objects[i]
		s := &p.streams[o.stream]
		for ; next[o.stream] <= o.last; next[o.stream]++ {
			n := s.first + next[o.stream]
			free = max(free, o.handed) + int64(float64(int(p.pieces[n].size)+headers+udpIP)*1e9/rate)
			p.arrivals = append(p.arrivals, arrival{free + uplinkDelay, n})
			if o.came == 0 {
				o.came = free + uplinkDelay
			}
		}
	}
}
