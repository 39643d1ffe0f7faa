package congestion

import (
	"fmt"
	"slices"
	"strings"
)

// makers are the controllers by name.
var makers = map[string]func(datagram, initialDatagrams int) Controller{
	"newreno": func(n, first int) Controller { return NewNewReno(n, first) },
	"cubic":   func(n, first int) Controller { return NewCubic(n, first) },
	"bbr":     func(n, first int) Controller { return NewBBR(n, first) },
	"scream":  func(n, first int) Controller { return NewScream(n, first) },
}

// Default is the name of the controller where none is asked for, Live of the one that is meant for live media.
const (
	Default = "newreno"
	Live    = "scream"
)

// Names returns the names that New takes, sorted.
func Names() []string {
	names := make([]string, 0, len(makers))
	for name := range makers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Check says whether there is a controller of a name; "" stands for Default.
func Check(name string) error {
	if _, ok := makers[name]; !ok && name != "" {
		return fmt.Errorf("no congestion control is named %q: it must be one of %s", name, strings.Join(Names(), ", "))
	}
	return nil
}

// New returns a controller by name for a new path on which datagrams have up to datagram bytes. Its initial window is of initialDatagrams, with 0
// what RFC 9002, section 7.2, recommends. The name "" stands for Default.
func New(name string, datagram, initialDatagrams int) (Controller, error) {
	if err := Check(name); err != nil {
		return nil, err
	}
	if name == "" {
		name = Default
	}
	return makers[name](datagram, initialDatagrams), nil
}
