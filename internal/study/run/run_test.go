package run

import (
	"testing"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/study/scenario"
)

func load(t testing.TB, name string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func simulate(t testing.TB, c Config) *Result {
	t.Helper()
	r, err := Run(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAccounting: each object of each class ends in exactly one way, in every scenario with every heuristic.
func TestAccounting(t *testing.T) {
	for _, name := range scenario.Names() {
		s := load(t, name)
		for _, h := range heuristic.Names() {
			r := simulate(t, Config{Scenario: s, Heuristic: h, Congestion: "scream", Seed: 1})
			for class, f := range r.Classes {
				if got := f.Delivered + f.Late + sum(&f.Dropped) + sum(&f.Reset) + f.Unfinished; got != f.Published || got == 0 {
					t.Errorf("%s with %s: %v: %d published, %d accounted for: %+v", name, h, Class(class), f.Published, got, f)
				}
				if f.Decodable > f.Delivered {
					t.Errorf("%s with %s: %v: %d decodable of %d delivered", name, h, Class(class), f.Decodable, f.Delivered)
				}
			}
		}
	}
}
