package netlab

import (
	"fmt"
	"os"
	"testing"
)

func TestLeftover(t *testing.T) {
	id, err := newID()
	if err != nil {
		t.Fatal(err)
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	other, err := newID()
	if err != nil {
		t.Fatal(err)
	}
	if id == other {
		t.Errorf("two labs have the same ID %s", id)
	}
	const noPID = 1 << 30 // the kernel's largest is 2^22
	tests := []struct {
		name string
		want bool
	}{
		{"fastrelay-" + id + "-pub", false},
		{"fastrelay-" + id + "-relay", false},
		{fmt.Sprintf("fastrelay-%d-%d-1-sub", noPID, start), true},
		{fmt.Sprintf("fastrelay-%d-%d-1-relay", os.Getpid(), start+1), true}, // the process ID was given out again
		{fmt.Sprintf("fastrelay-%d-%d-1-relay8", noPID, start), true},
		{fmt.Sprintf("fastrelay-%d-%d-1-relay1", noPID, start), false},
		{fmt.Sprintf("fastrelay-%d-%d-1-other", noPID, start), false},
		{fmt.Sprintf("my-fastrelay-%d-%d-1-pub", noPID, start), false},
		{"fastrelay-1-pub", false},
		{"fastrelay-99999999999999999999-1-1-pub", false},
		{"blue", false},
	}
	for _, tt := range tests {
		if got := leftover(tt.name); got != tt.want {
			t.Errorf("leftover(%q) = %v, want %v", tt.name, got, tt.want)
		}
	}
}
