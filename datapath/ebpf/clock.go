//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the clock of the programs: CLOCK_MONOTONIC, which Go's monotonic time runs with. Reading it is no system call.
type clock struct {
	base   time.Time // when the clock was at baseNS
	baseNS uint64
	test   atomic.Uint64 // the time, if not 0: what a test has set in the programs too
}

func newClock() (*clock, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, fmt.Errorf("read the monotonic clock: %w", err)
	}
	return &clock{base: time.Now(), baseNS: uint64(ts.Nano())}, nil
}

func (c *clock) now() uint64 {
	if t := c.test.Load(); t != 0 {
		return t
	}
	return c.baseNS + uint64(time.Since(c.base))
}

// at returns a time of the clock as a time.Time.
func (c *clock) at(ns uint64) time.Time { return c.base.Add(time.Duration(ns - c.baseNS)) }
