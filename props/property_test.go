package props_test

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// property runs one random case with a defect, which may be none, and returns what it finds wrong.
type property func(t *rapid.T, d *defect) error

// holds checks a property, and that it fails with each defect that it must catch. cases is how many random cases are
// tried for each, with rapid's default of 100 checks; more checks are more in proportion.
func holds(t *testing.T, name string, cases int, p property) {
	t.Helper()
	cases = max(1, cases*checks()/100)
	t.Run("holds", func(t *testing.T) {
		n, failed := 0, false
		rapid.Check(t, func(t *rapid.T) {
			if n++; n > cases && !failed {
				return
			}
			for range max(1, cases/checks()) {
				if err := p(t, &defect{}); err != nil {
					failed = true // rapid runs it again, to shrink it
					t.Fatal(err)
				}
			}
		})
	})
	caught := 0
	for i := range defects {
		d := &defects[i]
		if !slices.Contains(strings.Split(d.property, ", "), name) {
			continue
		}
		caught++
		t.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) {
			var found error
			tried := 0
			// The property is not failed: rapid would shrink what is meant to be.
			rapid.Check(t, func(t *rapid.T) {
				for range max(1, 20*cases/checks()) {
					if found == nil {
						tried++
						found = caughtPanic(t, p, d)
					}
				}
			})
			if found == nil {
				t.Fatalf("%s does not notice in %d cases: %s", name, tried, d.name)
			}
			first, _, _ := strings.Cut(found.Error(), "\n")
			t.Logf("noticed in case %d: %s", tried, first)
		})
	}
	if caught == 0 {
		t.Errorf("%s has no defect to catch", name)
	}
}

// caughtPanic runs p, and takes a runtime error for a failure.
func caughtPanic(t *rapid.T, p property, d *defect) (err error) {
	defer func() {
		r := recover()
		if e, ok := r.(runtime.Error); ok {
			err = fmt.Errorf("panic: %w", e)
		} else if r != nil {
			panic(r)
		}
	}()
	return p(t, d)
}

func checks() int {
	if f := flag.Lookup("rapid.checks"); f != nil {
		if n, err := strconv.Atoi(f.Value.String()); err == nil && n > 0 {
			return n
		}
	}
	return 100
}
