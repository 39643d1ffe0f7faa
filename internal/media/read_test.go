package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
	"pgregory.net/rapid"
)

func TestReadErrors(t *testing.T) {
	whole := sampleBytes(t)
	moov := bytes.Index(whole, []byte("moov")) - 4
	moovEnd := moov + int(binary.BigEndian.Uint32(whole[moov:]))
	edit := func(find string, at int, b ...byte) []byte { // overwrites b at bytes after the first box called find
		out := bytes.Clone(whole)
		copy(out[bytes.Index(out, []byte(find))+at:], b)
		return out
	}
	overlapping := progressive(t, 1000, 3) // two chunks of three samples, nearly at the same place
	overlapping[bytes.Index(overlapping, []byte("stsz"))+15] = 6
	encrypted := bytes.ReplaceAll(bytes.ReplaceAll(whole[:moovEnd], []byte("avc1"), []byte("encv")), []byte("mp4a"), []byte("enca"))
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "it has 0 bytes"},
		{"text", []byte("Dear Sir or Madam,\n"), "convert with ffmpeg"},
		{"no moov", whole[:moov], "no moov box"},
		{"cut in mdat", whole[:len(whole)-1], "cut short"},
		{"cut in moov", whole[:moovEnd-1], "cut short"},
		{"samples missing", whole[:moovEnd], "outside of the file"},
		{"encrypted", encrypted, "no video or audio"},
		{"more samples than bytes", edit("stsz", 8, 0, 0, 0, 0, 255, 255, 255, 255), "stsz"},
		{"uniform empty samples without end", edit("stsz", 8, 0, 0, 0, 1, 255, 255, 255, 255), "stsz"},
		{"samples overlap", overlapping, "overlap"},
		{"too many samples", progressive(t, 1, 1<<21), "more than 1048576 samples"},
		{"a fragment claims too many", slices.Concat(tinyFragmented(t), claims(1100, 1024)), "claims 1126400 samples"},
		{"other codec settings", edit("stsc", 20, 0, 0, 0, 2), "codec settings"},
		{"no timescale", edit("mdhd", 16, 0, 0, 0, 0), "timescale"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(tt.data))
			if !errors.Is(err, ErrNotMP4) {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.txt")
	if err := os.WriteFile(path, []byte("hello, world"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.HasPrefix(err.Error(), "sample.txt is no MP4: ") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(path + "4"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := Open(filepath.Dir(path)); err == nil {
		t.Error("a directory is read")
	}
}

type large struct{ io.ReadSeeker }

func (large) Seek(int64, int) (int64, error) { return MaxFileSize + 1, nil }

func TestReadBoundsTheSize(t *testing.T) {
	if _, err := Read(large{}); err == nil || !strings.Contains(err.Error(), "cut it") {
		t.Errorf("error %v", err)
	}
}

// A subtitle track is left out with a note, and the rest is read.
func TestUnknownTracksAreSkipped(t *testing.T) {
	data := bytes.Replace(sampleBytes(t), []byte("soun"), []byte("sbtl"), 1)
	c, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Tracks) != 1 || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "sbtl") {
		t.Errorf("%d tracks, notes %q", len(c.Tracks), c.Notes)
	}
}

func TestFirstFrameNeedNotBeAKeyFrame(t *testing.T) {
	m, err := parse(sampleBytes(t))
	if err != nil {
		t.Fatal(err)
	}
	m.sources[0].samples = m.sources[0].samples[3:]
	c, err := m.clip()
	if err != nil {
		t.Fatal(err)
	}
	o := c.Tracks[0].Objects[0]
	if o.Key || o.Group != 0 || o.ID != 0 || c.Tracks[0].Objects[22].Group != 1 || c.Tracks[1].Objects[0].Group != 0 {
		t.Errorf("%+v", o)
	}
}

// A live recording starts at the time of day: the clip starts at 0 and the tracks stay together.
func TestFragmentsThatStartLate(t *testing.T) {
	want, err := Read(bytes.NewReader(fragmentedSample(t, 1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(fragmentedSample(t, 1, 1_700_000_000)))
	if err != nil {
		t.Fatal(err)
	}
	for i, tr := range got.Tracks {
		for j := range tr.Objects {
			if tr.Objects[j].Hash() != want.Tracks[i].Objects[j].Hash() {
				t.Fatalf("%s object %d differs", tr.Name, j)
			}
		}
	}
}

// Files with a few wrong bytes: an error or a clip, never a panic, and no memory for what is not there.
func TestReadSurvivesDamage(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(512 << 20))
	files := map[string][]byte{"progressive": sampleBytes(t), "fragmented": fragmentedSample(t, 1, 0)}
	for name, file := range files {
		head := min(len(file), 12000) // the boxes
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				data := bytes.Clone(file)
				for range rapid.IntRange(1, 4).Draw(rt, "n") {
					data[rapid.IntRange(0, head-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
				}
				readAnything(rt, data)
			})
		})
	}
}

// readAnything reads data and, if it is taken, checks what must hold of every clip.
func readAnything(t interface{ Fatalf(string, ...any) }, data []byte) {
	c, err := Read(bytes.NewReader(data))
	if err != nil {
		return
	}
	if len(c.Tracks) == 0 || len(c.Groups) == 0 {
		t.Fatalf("a clip without tracks or groups")
	}
	if _, err := ParseCatalog(c.Catalog()); err != nil {
		t.Fatalf("its catalog is refused: %v", err)
	}
	for _, tr := range c.Tracks {
		for i, o := range tr.Objects {
			if o.Group >= uint64(len(c.Groups)) || o.Time < 0 || o.Duration < 0 || len(o.Payload) == 0 {
				t.Fatalf("%s object %d: %+v", tr.Name, i, o)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x08ftyp\x00\x00\x00\x08moov"))
	f.Add([]byte("\x00\x00\x00\x00moov\x00\x00\x00\x00trak"))
	f.Add(tinyFragmented(f))
	f.Add(tinyProgressive(f))
	f.Fuzz(func(t *testing.T, data []byte) { readAnything(t, data) })
}

// Whole files of few bytes, for the fuzzer to change: one audio track of three samples.

func TestTinyFiles(t *testing.T) {
	for name, file := range map[string][]byte{"fragmented": tinyFragmented(t), "progressive": tinyProgressive(t)} {
		if c, err := Read(bytes.NewReader(file)); err != nil || len(c.Tracks[0].Objects) != 3 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func tinyFragmented(t testing.TB) []byte {
	c := readSample(t)
	out := bytes.Clone(c.Tracks[1].Init)
	for _, o := range c.Tracks[1].Objects[:3] {
		out = append(out, o.Payload...)
	}
	return out
}

func tinyProgressive(t testing.TB) []byte { return progressive(t, 0, 3) }

// progressive has samples of the given size; 0: three that differ.
func progressive(t testing.TB, size, samples uint32) []byte {
	m, err := parse(sampleBytes(t))
	if err != nil {
		t.Fatal(err)
	}
	trak := emptyTrak(m.sources[1].trak, 1, 1024)
	stbl := trak.Mdia.Minf.Stbl
	stbl.Stts.SampleCount, stbl.Stts.SampleTimeDelta = []uint32{2, 1}, []uint32{1024, 512}
	if err := stbl.Stsc.AddEntry(1, 2, 1); err != nil {
		t.Fatal(err)
	}
	stbl.Stsz.SampleNumber, stbl.Stsz.SampleSize = samples, []uint32{8, 4, 4}
	stbl.Stco.ChunkOffset = []uint32{8, 20}
	mdat := []byte("\x00\x00\x00\x18mdat0123456789abcdef")
	if size > 0 {
		stbl.Stsz.SampleUniformSize, stbl.Stsz.SampleSize = size, nil
		stbl.Stsc.Entries[0].SamplesPerChunk = samples
		mdat = binary.BigEndian.AppendUint32(nil, 8+size*samples)
		mdat = append(append(mdat, "mdat"...), make([]byte, size*samples)...)
	}
	moov, err := encodeInit([]*mp4.TrakBox{trak})
	if err != nil {
		t.Fatal(err)
	}
	return append(mdat, moov...)
}

// claims is a moof of n runs of 16 bytes, each of which claims that many samples without data.
func claims(n int, samples uint32) []byte {
	box := func(kind string, payload ...[]byte) []byte {
		p := slices.Concat(payload...)
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(p))), kind...), p...)
	}
	trun := box("trun", make([]byte, 4), binary.BigEndian.AppendUint32(nil, samples))
	tfhd := box("tfhd", make([]byte, 4), []byte{0, 0, 0, 1})
	return box("moof", box("mfhd", make([]byte, 8)), box("traf", tfhd, bytes.Repeat(trun, n)))
}

func TestGuard(t *testing.T) {
	err := func() (err error) {
		defer guard(&err)
		panic("index out of range")
	}()
	if err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("error %v", err)
	}
}

// The delay that B-frames and the audio encoder cause is hidden by edit lists; they stay.
func TestEditListsAreKept(t *testing.T) {
	for _, tr := range readSample(t).Tracks {
		s, err := readInit(tr.Init)
		if want := map[Kind]int64{KindVideo: 512, KindAudio: 1024}; err != nil || s.mediaTime != want[tr.Kind] {
			t.Errorf("%s: %+v, %v", tr.Name, s, err)
		}
	}
	s := source{timescale: 1000}
	note := s.edit([]mp4.ElstEntry{{SegmentDuration: 45, MediaTime: -1}, {MediaTime: 7}, {MediaTime: 9}}, 90)
	if s.start != 500 || s.mediaTime != 7 || note == "" {
		t.Errorf("start %d, media time %d, note %q", s.start, s.mediaTime, note)
	}
}
