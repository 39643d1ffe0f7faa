//go:build !linux

package capture

// Capture is a capture that is going on.
type Capture struct{}

// Start returns ErrNotSupported: capturing needs Linux.
func Start(Options) (*Capture, error) { return nil, ErrNotSupported }

// Stop returns ErrNotSupported.
func (*Capture) Stop() (*Recording, error) { return nil, ErrNotSupported }
