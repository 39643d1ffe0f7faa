package congestion

import (
	"fmt"
	"slices"
	"strings"
)

// Maker makes a controller for a new path on which datagrams have up to datagram bytes. Its initial window is of initialDatagrams, with 0 what RFC
// 9002, section 7.2, recommends.
type Maker func(datagram, initialDatagrams int) Controller

var makers = map[string]Maker{
	"newreno": func(n, first int) Controller { return NewNewReno(n, first) },
	"cubic":   func(n, first int) Controller { return NewCubic(n, first) },
	"bbr":     func(n, first int) Controller { return NewBBR(n, first) },
	"scream":  func(n, first int) Controller { return NewScream(n, first) },
}

// Default is the name of the controller where none is asked for, Live of the one that is meant for live media.
const (
	Default = Live
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

// ByName returns the maker of controllers of a name; "" stands for Default.
func ByName(name string) (Maker, error) {
	if name == "" {
		name = Default
	}
	if m, ok := makers[name]; ok {
		return m, nil
	}
	return nil, fmt.Errorf("no congestion control is named %q: it must be one of %s", name, strings.Join(Names(), ", "))
}

// New returns a controller by name; see ByName and Maker.
func New(name string, datagram, initialDatagrams int) (Controller, error) {
	m, err := ByName(name)
	if err != nil {
		return nil, err
	}
	return m(datagram, initialDatagrams), nil
}
