//go:build !linux

package command

import (
	"context"

	"github.com/fastrelay/fastrelay/internal/lab/netlab"
)

func ableLab() error { return netlab.ErrNotSupported }

type demoLab struct{}

func newDemoLab(context.Context, *demo) (*demoLab, error) { return nil, netlab.ErrNotSupported }

func (*demoLab) try(context.Context, mode) (*trial, error) { return nil, netlab.ErrNotSupported }

// Close does nothing: there is nothing.
func (*demoLab) Close() error { return nil }
