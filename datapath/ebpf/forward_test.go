//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
)

// forwarding is a relay with one track and n subscribers, and a publisher that sends one long stream.
type forwarding struct {
	*harness
	publisher datapathtest.Builder
	number    uint64
	offset    uint64
	spaces    []*datapath.Space
}

func newForwarding(t testing.TB, n int) *forwarding {
	t.Helper()
	f := &forwarding{harness: newHarness(t, Config{})}
	side := func(i int, port uint16) datapathtest.Side {
		return datapathtest.Side{MAC: [6]byte{2, 0, 0, 0, byte(i >> 8), byte(i)},
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), port)}
	}
	relay := side(1, testPort)
	f.publisher = datapathtest.Builder{From: side(2, 4000), To: relay, CID: datapathtest.CID(1)}
	must(t, f.dp.SetUpstream(1, &datapath.Upstream{Remote: f.publisher.From.Addr, CIDs: [][]byte{datapathtest.CID(1)}, Streams: 2}))
	must(t, f.dp.SetTrack(1, &datapath.Track{Upstream: 1, Alias: 5, Draft: 14}))
	for i := range n {
		id, s := datapath.ClientID(i), side(10+i, 5000)
		space, err := f.dp.SetClient(id, &datapath.Client{Local: relay.Addr, Remote: s.Addr, DCID: make([]byte, 8), MaxSize: 1400})
		must(t, err)
		space.SetDataLimit(1 << 60)
		space.Reserve(3, 0, 1<<47)
		f.spaces = append(f.spaces, space)
		must(t, f.dp.SetSubscription(1, id, &datapath.Subscription{Alias: 5}))
		f.Subscribe(datapathtest.UDPFrame(s, relay, []byte{0x40}))
	}
	f.send(datapathtest.Subgroup(5, 1, 9, "first"))
	return f
}

func (f *forwarding) send(data []byte) {
	f.lab.publisher.send(f.publisher.Frame(f.number, datapathtest.Stream(2, f.offset, data, false)))
	f.number++
	f.offset += uint64(len(data))
}

// BenchmarkForward measures server_ingress with the egress that runs in it, by the kernel's own statistics: ns/packet is
// per packet of the publisher, 1200 bytes of stream data each. Null cipher; the veth pair's transmission is in it, its reception not.
func BenchmarkForward(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			f := newForwarding(b, n)
			f.settle()
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			must(b, err)
			defer stats.Close()
			run := func() time.Duration {
				s, err := f.dp.objs.ServerIngress.Stats()
				must(b, err)
				return s.Runtime
			}
			must(b, f.dp.Drain(func(*datapath.Record) {}))
			data, records, before := make([]byte, 1200), 0, run()
			for b.Loop() {
				f.send(data)
				if f.number%16 == 0 { // before the subscriber's socket is full
					f.Collect()
					must(b, f.dp.Drain(func(*datapath.Record) { records++ }))
				}
			}
			f.Collect()
			must(b, f.dp.Drain(func(*datapath.Record) { records++ }))
			spent := run() - before
			if records != b.N*n {
				b.Errorf("%d records of %d packets to %d clients", records, b.N, n)
			}
			b.ReportMetric(0, "ns/op") // the test's own sending and receiving
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/packet")
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*n), "ns/client")
		})
	}
}

// TestDrain: records come once, in order, with the time at which they were made, and reading them allocates nothing.
func TestDrain(t *testing.T) {
	f := newForwarding(t, 1)
	f.settle()
	records, last := 0, uint64(0)
	count := func(r *datapath.Record) { records++; last = r.Number }
	must(t, f.dp.Drain(count))
	const packets = 100
	data := make([]byte, 100)
	for range packets {
		f.send(data)
	}
	f.Collect()
	before := time.Now()
	var was, is runtime.MemStats
	runtime.ReadMemStats(&was)
	must(t, f.dp.Drain(count))
	runtime.ReadMemStats(&is)
	if n := is.Mallocs - was.Mallocs; n >= packets { // a few are the test runner's
		t.Errorf("draining %d records allocates %d times", packets, n)
	}
	if records != packets+1 || last != packets {
		t.Errorf("%d records, the last of number %d; want %d and %d", records, last, packets+1, packets)
	}
	if next := f.spaces[0].Next(); next != packets+1 {
		t.Errorf("next number is %d, want %d", next, packets+1)
	}
	f.send(data)
	f.Collect()
	must(t, f.dp.Drain(func(r *datapath.Record) {
		if now := time.Now(); r.Time.Before(before) || r.Time.After(now) {
			t.Errorf("record of %v, between %v and %v", r.Time, before, now)
		}
	}))
}

// TestInterfaceDown: what an interface that is down does not take is told at once, and the next packet after it is up again goes out.
func TestInterfaceDown(t *testing.T) {
	f := newForwarding(t, 1)
	f.Collect()
	relay0 := newRawSocket(t, "relay0")
	relay1, err := netlink.LinkByName("relay1")
	must(t, err)
	must(t, f.dp.Drain(func(*datapath.Record) {}))
	before, err := f.dp.Counters()
	must(t, err)
	must(t, netlink.LinkSetDown(relay1))
	f.send(make([]byte, 100))
	f.lab.publisher.send(marker)
	for !bytes.Equal(relay0.receive(), marker) {
	}
	must(t, netlink.LinkSetUp(relay1))
	_, err = unix.GetsockoptInt(f.lab.relay1.fd, unix.SOL_SOCKET, unix.SO_ERROR) // forget that it was down
	must(t, err)
	f.settle()
	f.send(make([]byte, 100))
	f.Collect()
	var records []string
	must(t, f.dp.Drain(func(r *datapath.Record) { records = append(records, fmt.Sprint(r.Number, r.Reason, len(r.Frames))) }))
	if want := []string{"1 forwarded 1", "1 send_failed 0", "2 forwarded 1"}; !slices.Equal(records, want) {
		t.Errorf("records %q, want %q", records, want)
	}
	after, err := f.dp.Counters()
	must(t, err)
	if n := after[datapath.ReasonSendFailed] - before[datapath.ReasonSendFailed]; n != 1 {
		t.Errorf("%d frames failed, want 1", n)
	}
	if n := after[datapath.Forwarded] - before[datapath.Forwarded]; n != 1 {
		t.Errorf("%d frames were forwarded, want 1", n)
	}
}
