package media

import (
	"slices"
	"testing"
)

func nal(b ...byte) []byte { return append([]byte{0, 0, 0, byte(len(b))}, b...) }

func TestFrameTypes(t *testing.T) {
	hevc := func(kind, layer byte) []byte { return nal(kind<<1, layer+1, 0, 0) }
	sei := nal(6, 1, 2, 3)
	for _, tt := range []struct {
		name    string
		kind    nalKind
		samples [][]byte
		want    []bool // disposable
	}{
		{"AVC nal_ref_idc", nalAVC, [][]byte{nal(0x65, 0, 0), nal(0x41, 0, 0), nal(0x01, 0, 0), nal(0x21, 0, 0)}, []bool{false, false, true, false}},
		{"AVC behind SEI", nalAVC, [][]byte{slices.Concat(sei, nal(0x01, 0, 0)), slices.Concat(sei, nal(0x41, 0, 0))}, []bool{true, false}},
		{"HEVC one layer", nalHEVC, [][]byte{hevc(19, 0), hevc(1, 0), hevc(0, 0), hevc(8, 0), hevc(9, 0)}, []bool{false, false, true, true, false}},
		{"HEVC two layers", nalHEVC, [][]byte{hevc(19, 0), hevc(0, 0), hevc(2, 1), hevc(3, 1)}, []bool{false, false, true, false}},
		{"garbage is a reference", nalAVC, [][]byte{nil, {1}, {255, 255, 255, 255, 1, 1, 1}, {0, 0, 0, 0, 0, 0, 0, 0}}, make([]bool, 4)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := source{nal: tt.kind}
			for _, d := range tt.samples {
				s.samples = append(s.samples, sample{data: d})
			}
			s.classify()
			for i, sm := range s.samples {
				if sm.disposable != tt.want[i] {
					t.Errorf("sample %d: disposable %v", i, sm.disposable)
				}
			}
		})
	}
}
