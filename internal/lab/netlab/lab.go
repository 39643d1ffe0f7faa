package netlab

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrPrivileges says that the process may not make network namespaces.
var ErrPrivileges = errors.New("making network namespaces needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run it with sudo")

// ErrNotSupported is returned on systems other than Linux.
var ErrNotSupported = errors.New("network namespaces need Linux")

// ErrClosed is returned by the methods of a namespace that was closed.
var ErrClosed = errors.New("network namespace is closed")

// DefaultMTU is the MTU of the lab's interfaces.
const DefaultMTU = 1500

// Options say what New makes. The zero value is usable.
type Options struct {
	IPv6 bool // addresses of IPv6 instead of IPv4
	MTU  int  // of all interfaces; default DefaultMTU
	Hops int  // relays in a row, 1 to MaxHops; default 1
}

// MaxHops is the largest number of relays in a row.
const MaxHops = 8

// End is one end of a link.
type End struct {
	Namespace *Namespace
	Interface string
	Prefix    netip.Prefix // address and prefix length
}

// Addr returns the address of the end.
func (e End) Addr() netip.Addr { return e.Prefix.Addr() }

// Link is a veth pair between a relay and its peer: the publisher, the subscribers or the next relay.
type Link struct{ Peer, Relay End }

// Lab is the network. Its fields are not to be changed.
type Lab struct {
	Publisher, Relay, Subscriber *Namespace // Relay is the first of Relays
	Relays                       []*Namespace
	Upstream                     Link   // publisher and first relay
	Between                      []Link // each relay but the last with the next one, which is the Peer
	Downstream                   Link   // subscribers and last relay

	closer
}

// links returns the addresses and names of the links; the namespaces are for the caller to fill in.
func links(ipv6 bool, hops int) (up Link, between []Link, down Link) {
	end := func(name, v4, v6 string) End {
		if ipv6 {
			return End{Interface: name, Prefix: netip.MustParsePrefix(v6)}
		}
		return End{Interface: name, Prefix: netip.MustParsePrefix(v4)}
	}
	up = Link{
		Peer:  end("to-relay", "10.121.1.2/24", "fd66:6173:7401::2/64"),
		Relay: end("to-pub", "10.121.1.1/24", "fd66:6173:7401::1/64"),
	}
	down = Link{
		Peer:  end("to-relay", "10.121.2.2/24", "fd66:6173:7402::2/64"),
		Relay: end("to-sub", "10.121.2.1/24", "fd66:6173:7402::1/64"),
	}
	for i := range hops - 1 {
		net := 3 + i // of 10.121 and fd66:6173:7400
		between = append(between, Link{
			Peer:  end("to-previous", fmt.Sprintf("10.121.%d.2/24", net), fmt.Sprintf("fd66:6173:74%02x::2/64", net)),
			Relay: end("to-next", fmt.Sprintf("10.121.%d.1/24", net), fmt.Sprintf("fd66:6173:74%02x::1/64", net)),
		})
	}
	return up, between, down
}
