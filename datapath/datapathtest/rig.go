package datapathtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Rig is a harness with the parties of a case: a publisher with upstream 1, and clients.
type Rig struct {
	*testing.T
	H      Harness
	DP     datapath.Datapath
	Pub    Builder
	Relay  Side
	Next   uint64 // packet number of the publisher
	spaces map[datapath.ClientID]*datapath.Space
	dcid   map[datapath.ClientID][]byte
	before datapath.Counters
	v6     bool
}

func newRig(t *testing.T, h Harness, v6 bool) *Rig {
	r := &Rig{T: t, H: h, DP: h.Datapath(), v6: v6, spaces: make(map[datapath.ClientID]*datapath.Space), dcid: make(map[datapath.ClientID][]byte)}
	r.Relay = r.side(1, h.Port())
	r.Pub = Builder{From: r.side(2, 4000), To: r.Relay, CID: CID(1)}
	return r
}

// side returns the n-th host.
func (r *Rig) side(n byte, port uint16) Side {
	a := netip.AddrFrom4([4]byte{10, 9, 0, n})
	if r.v6 {
		a = netip.AddrFrom16([16]byte{0xfd, 9, 15: n})
	}
	return Side{MAC: [6]byte{2, 0, 0, 0, 9, n}, Addr: netip.AddrPortFrom(a, port)}
}

func (r *Rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// Upstream sets upstream 1.
func (r *Rig) Upstream(change func(u *datapath.Upstream)) {
	r.Helper()
	u := &datapath.Upstream{Remote: r.Pub.From.Addr, CIDs: [][]byte{CID(1)}, Streams: 2,
		Protection: datapath.Protection{Version: wire.Version1}}
	if change != nil {
		change(u)
	}
	r.must(r.DP.SetUpstream(1, u))
}

// Track sets a track of upstream 1.
func (r *Rig) Track(id datapath.TrackID, alias uint64, draft uint8) {
	r.Helper()
	r.must(r.DP.SetTrack(id, &datapath.Track{Upstream: 1, Alias: alias, Draft: draft, DefaultPriority: 77}))
}

// subscriber returns a client's side, and DCID gives its connection ID, of 8 bytes if a case has set no other.
func (r *Rig) subscriber(id datapath.ClientID) Side { return r.side(byte(10+id), 5000+uint16(id)) }

// DCID returns the connection ID of a client.
func (r *Rig) DCID(id datapath.ClientID) []byte {
	if set := r.dcid[id]; set != nil {
		return set
	}
	return bytes.Repeat([]byte{byte(0xa0 + id)}, 8)
}

// AddClient sets a client whose link is not learned yet.
func (r *Rig) AddClient(id datapath.ClientID, change func(c *datapath.Client)) *datapath.Space {
	r.Helper()
	c := &datapath.Client{Local: r.Relay.Addr, Remote: r.subscriber(id).Addr, DCID: r.DCID(id), MaxSize: 1252, MaxDatagram: 1 << 16,
		Protection: datapath.Protection{Version: wire.Version1}}
	if change != nil {
		change(c)
	}
	space, err := r.DP.SetClient(id, c)
	r.must(err)
	r.spaces[id] = space
	return space
}

// Learn puts a packet of a client in.
func (r *Rig) Learn(id datapath.ClientID) {
	was, err := r.DP.Counters()
	r.must(err)
	r.H.Subscribe(UDPFrame(r.subscriber(id), r.Relay, []byte{0x40}))
	now, err := r.DP.Counters()
	r.must(err)
	// Where an interface has both ingress programs, the other one has its word for this packet.
	for i := range now {
		r.before[i] += now[i] - was[i]
	}
}

// Client sets a client with credit, n reserved streams (3, 7, 11… in slots 0, 1, 2…) and a link.
func (r *Rig) Client(id datapath.ClientID, n int) *datapath.Space {
	r.Helper()
	space := r.AddClient(id, nil)
	r.Ready(space, n)
	r.Learn(id)
	return space
}

// Ready gives a space credit and n reserved streams.
func (r *Rig) Ready(space *datapath.Space, n int) {
	r.Helper()
	space.SetDataLimit(1 << 20)
	for i := range n {
		if !space.Reserve(uint64(4*i+3), uint8(i), 1<<20) {
			r.Fatalf("no room for reserved stream %d", i)
		}
	}
}

// Subscribe subscribes a client to a track, by an alias.
func (r *Rig) Subscribe(t datapath.TrackID, c datapath.ClientID, alias uint64) {
	r.Helper()
	r.must(r.DP.SetSubscription(t, c, &datapath.Subscription{Alias: alias}))
}

// Basic sets upstream 1 with track 1 of alias 5 in draft 14, to which the clients are subscribed by alias 100 + ID.
func (r *Rig) Basic(clients ...datapath.ClientID) {
	r.Helper()
	r.Upstream(nil)
	r.Track(1, 5, 14)
	for _, c := range clients {
		r.Client(c, 4)
		r.Subscribe(1, c, 100+uint64(c))
	}
}

// Send sends a packet with the publisher's next number.
func (r *Rig) Send(frames ...[]byte) {
	r.Helper()
	b := bytes.Join(frames, nil)
	if len(b) == 0 {
		b = wire.AppendPing(nil)
	}
	r.H.Publish(r.Pub.Frame(r.Next, b))
	r.Next++
}

// Counts is what is expected of the counters: how much each reason has grown.
type Counts map[datapath.Reason]uint64

// Want checks the exact counters, records and packets since the last call. Records are in the form of FormatRecord.
func (r *Rig) Want(counts Counts, records []string, packets ...Out) {
	r.Helper()
	now, err := r.DP.Counters()
	r.must(err)
	got := Counts{}
	for i := range now {
		if n := now[i] - r.before[i]; n > 0 {
			got[datapath.Reason(i)] = n
		}
	}
	r.before = now
	if counts == nil {
		counts = Counts{}
	}
	if d := cmp.Diff(counts, got); d != "" {
		r.Errorf("counters (-want +got):\n%s", d)
	}
	var recs []string
	r.must(r.DP.Drain(func(rec *datapath.Record) { recs = append(recs, FormatRecord(rec)) }))
	if d := cmp.Diff(records, recs); d != "" {
		r.Errorf("records (-want +got):\n%s", d)
	}
	frames := r.H.Collect()
	for i, f := range frames {
		sent, err := ParseFrame(f)
		if err != nil {
			r.Errorf("packet %d: %v", i, err)
			continue
		}
		if i >= len(packets) {
			r.Errorf("packet to %v is too many: %x", sent.Dst, sent.Payload)
			continue
		}
		want, to := packets[i], r.subscriber(packets[i].Client)
		if sent.Src != r.Relay.Addr || sent.Dst != to.Addr || sent.SrcMAC != r.Relay.MAC || sent.DstMAC != to.MAC {
			r.Errorf("packet %d: went from %v %x to %v %x", i, sent.Src, sent.SrcMAC, sent.Dst, sent.DstMAC)
		}
		if d := cmp.Diff(want.Payload(r.DCID(want.Client)), sent.Payload); d != "" && want.Frames != nil {
			r.Errorf("packet %d (-want +got):\n%s", i, d)
		}
	}
	if len(frames) < len(packets) {
		r.Errorf("%d packets came out, want %d", len(frames), len(packets))
	}
}

// Out is an expected packet to a client in the null cipher. Frames nil: any.
type Out struct {
	Client datapath.ClientID
	Number uint64
	Frames []byte
}

// Payload returns the packet.
func (o Out) Payload(dcid []byte) []byte {
	b := append([]byte{0x43}, dcid...)
	b = binary.BigEndian.AppendUint32(b, uint32(o.Number))
	b = append(b, o.Frames...)
	return append(b, make([]byte, datapath.TagLen)...)
}

// Stream returns a STREAM frame as datapaths write them, with a length.
func Stream(id, offset uint64, data []byte, fin bool) []byte {
	t := byte(0x0e)
	if fin {
		t |= 1
	}
	b := wire.AppendVarint([]byte{t}, id)
	b = wire.AppendVarint(b, offset)
	b = wire.AppendVarint(b, uint64(len(data)))
	return append(b, data...)
}

// Datagram returns a DATAGRAM frame with a length.
func Datagram(data []byte) []byte { return wire.AppendDatagram(nil, data, true) }

// FormatRecord writes a record in one line, without its time:
//
//	client 1: number 0 of 7, forwarded, 60 bytes [2→3 0+12 slot 0 prio 9 opened fin]
func FormatRecord(rec *datapath.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d: number %d of %d, %v, %d bytes", rec.Client, rec.Number, rec.UpstreamNumber, rec.Reason, rec.Size)
	for _, f := range rec.Frames {
		if f.Datagram {
			fmt.Fprintf(&b, " [datagram %d +%d prio %d", f.UpstreamStream, f.Length, f.Priority)
		} else {
			fmt.Fprintf(&b, " [%d→%d %d+%d slot %d prio %d", f.UpstreamStream, f.ClientStream, f.Offset, f.Length, f.Slot, f.Priority)
		}
		if f.Opened {
			b.WriteString(" opened")
		}
		if f.Fin {
			b.WriteString(" fin")
		}
		if f.Reason != datapath.Forwarded {
			fmt.Fprintf(&b, " %v", f.Reason)
		}
		b.WriteString("]")
	}
	return b.String()
}
