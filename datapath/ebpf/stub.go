//go:build !linux || !(amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"fmt"
	"runtime"

	"github.com/fastrelay/fastrelay/datapath"
)

// Datapath is the kernel datapath, which this platform does not have.
type Datapath struct{ datapath.Datapath }

// New returns an error: the kernel datapath needs Linux on a little-endian 64-bit machine.
func New(Config) (*Datapath, error) { return nil, platform() }

// Probe returns the one item that fails.
func Probe() Report {
	return Report{{Name: "platform", Detail: platform().Error(), Advice: "use the simulator or no datapath"}}
}

func platform() error {
	return fmt.Errorf("%w: it needs Linux on a little-endian 64-bit machine, this is %s/%s", ErrUnsupported, runtime.GOOS, runtime.GOARCH)
}
