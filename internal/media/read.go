package media

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/Eyevinn/mp4ff/mp4"
)

// Bounds of what [Open] and [Read] take: a clip is held in memory.
const (
	MaxFileSize = 1 << 30 // bytes
	MaxSamples  = 1 << 20 // over all tracks; more than 6 h of AAC
	maxTracks   = 64
	maxMetadata = 256 << 20 // bytes of one moov or moof
)

// ErrNotMP4 says that the input is not an MP4 file that can be read.
var ErrNotMP4 = errors.New("no MP4")

// Open reads an MP4 file, progressive or fragmented, with [PerFrame] layout.
func Open(path string) (*Clip, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory; give an .mp4 file", filepath.Base(path))
	}
	c, err := Read(f)
	switch {
	case errors.Is(err, ErrNotMP4):
		return nil, fmt.Errorf("%s is %w", filepath.Base(path), err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return c, nil
}

// Read is [Open] for a file that is already open; it reads r from its start.
func Read(r io.ReadSeeker) (*Clip, error) {
	m, err := load(r)
	if err != nil {
		return nil, err
	}
	return m.clip()
}

func load(r io.ReadSeeker) (*movie, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("find the size: %w", err)
	}
	if size > MaxFileSize {
		return nil, fmt.Errorf("%d MB is more than the limit of %d MB: cut it, for example with ffmpeg -t 60 -c copy", size>>20, MaxFileSize>>20)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("go to the start: %w", err)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return parse(data)
}

// movie is a parsed file: what tracks there are and where their samples lie.
type movie struct {
	data    []byte
	sources []*source
	notes   []string
	samples int // over all tracks
}

// source is a track of the input file.
type source struct {
	id        uint32
	kind      Kind
	codec     string
	nal       nalKind
	timescale uint32
	trak      *mp4.TrakBox
	trex      *mp4.TrexBox
	start     uint64 // added to all times: a leading empty edit, in units of timescale
	mediaTime int64  // where the presentation starts within the media (edit list)
	samples   []sample
	bytes     int
	next      uint64 // decode time after the last sample
}

// sample is one access unit; times are in units of the track's timescale.
type sample struct {
	dts        uint64
	dur        uint32
	cto        int32
	sync       bool
	disposable bool // by the container; refined by the bitstream, see frametype.go
	data       []byte
}

func parse(data []byte) (m *movie, err error) {
	if err := looksLikeMP4(data); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrNotMP4) {
			err = fmt.Errorf("%w that can be read: %w", ErrNotMP4, err)
		}
	}()
	defer guard(&err)
	top, err := boxes(data, 0)
	if err != nil {
		return nil, err
	}
	m = &movie{data: data}
	moov := slices.IndexFunc(top, func(b box) bool { return b.kind == "moov" })
	if moov < 0 {
		return nil, errors.New("it has no moov box (an unfinished recording?); write it again, for example with ffmpeg -c copy")
	}
	if err := m.readMoov(top[moov]); err != nil {
		return nil, err
	}
	for _, b := range top {
		if b.kind != "moof" {
			continue
		}
		if err := m.readMoof(b); err != nil {
			return nil, err
		}
	}
	m.dropEmpty()
	if len(m.sources) == 0 {
		return nil, errors.New("it has no video or audio samples")
	}
	for _, s := range m.sources {
		s.classify()
	}
	return m, nil
}

// looksLikeMP4 gives the plain answer for the common mistake of another kind of file.
func looksLikeMP4(data []byte) error {
	const advice = "give an .mp4 file, or convert with ffmpeg -i INPUT out.mp4"
	if len(data) < 8 {
		return fmt.Errorf("%w: it has %d bytes; %s", ErrNotMP4, len(data), advice)
	}
	known := []string{"ftyp", "styp", "moov", "moof", "mdat", "free", "skip", "wide", "sidx", "pdin", "emsg", "prft", "uuid"}
	if !slices.Contains(known, string(data[4:8])) {
		return fmt.Errorf("%w: it starts with %q; %s", ErrNotMP4, data[:8], advice)
	}
	return nil
}

func (m *movie) dropEmpty() {
	m.sources = slices.DeleteFunc(m.sources, func(s *source) bool {
		if len(s.samples) > 0 {
			return false
		}
		m.notes = append(m.notes, fmt.Sprintf("track %d (%s) is skipped: it has no samples", s.id, s.codec))
		return true
	})
}

// add appends a sample with the given bytes of data, and keeps the bounds: no sample outside of the data, no byte sold twice.
func (m *movie) add(s *source, sm sample, data []byte, off uint64, size uint32) error {
	if off > uint64(len(data)) || uint64(size) > uint64(len(data))-off {
		return fmt.Errorf("sample %d of track %d lies outside of the file: it is cut short", len(s.samples)+1, s.id)
	}
	if m.samples++; m.samples > MaxSamples {
		return fmt.Errorf("it has more than %d samples: cut it, or encode PCM audio as AAC", MaxSamples)
	}
	if s.bytes += int(size); s.bytes > len(data) {
		return fmt.Errorf("the samples of track %d overlap", s.id)
	}
	if sm.dts < s.next && len(s.samples) > 0 {
		return fmt.Errorf("the times of track %d run backwards at sample %d; write it again, for example with ffmpeg -c copy", s.id, len(s.samples)+1)
	}
	s.next = sm.dts + uint64(sm.dur)
	if s.next/uint64(s.timescale) > maxSeconds {
		return fmt.Errorf("the times of track %d are out of range", s.id)
	}
	sm.data = data[off : off+uint64(size) : off+uint64(size)]
	s.samples = append(s.samples, sm)
	return nil
}
