package ebpf

import (
	"fmt"
	"strings"
)

// Item is one thing that the datapath needs of the machine.
type Item struct {
	Name   string
	OK     bool
	Detail string // what was found
	Advice string // what to do if it is missing
}

// Report is what Probe found.
type Report []Item

// OK says whether the datapath can run.
func (r Report) OK() bool {
	for _, i := range r {
		if !i.OK {
			return false
		}
	}
	return len(r) > 0
}

// String writes an item per line.
func (r Report) String() string {
	var b strings.Builder
	for _, i := range r {
		mark, advice := "ok", ""
		if !i.OK {
			mark, advice = "missing", ": "+i.Advice
		}
		fmt.Fprintf(&b, "%-16s %-8s %s%s\n", i.Name, mark, i.Detail, advice)
	}
	return b.String()
}
