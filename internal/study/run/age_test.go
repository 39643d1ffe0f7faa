package run

import "testing"

// TestAgeIsOfObjects: on a path that carries everything nothing is given up for its age, however long a stream lasts: here each lasts for a group of two seconds, and an object
// is of use for 500 ms.
func TestAgeIsOfObjects(t *testing.T) {
	s := parse(t, `
description = "long streams"
duration = "20s"
timeout = "500ms"
[media]
bitrate = "1Mbit"
group = 60
layers = 3
streams = "layer"
[[link]]
rate = "2Mbit"
delay = "10ms"
loss = 0.02
`)
	r := simulate(t, Config{Scenario: s, Heuristic: "age", Seed: 1})
	for class, f := range r.Classes {
		if n := f.Reset[causeAge]; n > 0 {
			t.Errorf("%d objects of class %v were given up of %d", n, Class(class), f.Published)
		}
	}
}
