//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
)

// client is what userspace keeps of a client.
type client struct {
	datapath.Client
	space  *datapath.Space
	tracks map[datapath.TrackID]struct{} // that it is subscribed to
}

// generationHalf is the bit of the generation word that says which half of the client's double buffer is valid.
const generationHalf = 0x100

func (d *Datapath) generationWord(id datapath.ClientID) *uint64 {
	return &d.spaces.words[int(id)*datapath.SpaceWords+datapath.WordGeneration]
}

func (d *Datapath) generation(id datapath.ClientID) uint8 {
	return uint8(atomic.LoadUint64(d.generationWord(id)))
}

// SetClient implements datapath.Datapath. Removing waits for an RCU grace period, some milliseconds.
func (d *Datapath) SetClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	space, err := d.setClient(id, c)
	if err != nil {
		return nil, fmt.Errorf("set client %d: %w", id, err)
	}
	return space, nil
}

func (d *Datapath) setClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	if err := d.check(uint32(id), d.limits.Clients); err != nil {
		return nil, err
	}
	old := d.client[id]
	if c == nil {
		if old == nil {
			return nil, nil
		}
		return nil, d.removeClient(id, old)
	}
	set := *c
	set.Local, set.Remote, set.DCID = unmapped(c.Local), unmapped(c.Remote), bytes.Clone(c.DCID)
	if err := checkClient(&set); err != nil {
		return nil, err
	}
	if old == nil {
		old = &client{space: d.spaces.get(id), tracks: make(map[datapath.TrackID]struct{})}
		// Whoever saw the generation of a predecessor has ended: removeClient waited for it.
		old.space.Reset()
	}
	if err := d.writeClient(id, &set); err != nil {
		return nil, err
	}
	moved := old.Remote != set.Remote || old.Local != set.Local
	if moved {
		if err := d.move(id, old.Remote, set.Remote); err != nil {
			return nil, err
		}
	}
	old.space.SetMaxSize(set.MaxSize)
	old.Client = set
	d.client[id] = old
	return old.space, nil
}

func checkClient(c *datapath.Client) error {
	if err := checkCipher(&c.Protection); err != nil {
		return err
	}
	switch {
	case !c.Local.IsValid() || !c.Remote.IsValid() || c.Local.Addr().Is4() != c.Remote.Addr().Is4():
		return errors.New("the client's two addresses must be valid and of one family")
	case len(c.DCID) > datapath.CIDLen:
		return fmt.Errorf("connection ID has %d bytes, at most %d are allowed", len(c.DCID), datapath.CIDLen)
	case c.PriorityCID && len(c.DCID) != datapath.CIDLen:
		return fmt.Errorf("connection ID has %d bytes, one with a priority has %d", len(c.DCID), datapath.CIDLen)
	case c.MaxSize < 0 || c.MaxSize > datapath.MaxPacketSize:
		return fmt.Errorf("packet size %d is not between 0 and %d", c.MaxSize, datapath.MaxPacketSize)
	}
	return nil
}

// writeClient writes the half of the double buffer that is not in use, and then switches to it.
func (d *Datapath) writeClient(id datapath.ClientID, c *datapath.Client) error {
	word := d.generationWord(id)
	old := atomic.LoadUint64(word)
	half := uint32(1)
	if old&generationHalf != 0 {
		half = 0
	}
	v := bpfClient{
		Local: c.Local.Addr().As16(), LocalPort: bits.ReverseBytes16(c.Local.Port()),
		Remote: c.Remote.Addr().As16(), RemotePort: bits.ReverseBytes16(c.Remote.Port()),
		Family: 6, DcidLen: uint8(len(c.DCID)), MaxDatagram: uint16(min(c.MaxDatagram, math.MaxUint16)), PriorityCid: flag(c.PriorityCID),
	}
	if c.Remote.Addr().Is4() {
		v.Family = 4
	}
	copy(v.Dcid[:], c.DCID)
	if err := put(d.objs.Clients, 2*uint32(id)+half, &v); err != nil {
		return err
	}
	atomic.StoreUint64(word, old^generationHalf)
	return nil
}

// move lets a client's link be learned from its new address. A link that another client of the address has is known already.
func (d *Datapath) move(id datapath.ClientID, from, to netip.AddrPort) error {
	if from.IsValid() {
		if err := d.forgetAddress(id, from); err != nil {
			return err
		}
	}
	var link bpfLink
	key := toAddress(to)
	var other uint32
	if d.objs.Addresses.Lookup(&key, &other) == nil {
		if err := d.objs.Links.Lookup(other, &link); err != nil {
			return err
		}
	}
	return errors.Join(put(d.objs.Links, uint32(id), &link), put(d.objs.Addresses, &key, uint32(id)))
}

// forgetAddress takes an address from a client; the first other one that has it too learns from it from now on.
func (d *Datapath) forgetAddress(id datapath.ClientID, a netip.AddrPort) error {
	key := toAddress(a)
	var owner uint32
	if d.objs.Addresses.Lookup(&key, &owner) != nil || owner != uint32(id) {
		return nil
	}
	heir := datapath.NoClient
	for other, c := range d.client {
		if other != id && c.Remote == a {
			heir = min(heir, other)
		}
	}
	if heir != datapath.NoClient {
		return put(d.objs.Addresses, &key, uint32(heir))
	}
	return remove(d.objs.Addresses, &key)
}

func (d *Datapath) removeClient(id datapath.ClientID, c *client) error {
	word := d.generationWord(id)
	generation := atomic.LoadUint64(word)
	atomic.StoreUint64(word, generation&^0xff|uint64(uint8(generation)+1))
	var errs []error
	for t := range c.tracks {
		errs = append(errs, d.unlinkSubscription(t, d.track[t], id))
	}
	errs = append(errs, d.forgetAddress(id, c.Remote))
	quiesce()
	errs = append(errs, put(d.objs.Links, uint32(id), &bpfLink{}),
		d.sweepClientStreams(func(k *bpfClientStreamKey, _ *bpfClientStream) bool { return k.Client == uint32(id) }))
	delete(d.client, id)
	return errors.Join(errs...)
}
