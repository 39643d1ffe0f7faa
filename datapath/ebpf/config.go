package ebpf

import (
	"errors"

	"github.com/fastrelay/fastrelay/datapath"
)

// Attach is a way of attaching TC programs to an interface.
type Attach uint8

// The ways.
const (
	AttachAuto   Attach = iota // TCX where the kernel has it
	AttachTCX                  // Linux 6.6
	AttachClsact               // filters of a clsact qdisc
)

// Config says where the datapath works.
type Config struct {
	Interfaces []string        // names; all three programs are attached to each
	Port       uint16          // UDP port of the relay
	Limits     datapath.Limits // capacities; at most 65536 clients
	Attach     Attach          // default AttachAuto
}

// ErrUnsupported says that this machine cannot run the datapath. Errors that wrap it say why and what to do.
var ErrUnsupported = errors.New("the kernel datapath is not available")
