package media

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
)

// WriterOptions bound what a [Writer] holds back to put objects into order.
type WriterOptions struct {
	// Tracks are the names of the tracks to write. Default: all of the catalog.
	Tracks []string
	// Hold is how much media time is held back: a group is written once one that is so much later has arrived.
	// Objects that come after that are left out (and counted). Default: 5 s.
	Hold time.Duration
	// MaxBytes is how much payload is held back at most, whatever Hold says. Default: 64 MiB.
	MaxBytes int
}

// WriterStats counts objects by what became of them.
type WriterStats struct {
	Written     int
	Late        int // came after their group was written
	Duplicate   int
	Backwards   int // earlier than the object before them
	Undecodable int // video of a group whose first object never came
	Broken      int // no CMAF chunk of their track
}

// Writer puts received objects into one fragmented MP4 with all tracks: per group one fragment (moof+mdat) for each track.
//
// The file starts at time 0, wherever in the clip the first group lies: else players that honour the gap show nothing for as
// long as the publisher had been running. All tracks are moved by the same amount. A frame that never came is left out, and
// the one before it lasts longer.
//
// It is safe for use by several goroutines.
type Writer struct {
	mu      sync.Mutex
	w       io.Writer
	file    io.Closer // or nil
	opt     WriterOptions
	tracks  []*writerTrack
	groups  []*writerGroup // held back, by number
	bytes   int            // held back
	started bool
	done    uint64 // the last group that was written; valid if started
	zero    uint64 // what becomes time 0, in units of 1/zeroScale s
	scale   uint32
	seq     uint32
	stats   WriterStats
	err     error // of the output; sticks
	closed  bool
}

type writerTrack struct {
	name   string
	source *source
	last   uint64 // decode time of the last sample written
	any    bool
}

type writerGroup struct {
	number  uint64
	start   time.Duration // of the earliest object
	objects []map[uint64][]sample
	bytes   int
}

// Create makes the file path and a [Writer] that closes it.
func Create(path string, c *Catalog, o WriterOptions) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w, err := NewWriter(f, c, o)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w.file = f
	return w, nil
}

// NewWriter returns a Writer for a catalog of [ParseCatalog]. It writes nothing before the first group is complete.
func NewWriter(out io.Writer, c *Catalog, o WriterOptions) (*Writer, error) {
	if o.Hold <= 0 {
		o.Hold = 5 * time.Second
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	w := &Writer{w: out, opt: o}
	for i := range c.Tracks {
		t := c.Tracks[i]
		if len(o.Tracks) > 0 && !slices.Contains(o.Tracks, t.Name) {
			continue
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("track %q: %w", t.Name, err)
		}
		w.tracks = append(w.tracks, &writerTrack{name: t.Name, source: t.source})
	}
	if len(w.tracks) == 0 {
		return nil, fmt.Errorf("the catalog has none of the tracks %q", o.Tracks)
	}
	return w, nil
}

// Add takes an object. It keeps payload. An error that wraps [ErrBadObject] concerns this object alone; any other is from
// the output, and nothing more will be written.
func (w *Writer) Add(track string, group, id uint64, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	if w.err != nil {
		return w.err
	}
	n := slices.IndexFunc(w.tracks, func(t *writerTrack) bool { return t.name == track })
	if n < 0 {
		w.stats.Broken++
		return fmt.Errorf("%w: unknown track %q", ErrBadObject, track)
	}
	t := w.tracks[n]
	samples, err := readChunk(t.source, payload)
	if err != nil {
		w.stats.Broken++
		return fmt.Errorf("%w: %s group %d object %d: %w", ErrBadObject, track, group, id, err)
	}
	if w.started && group <= w.done {
		w.stats.Late++
		return nil
	}
	g := w.group(group)
	if g.objects[n][id] != nil {
		w.stats.Duplicate++
		return nil
	}
	if g.objects[n] == nil {
		g.objects[n] = map[uint64][]sample{}
	}
	g.objects[n][id] = samples
	g.start = min(g.start, toDuration(samples[0].dts, t.source.timescale))
	cost := len(payload) + objectOverhead
	g.bytes, w.bytes = g.bytes+cost, w.bytes+cost

	for len(w.groups) > 1 && (w.bytes > w.opt.MaxBytes || w.groups[len(w.groups)-1].start-w.groups[0].start > w.opt.Hold) {
		w.flush()
	}
	if w.bytes > w.opt.MaxBytes { // one group alone is too large
		w.flush()
	}
	return w.err
}

// objectOverhead is about what an object costs beside its payload, so that a flood of tiny ones is bounded too.
const objectOverhead = 256

// ErrBadObject says that an object is no CMAF chunk of its track.
var ErrBadObject = errors.New("bad object")

func (w *Writer) group(number uint64) *writerGroup {
	i, found := slices.BinarySearchFunc(w.groups, number, func(g *writerGroup, n uint64) int {
		switch {
		case g.number < n:
			return -1
		case g.number > n:
			return 1
		}
		return 0
	})
	if !found {
		g := &writerGroup{number: number, start: 1<<63 - 1, objects: make([]map[uint64][]sample, len(w.tracks))}
		w.groups = slices.Insert(w.groups, i, g)
	}
	return w.groups[i]
}

// Stats returns the counts so far; they are final after Close.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close writes what is held back. Without any object the file describes the tracks and holds no sample.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	for len(w.groups) > 0 && w.err == nil {
		w.flush()
	}
	if !w.started && w.err == nil {
		w.err = w.header()
	}
	if w.file != nil {
		return errors.Join(w.err, w.file.Close())
	}
	return w.err
}

// flush writes the earliest group.
func (w *Writer) flush() {
	g := w.groups[0]
	w.groups, w.bytes = slices.Delete(w.groups, 0, 1), w.bytes-g.bytes
	if !w.started {
		w.setZero(g)
		w.err = w.header()
	}
	w.started, w.done = true, g.number
	for n, t := range w.tracks {
		if w.err == nil && len(g.objects[n]) > 0 {
			w.err = w.writeTrack(uint32(n+1), t, g.objects[n])
		}
	}
}

// setZero takes the earliest decode time of the first group as the start of the file.
func (w *Writer) setZero(g *writerGroup) {
	for n, objects := range g.objects {
		scale := w.tracks[n].source.timescale
		for _, s := range objects {
			if w.scale == 0 || before(s[0].dts, scale, w.zero, w.scale) {
				w.zero, w.scale = s[0].dts, scale
			}
		}
	}
}

func (w *Writer) header() (err error) {
	defer guard(&err)
	traks := make([]*mp4.TrakBox, len(w.tracks))
	for n, t := range w.tracks {
		traks[n] = emptyTrak(t.source.trak, uint32(n+1), t.source.mediaTime)
	}
	b, err := encodeInit(traks)
	if err != nil {
		return err
	}
	_, err = w.w.Write(b)
	return err
}

func (w *Writer) writeTrack(id uint32, t *writerTrack, objects map[uint64][]sample) (err error) {
	defer guard(&err)
	if _, ok := objects[0]; !ok && t.source.kind == KindVideo {
		w.stats.Undecodable += len(objects)
		return nil
	}
	ids := make([]uint64, 0, len(objects))
	for id := range objects {
		ids = append(ids, id)
	}
	slices.Sort(ids) // object IDs follow decode order, whatever order they came in
	zero := scale(w.zero, uint64(w.scale), uint64(t.source.timescale))
	var run []sample
	for _, id := range ids {
		s := objects[id]
		first := s[0].dts
		if first < zero || t.any && first < t.last {
			w.stats.Backwards++
			continue
		}
		for _, sm := range s {
			sm.dts -= zero
			run = append(run, sm)
		}
		t.any, t.last = true, s[len(s)-1].dts
		w.stats.Written++
	}
	if len(run) == 0 {
		return nil
	}
	stretch(run)
	w.seq++
	f, err := fragment(w.seq, id, run)
	if err != nil {
		return err
	}
	return f.Encode(w.w)
}

// stretch sets durations such that they add up to the decode times: a fragment holds only durations. It closes the holes that
// frames left which never came, and gives samples with equal times one unit each, as players want times that grow.
func stretch(run []sample) {
	at := run[0].dts
	for i := range run[:len(run)-1] {
		d := uint64(1)
		if next := run[i+1].dts; next > at {
			d = min(next-at, 1<<32-1)
		}
		run[i].dur = uint32(d)
		at += d
	}
}
