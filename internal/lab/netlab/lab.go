package netlab

import (
	"errors"
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
}

// End is one end of a link.
type End struct {
	Namespace *Namespace
	Interface string
	Prefix    netip.Prefix // address and prefix length
}

// Addr returns the address of the end.
func (e End) Addr() netip.Addr { return e.Prefix.Addr() }

// Link is a veth pair between the relay and its peer, the publisher or the subscribers.
type Link struct{ Peer, Relay End }

// Lab is the network. Its fields are not to be changed.
type Lab struct {
	Publisher, Relay, Subscriber *Namespace
	Upstream                     Link // publisher and relay
	Downstream                   Link // subscribers and relay

	closer
}

// links returns the addresses and names of the two links; the namespaces are for the caller to fill in.
func links(ipv6 bool) (up, down Link) {
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
	return up, down
}
