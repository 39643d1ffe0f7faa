//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/datapath/sim"
)

// goneIndex is the index of an interface that is not there.
const goneIndex = 0x7ffffff0

// stage is the kernel's datapath as a Stage. It is used for many traces: reset makes its tables those of a new datapath.
type stage struct {
	*harness
	ifindex [2]int // relay0, relay1
}

func newStage(t testing.TB, limits datapath.Limits) *stage {
	s := &stage{harness: newHarness(t, limits, AttachAuto)}
	// Packets come in only when a call is over, so calls need not wait for programs that may run.
	wait := quiesce
	quiesce = func() {}
	t.Cleanup(func() { quiesce = wait })
	for i := range s.ifindex {
		l, err := netlink.LinkByName("relay" + strconv.Itoa(i))
		must(t, err)
		s.ifindex[i] = l.Attrs().Index
	}
	return s
}

// reset empties everything: no packet is under way.
func (s *stage) reset() {
	s.Helper()
	s.Collect()
	empty(s, s.dp)
	s.SetClock(datapathtest.ClockStart)
	s.FailSends(false)
}

// Inject implements datapathtest.Stage.
func (s *stage) Inject(iface int, frame []byte) {
	s.Helper()
	socket := s.lab.subscriber
	if iface == datapathtest.Publishers {
		socket = s.lab.publisher
	}
	socket.send(frame)
	s.settle()
	var d rules.Datagram
	if iface != datapathtest.Gone {
		return
	}
	if ours, r := rules.ParseUDP(frame, testPort, &d); !ours || r != datapath.Forwarded {
		return
	}
	key, owner := toAddress(d.Src), uint32(0)
	if s.dp.objs.Addresses.Lookup(&key, &owner) != nil {
		return
	}
	var link bpfLink
	must(s, s.dp.objs.Links.Lookup(owner, &link))
	link.Ifindex = goneIndex
	must(s, put(s.dp.objs.Links, owner, &link))
}

// Collect implements datapathtest.Stage. What went out at the publisher's interface has arrived there when settle returns, since
// all is done by one CPU in turn.
func (s *stage) Collect() [2][][]byte {
	s.Helper()
	s.settle()
	out := [2][][]byte{nil, s.frames}
	s.frames = nil
	b := s.lab.publisher.buffer
	for {
		n, _, err := unix.Recvfrom(s.lab.publisher.fd, b, unix.MSG_DONTWAIT)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return out
		}
		if isUDP(b[:n]) {
			out[0] = append(out[0], bytes.Clone(b[:n]))
		}
	}
}

// Dump implements datapathtest.Stage.
func (s *stage) Dump(to *datapathtest.Dump) {
	s.Helper()
	d := s.dp
	must(s, errors.Join(
		each(d.objs.Cids, func(k *bpfCid, v *bpfCidOwner) {
			to.CID(k.Bytes[:datapath.CIDLen-1], v.Last, datapath.UpstreamID(v.Upstream))
		}),
		each(d.objs.Tracks, func(k *bpfTrackKey, v *bpfTrack) {
			to.Track(datapath.UpstreamID(k.Upstream), k.Alias, datapath.TrackID(v.Track), v.Draft, v.Priority)
		}),
		each(d.objs.Subs, func(k *bpfSubKey, v *bpfSub) {
			to.Sub(datapath.TrackID(k.Track), datapath.ClientID(k.Client),
				datapath.Subscription{Alias: v.Alias, FirstGroup: v.FirstGroup, LastGroup: v.LastGroup, Priority: v.Priority}, v.Generation, v.Cut)
		}),
		each(d.objs.Addresses, func(k *bpfAddress, v *uint32) { to.Address(fromAddress(k.Ip, k.Port), datapath.ClientID(*v)) }),
		each(d.objs.Streams, func(k *bpfStreamKey, v *bpfStream) {
			to.Stream(datapath.UpstreamID(k.Upstream), k.Stream, datapath.TrackID(v.Track), v.Group, v.Priority, v.AliasLen)
		}),
		each(d.objs.ClientStreams, func(k *bpfClientStreamKey, v *bpfClientStream) {
			to.ClientStream(datapath.ClientID(k.Client), uint8(k.Generation), datapath.UpstreamID(k.Upstream), k.Stream, v.Stream, v.Slot,
				v.OldPrefix, v.NewPrefix, v.Alias, datapath.TrackID(v.Track), v.Dropped != 0)
		})))
	for id := range datapath.UpstreamID(d.limits.Upstreams) {
		var u bpfUpstream
		must(s, d.objs.Upstreams.Lookup(uint32(id), &u))
		if w := d.window(id); u.Valid != 0 {
			to.Upstream(id, fromAddress(u.Remote.Ip, u.Remote.Port), u.Streams, u.PriorityCid != 0, w[windowNext], w[windowWatermark], w[windowStreams], w[windowSlots:])
		}
	}
	to.Rests(d.rests[restStreams], d.rests[restClientStreams])
	for id := range datapath.TrackID(d.limits.Tracks) {
		list := d.list(id)
		to.Members(id, list[listPlaces:][:list[listCount]])
	}
	for id := range datapath.ClientID(d.limits.Clients) {
		s.dumpClient(to, id)
	}
}

func (s *stage) dumpClient(to *datapathtest.Dump, id datapath.ClientID) {
	d, words := s.dp, s.dp.spaces.words[int(id)*datapath.SpaceWords:][:datapath.SpaceWords]
	to.Space(id, func(i int) uint64 { return atomic.LoadUint64(&words[i]) })
	if d.client[id] != nil {
		var c bpfClient
		half := uint32(0)
		if words[datapath.WordGeneration]&generationHalf != 0 {
			half = 1
		}
		must(s, d.objs.Clients.Lookup(2*uint32(id)+half, &c))
		to.Client(id, fromAddress(c.Local, c.LocalPort), fromAddress(c.Remote, c.RemotePort), c.Dcid[:c.DcidLen],
			uint64(c.MaxDatagram), c.PriorityCid != 0)
	}
	var l bpfLink
	must(s, d.objs.Links.Lookup(uint32(id), &l))
	switch int(l.Ifindex) {
	case 0:
	case s.ifindex[0]:
		to.Link(id, 1, l.Source, l.Destination)
	case s.ifindex[1]:
		to.Link(id, 2, l.Source, l.Destination)
	default:
		to.Link(id, 3, l.Source, l.Destination)
	}
}

// each calls f for every entry of a hash.
func each[K, V any](m *ebpf.Map, f func(*K, *V)) error {
	return sweep(m, func(k *K, v *V) bool { f(k, v); return false }, nil)
}

func fromAddress(ip [16]uint8, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), bits.ReverseBytes16(port))
}

// Nanos implements datapathtest.Stage.
func (s *stage) Nanos(t time.Time) uint64 {
	c := s.dp.spaces.clock
	return c.baseNS + uint64(t.Sub(c.base))
}

// setting returns a number from the environment; make diff sets them.
func setting(t testing.TB, name string, n uint64) uint64 {
	t.Helper()
	if v := os.Getenv(name); v != "" {
		var err error
		if n, err = strconv.ParseUint(v, 0, 64); err != nil {
			t.Fatalf("%s is %q, not a number", name, v)
		}
	}
	return n
}

// accepted are the divergences between simulator and kernel that stay.
func accepted() *datapathtest.Ledger { return datapathtest.NewLedger() }

// TestTraces plays random traces on the simulator and on the kernel. Trace i is made of seed FASTRELAY_DIFF_SEED + i, and there are
// FASTRELAY_DIFF_TRACES. Those of even seeds have small tables.
func TestTraces(t *testing.T) {
	needKernel(t)
	seed, n := setting(t, "FASTRELAY_DIFF_SEED", 1), setting(t, "FASTRELAY_DIFF_TRACES", 200)
	run := &traceRun{ledger: accepted(), n: n, start: time.Now()}
	for first := seed; first < seed+min(n, 2); first++ {
		t.Run([]string{"small", "roomy"}[first%2], func(t *testing.T) {
			k := newStage(t, datapathtest.TraceLimits(first))
			for s := first; s < seed+n; s += 2 {
				run.trace(t, k, s)
			}
		})
	}
	if n >= 200 {
		for _, what := range run.ledger.Stale() {
			t.Errorf("the ledger accepts %s, which has not been seen: take it out", what)
		}
	}
	fmt.Fprintf(os.Stderr, "%s\n", run)
}

// traceRun is the state of a run of traces.
type traceRun struct {
	ledger      *datapathtest.Ledger
	n           uint64
	start, told time.Time
	done, steps uint64
	diverged    int
}

func (r *traceRun) String() string {
	spent := time.Since(r.start)
	return fmt.Sprintf("simulator and kernel: %d of %d traces, %d steps, %.0f traces/s, %d diverge", r.done, r.n, r.steps,
		float64(r.done)/spent.Seconds(), r.diverged)
}

func (r *traceRun) trace(t *testing.T, k *stage, seed uint64) {
	t.Helper()
	tr := datapathtest.Generate(seed)
	compare := func(every int) func([]datapathtest.Step) *datapathtest.Divergence {
		return func(steps []datapathtest.Step) *datapathtest.Divergence {
			k.reset()
			st := datapathtest.NewSimStage(func(d *datapathtest.Dump) sim.Dumper { return d })
			st.Use(sim.New(sim.Config{Limits: tr.Limits, Port: testPort, Now: st.Now, Send: st.Send, HasInterface: st.HasInterface}))
			return datapathtest.Compare(st, k, steps, every, r.ledger)
		}
	}
	d := compare(4)(tr.Steps)
	r.done++
	r.steps += uint64(len(tr.Steps))
	if os.Getenv("FASTRELAY_DIFF_PROGRESS") == "1" && time.Since(r.told) > time.Second/2 {
		r.told = time.Now()
		fmt.Fprintf(os.Stderr, "\r%s\x1b[K\r", r)
	}
	if d == nil {
		return
	}
	r.diverged++
	tr.Steps = datapathtest.Shrink(tr.Steps[:d.Step+1], 300, compare(1))
	if less := compare(1)(tr.Steps); less != nil {
		d = less
	}
	t.Errorf("seed %d: simulator (-) and kernel (+) differ after step %d:\n%s\nin\n%s", seed, d.Step, strings.Join(d.Lines, "\n"), tr)
	if r.diverged == 5 {
		t.Fatal("no more traces after five that diverge")
	}
}
