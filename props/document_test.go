package props_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocument: docs/invariants.md names every defect beside its property, with its lesson.
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
