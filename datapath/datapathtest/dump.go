package datapathtest

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Dump is the content of a datapath's tables as text that does not depend on the backend: an entry per line, sorted. What is
// empty is left out.
type Dump struct{ lines []string }

func (d *Dump) add(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// String returns the lines.
func (d *Dump) String() string {
	slices.Sort(d.lines)
	return strings.Join(d.lines, "\n") + "\n"
}

// CID is an entry of `cids`: a connection ID without its last byte.
func (d *Dump) CID(cid []byte, last uint8, id datapath.UpstreamID) {
	d.add("cid %x: upstream %d, last byte %d", cid, id, last)
}

// Upstream is an entry of `upstreams` with its window of numbers.
func (d *Dump) Upstream(id datapath.UpstreamID, remote netip.AddrPort, streams uint8, priorityCID bool, next, watermark, entries uint64,
	slots []uint64) {
	h := fnv.New64a()
	for _, v := range slots {
		var b [8]byte
		_, _ = h.Write(wire.AppendVarintLen(b[:0], v&wire.MaxVarint, 8))
	}
	d.add("upstream %d: %v streams %d priority %v next %d watermark %d entries %d slots %016x", id, remote, streams, priorityCID, next, watermark, entries, h.Sum64())
}

// Track is an entry of `tracks`.
func (d *Dump) Track(upstream datapath.UpstreamID, alias uint64, id datapath.TrackID, draft, priority uint8) {
	d.add("track upstream %d alias %d: track %d draft %d priority %d", upstream, alias, id, draft, priority)
}

// Members is a track's entry of `members`: places are clients + 1, up to the last one that is occupied.
func (d *Dump) Members(id datapath.TrackID, places []uint32) {
	if len(places) > 0 {
		d.add("members of track %d: %v", id, places)
	}
}

// Sub is an entry of `subs`.
func (d *Dump) Sub(t datapath.TrackID, c datapath.ClientID, s datapath.Subscription, generation uint8, cut uint64) {
	d.add("sub track %d client %d: alias %d groups %d-%d priority %d generation %d cut %d", t, c, s.Alias, s.FirstGroup, s.LastGroup, s.Priority, generation, cut)
}

// Client is what `clients` has of a client that is set. A largest DATAGRAM frame beyond that of any packet is told as 65535.
func (d *Dump) Client(id datapath.ClientID, local, remote netip.AddrPort, dcid []byte, maxDatagram uint64, priorityCID bool) {
	d.add("client %d: local %v remote %v dcid %x datagram %d priority %v", id, local, remote, dcid, min(maxDatagram, 65535), priorityCID)
}

// Link is a link that was learned.
func (d *Dump) Link(id datapath.ClientID, iface int, src, dst [6]byte) {
	d.add("link of client %d: interface %d %x %x", id, iface, src, dst)
}

// Address is an entry of `addresses`.
func (d *Dump) Address(a netip.AddrPort, id datapath.ClientID) { d.add("address %v: client %d", a, id) }

// Space is a client's space. Of the generation word only what counts is told: the rest is a backend's own.
func (d *Dump) Space(id datapath.ClientID, word func(i int) uint64) {
	var b strings.Builder
	for i := range datapath.WordSlots + 2*datapath.Slots {
		v := word(i)
		if i == datapath.WordGeneration {
			v &= 0xff
		}
		if v != 0 {
			fmt.Fprintf(&b, " %d=%#x", i, v)
		}
	}
	if b.Len() > 0 {
		d.add("space of client %d:%s", id, b.String())
	}
}

// Rests is `rests`: how much is used of each shared table beyond the parts of its owners.
func (d *Dump) Rests(streams, clientStreams uint64) {
	if streams+clientStreams > 0 {
		d.add("beyond the parts: %d streams, %d of clients", streams, clientStreams)
	}
}

// Stream is an entry of `streams`.
func (d *Dump) Stream(u datapath.UpstreamID, stream uint64, t datapath.TrackID, group uint64, priority, aliasLen uint8) {
	d.add("stream upstream %d stream %d: track %d group %d priority %d alias of %d", u, stream, t, group, priority, aliasLen)
}

// ClientStream is an entry of `client_streams`.
func (d *Dump) ClientStream(c datapath.ClientID, generation uint8, u datapath.UpstreamID, stream, own uint64, slot, oldPrefix, newPrefix uint8,
	alias uint64, t datapath.TrackID, dropped bool) {
	d.add("client stream client %d generation %d upstream %d stream %d: stream %d slot %d prefix %d-%d alias %d track %d dropped %v", c, generation, u, stream,
		own, slot, oldPrefix, newPrefix, alias, t, dropped)
}
