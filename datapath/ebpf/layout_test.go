//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"regexp"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/fastrelay/fastrelay/datapath"
)

// TestLayouts compares the layouts that Go reads and writes through mapped memory with those of the built object.
func TestLayouts(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		size uint32
		at   map[string]uint32 // offsets of fields
	}{
		{"number_window", 8 * windowWords, map[string]uint32{"next": 8 * windowNext, "watermark": 8 * windowWatermark, "streams": 8 * windowStreams, "slots": 8 * windowSlots}},
		{"member_list", 4 * listWords, map[string]uint32{"n": 4 * listCount, "place": 4 * listPlaces}},
		{"rest", 8 * restWords, map[string]uint32{"used": 0}},
		{"fan_out", fanOutBytes, map[string]uint32{"turns": 0}},
		{"space", 8 * datapath.SpaceWords, map[string]uint32{"words": 0}},
		{"record", uint32(unsafe.Sizeof(bpfRecord{})), map[string]uint32{
			"time": uint32(unsafe.Offsetof(bpfRecord{}.Time)), "frames": uint32(unsafe.Offsetof(bpfRecord{}.Frames)),
			"frame": uint32(unsafe.Offsetof(bpfRecord{}.Frame))}},
	} {
		var s *btf.Struct
		if err := spec.Types.TypeByName(c.name, &s); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s.Size != c.size {
			t.Errorf("%s has %d bytes in C and %d in Go", c.name, s.Size, c.size)
		}
		found := 0
		for _, m := range s.Members {
			want, ok := c.at[m.Name]
			if ok {
				found++
			}
			if got := m.Offset.Bytes(); ok && got != want {
				t.Errorf("%s.%s is at %d in C and at %d in Go", c.name, m.Name, got, want)
			}
		}
		if found != len(c.at) {
			t.Errorf("%s: %d of %d fields found", c.name, found, len(c.at))
		}
	}
	// docs/rules.md promises how many records a ring holds.
	if n := unsafe.Sizeof(bpfRecord{}) + ringHeader; n != 312 {
		t.Errorf("a record takes %d bytes of the ring, not 312", n)
	}
}

// define returns the value of a macro of types.h.
func define(text, name string) string {
	m := regexp.MustCompile(`(?m)^#define ` + name + ` (\w+)$`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

// TestFlags compares the flags of a record's frame, and the keys of `rests`.
func TestFlags(t *testing.T) {
	text := header(t)
	for name, want := range map[string]string{"FRAME_FIN": "1", "FRAME_OPENED": "2", "FRAME_DATAGRAM": "4", "GENERATION_HALF": "0x100",
		"REST_STREAMS": "0", "REST_CLIENT_STREAMS": "1", "RESTS": "2"} {
		if got := define(text, name); got != want {
			t.Errorf("%s is %q in C and %s in Go", name, got, want)
		}
	}
	if frameFin != 1 || frameOpened != 2 || frameDatagram != 4 || generationHalf != 0x100 {
		t.Error("a constant of Go has changed")
	}
}
