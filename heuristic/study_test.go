package heuristic_test

import (
	"testing"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/study/run"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

// simulate runs a shipped scenario with the live congestion control, and returns the mean of the decodable frames per second and what became of all objects.
func simulate(t *testing.T, name, h string, seeds uint64) (fps float64, fates [run.Classes]run.Fate) {
	t.Helper()
	s, err := scenario.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range seeds {
		r, err := run.Run(run.Config{Scenario: s, Heuristic: h, Congestion: congestion.Live, Seed: seed + 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.Refused > 0 {
			t.Errorf("%s, %s: %s", name, h, r.Refusal)
		}
		fps += r.DecodableFPS() / float64(seeds)
		for c, f := range r.Classes {
			fates[c].Published += f.Published
			fates[c].Delivered += f.Delivered
		}
	}
	return fps, fates
}

// TestHalfRate: on a path that carries 55 % of the media, with the default nearly all key frames and audio arrive, and half as many frames
// again can be decoded as with tail drop.
func TestHalfRate(t *testing.T) {
	none, _ := simulate(t, "half-rate", "none", 10)
	live, fates := simulate(t, "half-rate", heuristic.Default, 10)
	for _, c := range []run.Class{run.Audio, run.Key} {
		if f := fates[c]; float64(f.Delivered) < 0.99*float64(f.Published) {
			t.Errorf("%v: %d of %d arrived", c, f.Delivered, f.Published)
		}
	}
	if live < 1.5*none || live < 7.5 {
		t.Errorf("%.2f decodable frames/s, with tail drop %.2f", live, none)
	}
}

// TestNeverBelowTailDrop: in no shipped scenario are fewer frames decodable with the default than with tail drop, or does less audio arrive.
func TestNeverBelowTailDrop(t *testing.T) {
	for _, name := range scenario.Names() {
		t.Run(name, func(t *testing.T) {
			seeds := uint64(3)
			if name == "crowd" { // 30 subscribers in each
				seeds = 1
			}
			none, lost := simulate(t, name, "none", seeds)
			live, fates := simulate(t, name, heuristic.Default, seeds)
			if a, b := fates[run.Audio].Delivered, lost[run.Audio].Delivered; live < none || a < b {
				t.Errorf("%.2f decodable frames/s and %d of audio, with tail drop %.2f and %d", live, a, none, b)
			}
		})
	}
}
