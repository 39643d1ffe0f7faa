// Package netlabtest gives tests that need the kernel a network.
package netlabtest

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/fastrelay/fastrelay/internal/lab/netlab"
)

// Must is the environment variable that, if not empty, makes a test fail that would be skipped for want of privileges.
const Must = "FASTRELAY_KERNEL_TESTS"

// New makes a network that lasts as long as the test. Without privileges, or elsewhere than on Linux, the test is skipped.
func New(t testing.TB, o netlab.Options) *netlab.Lab {
	t.Helper()
	l, err := netlab.New(context.Background(), o)
	Skip(t, err)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the network: %v", err)
		}
	})
	return l
}

// Skip skips the test if err says that privileges or Linux are missing, or fails it if the environment says so.
func Skip(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, netlab.ErrPrivileges) && !errors.Is(err, netlab.ErrNotSupported) {
		return
	}
	if os.Getenv(Must) != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}
