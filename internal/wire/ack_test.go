package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAckRanges(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []AckRange
		want []AckRange
	}{
		{"one", []AckRange{{3, 7}}, []AckRange{{3, 7}}},
		{"down to 0", []AckRange{{2, 2}, {0, 0}}, []AckRange{{2, 2}, {0, 0}}},
		{"top of the number space", []AckRange{{MaxVarint, MaxVarint}, {0, MaxVarint - 2}}, []AckRange{{MaxVarint, MaxVarint}, {0, MaxVarint - 2}}},
		{"touching", []AckRange{{5, 7}, {3, 4}, {1, 1}}, []AckRange{{3, 7}, {1, 1}}},
		{"overlapping", []AckRange{{5, 9}, {3, 6}, {4, 5}, {1, 2}}, []AckRange{{1, 9}}},
		{"twice", []AckRange{{5, 9}, {5, 9}}, []AckRange{{5, 9}}},
		{"upside down", []AckRange{{9, 5}, {1, 2}}, []AckRange{{1, 2}}},
		{"ascending", []AckRange{{1, 2}, {5, 9}}, []AckRange{{1, 2}}},
		{"ascending and overlapping", []AckRange{{5, 7}, {2, 9}, {1, 1}}, []AckRange{{5, 7}, {1, 1}}},
		{"beyond the number space", []AckRange{{0, MaxVarint + 1}, {1, 2}}, []AckRange{{1, 2}}},
		{"none", nil, nil},
		{"none but an empty one", []AckRange{{2, 1}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, ecn := range []*[3]uint64{nil, {1, 2, 300}} {
				b := AppendAck(nil, tc.in, 77, ecn)
				if tc.want == nil {
					if len(b) != 0 {
						t.Errorf("written %x, want nothing", b)
					}
					continue
				}
				var f Frame
				if n, err := f.Parse(b); err != nil || n != len(b) || !f.IsAck() || f.V[1] != 77 {
					t.Fatalf("Parse = %d, %v, %+v", n, err, f)
				}
				if diff := cmp.Diff(tc.want, f.AppendAckRanges(nil)); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				var got, want [3]uint64
				if ecn != nil {
					want = *ecn
				}
				if got[0], got[1], got[2] = f.AckECN(); got != want {
					t.Errorf("ECN counts %v, want %v", got, want)
				}
			}
		})
	}
}

func TestAckRangesOfOtherFrames(t *testing.T) {
	for _, f := range []Frame{{}, {Type: FramePing, Raw: []byte{1}}, {Type: FrameAck}, {Type: FrameAckECN, Raw: []byte{3}}, {Type: FrameAckECN, Raw: []byte{3}, V: [4]uint64{0, 0, 0, 1}}} {
		got := f.AppendAckRanges(nil)
		if a, b, c := f.AckECN(); len(got) > 1 || a+b+c != 0 {
			t.Errorf("%+v: ranges %v, ECN %d %d %d", f, got, a, b, c)
		}
	}
}

// A set of numbers survives being written as ranges, and is read back in descending order.
func TestAckRoundtrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []AckRange
		top := anyVarint().Draw(t, "largest")
		for range rapid.IntRange(1, 40).Draw(t, "ranges") {
			size := min(rapid.OneOf(rapid.Uint64Max(3), anyVarint()).Draw(t, "size"), top)
			want = append(want, AckRange{top - size, top})
			gap := rapid.OneOf(rapid.Uint64Max(3), rapid.Uint64Max(1<<20)).Draw(t, "gap")
			if top-size < gap+2 {
				break
			}
			top -= size + gap + 2
		}
		b := AppendAck(nil, want, anyVarint().Draw(t, "delay"), nil)
		var f Frame
		if n, err := f.Parse(b); err != nil || n != len(b) {
			t.Fatalf("Parse = %d, %v", n, err)
		}
		if diff := cmp.Diff(want, f.AppendAckRanges(nil)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

// Whatever ranges it is given, AppendAck never names a number that none of them names.
func TestAckNamesNothingElse(t *testing.T) {
	small := rapid.Uint64Max(40)
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) AckRange {
			return AckRange{small.Draw(t, "smallest"), small.Draw(t, "largest")}
		}), 0, 8).Draw(t, "ranges")
		b := AppendAck(nil, in, 0, nil)
		if len(b) == 0 {
			return
		}
		var f Frame
		if n, err := f.Parse(b); err != nil || n != len(b) {
			t.Fatalf("Parse(%x) = %d, %v", b, n, err)
		}
		named := map[uint64]bool{}
		for _, r := range in {
			for pn := r.Smallest; pn <= r.Largest; pn++ {
				named[pn] = true
			}
		}
		for _, r := range f.AppendAckRanges(nil) {
			for pn := r.Smallest; pn <= r.Largest; pn++ {
				if !named[pn] {
					t.Fatalf("%d is in the frame, not in %v", pn, in)
				}
			}
		}
	})
}

// checkAck checks that the ranges of a parsed frame are what an ACK's must be.
func checkAck(t *testing.T, f *Frame) {
	t.Helper()
	ranges := f.AppendAckRanges(nil)
	if !f.IsAck() {
		if len(ranges) != 0 {
			t.Fatalf("%+v has ACK ranges", f)
		}
		return
	}
	if uint64(len(ranges)) != f.V[2]+1 || ranges[0].Largest != f.V[0] {
		t.Fatalf("%+v has ranges %v", f, ranges)
	}
	for i, r := range ranges {
		if r.Smallest > r.Largest || i > 0 && r.Largest > ranges[i-1].Smallest-2 {
			t.Fatalf("range %d of %v", i, ranges)
		}
	}
}
