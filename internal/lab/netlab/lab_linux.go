package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// closer is what Close needs to know.
type closer struct {
	once sync.Once
	err  error
	stop func() bool // ends the watch on the context
}

// New makes the network and returns when its interfaces are up. When ctx ends the network is removed, as by Close; after
// an error nothing is left. It does not remove leftovers of earlier runs: that is what Clean does.
func New(ctx context.Context, o Options) (*Lab, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &Lab{}
	if err := l.make(o); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.stop = context.AfterFunc(ctx, func() { _ = l.close() })
	return l, nil
}

// Close kills the processes in the network and removes it. It is idempotent.
func (l *Lab) Close() error {
	if l.stop != nil {
		l.stop()
	}
	return l.close()
}

func (l *Lab) close() error {
	l.once.Do(func() {
		var errs []error
		// The kernel destroys a namespace's interfaces some time after the namespace has lost its last user. They are
		// removed here, so that they are gone when Close returns; removing one end removes both.
		for _, link := range l.links() {
			if link.Relay.Namespace != nil {
				errs = append(errs, link.Relay.Namespace.withNetlink(func(h *netlink.Handle) error {
					return deleteLink(h, link.Relay.Interface)
				}))
			}
		}
		for _, n := range append([]*Namespace{l.Publisher, l.Subscriber}, l.Relays...) {
			if n != nil {
				errs = append(errs, n.close())
			}
		}
		l.err = errors.Join(errs...)
	})
	return l.err
}

// links returns all links, from the publisher on.
func (l *Lab) links() []*Link {
	all := []*Link{&l.Upstream}
	for i := range l.Between {
		all = append(all, &l.Between[i])
	}
	return append(all, &l.Downstream)
}

// make fills in l. What it has made when it fails, close removes.
func (l *Lab) make(o Options) error {
	hops := max(o.Hops, 1)
	if hops > MaxHops {
		return fmt.Errorf("a network has at most %d relays in a row, not %d", MaxHops, hops)
	}
	l.Upstream, l.Between, l.Downstream = links(o.IPv6, hops)
	id, err := newID()
	if err != nil {
		return err
	}
	mtu := o.MTU
	if mtu == 0 {
		mtu = DefaultMTU
	}
	type place struct {
		role string
		ns   **Namespace
	}
	places := []place{{"pub", &l.Publisher}, {"sub", &l.Subscriber}}
	l.Relays = make([]*Namespace, hops)
	for i := range l.Relays {
		role := "relay"
		if i > 0 {
			role += strconv.Itoa(i + 1)
		}
		places = append(places, place{role, &l.Relays[i]})
	}
	for _, p := range places {
		if *p.ns, err = newNamespace("fastrelay-" + id + "-" + p.role); err != nil {
			return err
		}
		if err := (*p.ns).withNetlink(func(h *netlink.Handle) error { return setUp(h, "lo") }); err != nil {
			return err
		}
	}
	l.Relay = l.Relays[0]
	l.Upstream.Peer.Namespace, l.Upstream.Relay.Namespace = l.Publisher, l.Relay
	for i := range l.Between {
		l.Between[i].Relay.Namespace, l.Between[i].Peer.Namespace = l.Relays[i], l.Relays[i+1]
	}
	l.Downstream.Peer.Namespace, l.Downstream.Relay.Namespace = l.Subscriber, l.Relays[hops-1]
	for i, link := range l.links() {
		between := i > 0 && i <= len(l.Between)
		if err := link.make(mtu, between); err != nil {
			return err
		}
	}
	return nil
}

// make makes the veth pair, straight into the two namespaces, so that its names need to be unique only there. Between two relays
// both ends receive as a relay's do.
func (l *Link) make(mtu int, between bool) error {
	err := l.Relay.Namespace.withNetlink(func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = l.Relay.Interface, mtu
		veth := netlink.NewVeth(attrs)
		veth.PeerName, veth.PeerMTU = l.Peer.Interface, uint32(mtu)
		veth.PeerNamespace = netlink.NsFd(l.Peer.Namespace.handle)
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("make veth pair %s with MTU %d: %w", l.Relay.Interface, mtu, privileges(err))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if between {
		return errors.Join(l.Relay.configure(batches), l.Peer.configure(batches))
	}
	return errors.Join(l.Relay.configure(batches), l.Peer.configure())
}

// configure switches the end's offloads off but for those in keep, gives it its address and sets it up.
func (e *End) configure(keep ...string) error {
	err := e.Namespace.Do(func() error {
		if err := setOffloads(e.Interface, keep...); err != nil {
			return fmt.Errorf("set offloads of %s: %w", e.Interface, err)
		}
		if e.Addr().Is6() {
			// Some systems switch IPv6 off for every new interface.
			return sysctl("net/ipv6/conf/"+e.Interface+"/disable_ipv6", "0")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.Namespace.withNetlink(func(h *netlink.Handle) error {
		link, err := h.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", e.Interface, err)
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{
			IP:   e.Addr().AsSlice(),
			Mask: net.CIDRMask(e.Prefix.Bits(), e.Addr().BitLen()),
		}}
		if e.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // otherwise the address is of no use for the first second
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give %s the address %v: %w", e.Interface, e.Prefix, err)
		}
		return setUp(h, e.Interface)
	})
}

// withNetlink runs f with a netlink socket in the namespace.
func (n *Namespace) withNetlink(f func(*netlink.Handle) error) error {
	return n.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", privileges(err))
		}
		defer h.Close()
		return f(h)
	})
}

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set interface %s up: %w", name, privileges(err))
	}
	return nil
}

// deleteLink deletes an interface, if there is one of that name.
func deleteLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

// sysctl sets a setting of the calling thread's namespace. A kernel without it needs no setting.
func sysctl(name, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return privileges(err)
}
