package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
)

// namePattern is the form of the names of the lab's namespaces: process ID and start time of the owner, which together name
// a process for as long as the machine runs, a count within it, and the role.
var namePattern = regexp.MustCompile(`^fastrelay-([0-9]+)-([0-9]+)-[0-9]+-(?:pub|relay[2-9]?|sub)$`)

var labs atomic.Uint64

// newID returns the part of the names that tells this lab from all others on the machine.
func newID() (string, error) {
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		return "", fmt.Errorf("read start time of this process: %w", err)
	}
	return fmt.Sprintf("%d-%d-%d", pid, start, labs.Add(1)), nil
}

// startTime returns when a process started, in clock ticks since the machine did; it is an error if there is no such
// process or only its remains.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command in parentheses, may itself have spaces and parentheses.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return 0, fmt.Errorf("unexpected format of /proc/%d/stat", pid)
	}
	if s := f[0][0]; s == 'Z' || s == 'X' {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}

// leftover tells whether a name is of a lab whose owner is gone.
func leftover(name string) bool {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return false
	}
	start, err := startTime(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return err == nil && strconv.FormatUint(start, 10) != m[2]
}

// Clean removes the namespaces of labs whose owner is gone, as after a crash, and returns their names. Their processes
// were killed with the owner, so the interfaces go too. Labs of other processes that run are left alone.
func Clean() ([]string, error) {
	entries, err := os.ReadDir(namedDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, privileges(err)
	}
	var removed []string
	var errs []error
	for _, e := range entries {
		if !leftover(e.Name()) {
			continue
		}
		if err := removeNamed(e.Name()); err != nil {
			errs = append(errs, fmt.Errorf("remove namespace of an earlier run: %w", privileges(err)))
			continue
		}
		removed = append(removed, e.Name())
	}
	return removed, errors.Join(errs...)
}
