//go:build !linux

package netlab

import (
	"context"
	"os/exec"
)

type closer struct{}

// New returns ErrNotSupported: network namespaces need Linux.
func New(context.Context, Options) (*Lab, error) { return nil, ErrNotSupported }

// Close does nothing.
func (*Lab) Close() error { return nil }

// Clean finds nothing to remove.
func Clean() ([]string, error) { return nil, nil }

// Namespace is a network namespace.
type Namespace struct{}

// Name returns the empty string.
func (*Namespace) Name() string { return "" }

// Do returns ErrNotSupported.
func (*Namespace) Do(func() error) error { return ErrNotSupported }

// Start returns ErrNotSupported.
func (*Namespace) Start(*exec.Cmd) error { return ErrNotSupported }

// Loss makes a link lose packets.
type Loss struct{}

// Lose returns ErrNotSupported.
func (*Link) Lose(share float64) (*Loss, error) {
	if err := checkLoss(share); err != nil {
		return nil, err
	}
	return nil, ErrNotSupported
}

// Limit returns ErrNotSupported.
func (*Link) Limit(rate uint64) error {
	if err := checkRate(rate); err != nil {
		return err
	}
	return ErrNotSupported
}

// Dropped returns 0.
func (*Loss) Dropped() (uint64, error) { return 0, nil }

// Close does nothing.
func (*Loss) Close() error { return nil }
