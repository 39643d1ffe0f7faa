package props_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDocument: docs/invariants.md names every defect beside its property, with its lesson, and each of the prototype's twenty defects with
// the test that has it, which is there. None of the properties is without a defect that it must catch.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/invariants.md")
	if err != nil {
		t.Fatal(err)
	}
	property := regexp.MustCompile(`^ P\d+ $`)
	rows := make(map[string]string) // by property
	for _, line := range strings.Split(string(b), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 2 && property.MatchString(cells[1]) {
			rows[strings.TrimSpace(cells[1])] = line
		}
	}
	for name, row := range rows {
		if cells := strings.Split(row, "|"); len(strings.TrimSpace(cells[4])) < 10 {
			t.Errorf("%s catches nothing", name)
		}
	}
	found := make(map[int]bool) // lessons
	for _, m := range regexp.MustCompile(`\((\d+)\)`).FindAllStringSubmatch(strings.Join(slices.Collect(maps.Values(rows)), "\n"), -1) {
		n, _ := strconv.Atoi(m[1])
		found[n] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+(?:, \d+)*) \| .* \| .*(?:Test|test).* \|$|^\| (20) \|`).FindAllStringSubmatch(string(b), -1) {
		for _, s := range strings.Split(m[1]+m[2], ", ") {
			n, _ := strconv.Atoi(s)
			found[n] = true
		}
	}
	for n := 1; n <= 20; n++ {
		if !found[n] {
			t.Errorf("the prototype's defect %d is not tested", n)
		}
	}
	if len(rows) != 13 {
		t.Errorf("the document has %d properties, want 13", len(rows))
	}
	for _, d := range defects {
		want := d.name
		if d.lesson > 0 {
			want += fmt.Sprintf(" (%d)", d.lesson)
		}
		for _, p := range strings.Split(d.property, ", ") {
			p, _, _ = strings.Cut(p, " ")
			if !strings.Contains(rows[p], want) {
				t.Errorf("%s does not list: %s", p, want)
			}
		}
	}
}
