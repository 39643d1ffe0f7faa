package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fastrelay/fastrelay/datapath/ebpf"
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
	"github.com/fastrelay/fastrelay/relay"
)

// soakTime is how long the relay is watched; FASTRELAY_SOAK sets another time, make soak ten minutes.
const soakTime = 20 * time.Second

// soak is a relay on the kernel datapath in this process, with all others in processes of their own.
type soak struct {
	*testing.T
	lab   *netlab.Lab
	bin   string
	relay *relay.Relay
	dp    *ebpf.Datapath
	rnd   *rand.Rand
	last  uint64 // packets forwarded when they were last looked at
}

// TestSoakOnTheKernel: subscribers come and go, some without a word, while one stays and the publisher loops the clip. What
// the relay and the kernel's tables hold when all others have gone is in the second half what it was in the first.
func TestSoakOnTheKernel(t *testing.T) {
	length := soakTime
	switch v := os.Getenv("FASTRELAY_SOAK"); {
	case v != "":
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatalf("FASTRELAY_SOAK: %v", err)
		}
	case os.Getenv(netlabtest.Must) == "":
		t.Skip("runs with make test-kernel")
	}
	s := &soak{T: t, lab: netlabtest.New(t, netlab.Options{}), rnd: rand.New(rand.NewPCG(1, 1))}
	s.bin = filepath.Join(t.TempDir(), "fastrelay")
	if out, err := exec.Command("go", "build", "-o", s.bin, "../cmd/fastrelay").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s.start()
	publisher := s.child(s.lab.Publisher, s.lab.Upstream.Relay.Addr(), "publish", "--loop")
	must(t, publisher.await(t.Context(), "announced"))
	stays := s.child(s.lab.Subscriber, s.lab.Downstream.Relay.Addr(), "subscribe")
	must(t, stays.await(t.Context(), "subscribed"))

	var all []map[string]int
	for begin := time.Now(); time.Since(begin) < length || len(all) < 4; {
		s.round()
		m := s.measure()
		t.Logf("%5.0f s: %s", time.Since(begin).Seconds(), describe(m))
		all = append(all, m)
	}
	first, second := all[:len(all)/2], all[len(all)/2:]
	for _, name := range slices.Sorted(maps.Keys(all[0])) {
		was, is := largest(first, name), largest(second, name)
		t.Logf("%-16s at most %d in the first half, %d in the second", name, was, is)
		if is > was+slack(name, was) {
			t.Errorf("%s grows: %d in the first half, %d in the second", name, was, is)
		}
	}
	for i, m := range all {
		if m["forwarded"] == 0 || m["pools"] == 0 {
			t.Errorf("measurement %d: nothing is forwarded any more: %s", i, describe(m))
		}
	}
	for _, c := range []*child{stays, publisher} {
		select {
		case <-c.exited:
			t.Errorf("a process that was to stay has ended: %v", c.failure())
		default:
		}
	}
}

// slack is by how much a figure may be larger without a cause: streams are open while they are counted, the heap moves with
// what is in flight.
func slack(name string, was int) int {
	switch name {
	case "heap_kb":
		return was/4 + 1024
	case "goroutines":
		return 20
	case "addresses", "clients", "subs":
		return 4 // of the last round: a session is forgotten before its place in the tables is free
	case "streams", "client_streams", "streams_counted", "client_streams_counted", "pools":
		return was/4 + 64
	case "forwarded":
		return 1 << 30 // shall be as large as it can
	}
	return 0
}

func largest(all []map[string]int, name string) (n int) {
	for _, m := range all {
		n = max(n, m[name])
	}
	return n
}

func describe(m map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		words = append(words, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(words, ", ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the relay in its namespace, where its socket and the attachments stay.
func (s *soak) start() {
	var pc *net.UDPConn
	must(s.T, s.lab.Relay.Do(func() (err error) {
		if pc, err = net.ListenUDP("udp4", &net.UDPAddr{Port: labPort}); err != nil {
			return err
		}
		s.dp, err = ebpf.New(ebpf.Config{Port: labPort,
			Interfaces: []string{s.lab.Upstream.Relay.Interface, s.lab.Downstream.Relay.Interface}})
		return err
	}))
	cert, err := endpoint.SelfSigned(time.Now())
	must(s.T, err)
	s.relay, err = relay.New(relay.Config{
		Conn: pc, Datapath: s.dp, Null: true, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
		CacheAge: 2 * time.Second, // so that the cache is as full as it gets after the first seconds
		// Who leaves without a word is missed soon.
		QUIC: &quic.Config{MaxIdleTimeout: 2 * time.Second, KeepAlivePeriod: 500 * time.Millisecond,
			MaxIncomingStreams: 1, MaxIncomingUniStreams: 1 << 16},
	})
	must(s.T, err)
	served := make(chan error, 1)
	go func() { served <- s.relay.Serve(context.Background()) }()
	s.Cleanup(func() {
		err := s.relay.Close()
		if e := <-served; !errors.Is(e, relay.ErrClosed) {
			err = errors.Join(err, e)
		}
		err = errors.Join(err, s.lab.Relay.Do(s.dp.Close), closeUDP(pc))
		if err != nil {
			s.Error(err)
		}
	})
}

func (s *soak) child(where *netlab.Namespace, relay netip.Addr, args ...string) *child {
	c, err := startChild(s.Context(), where, s.bin, append(args, "--json", "--insecure", "--cipher", cipherNull,
		"--relay", netip.AddrPortFrom(relay, labPort).String())...)
	must(s.T, err)
	return c // which the laboratory kills at the end, if it is there; a cleanup for each would be memory that grows
}

// round lets three subscribers come for a time of their own, and one that is killed once it has subscribed.
func (s *soak) round() {
	var leave []*child
	for range 3 {
		d := time.Duration(500+s.rnd.IntN(2500)) * time.Millisecond
		leave = append(leave, s.child(s.lab.Subscriber, s.lab.Downstream.Relay.Addr(), "subscribe", "--duration", d.String()))
	}
	vanish := s.child(s.lab.Subscriber, s.lab.Downstream.Relay.Addr(), "subscribe")
	must(s.T, vanish.await(s.Context(), "subscribed"))
	vanish.kill()
	for _, c := range leave {
		var received []endpoint.Received
		must(s.T, c.result(s.Context(), &received))
	}
	// The relay has an end of a session from its peer or from a timer; who is there can only be asked.
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.relay.Stats().Sessions > 2 || s.subscriptions() > clipTracks {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("%d sessions and %d subscriptions in the kernel are left, want those of the publisher and of the subscriber that stays",
				s.relay.Stats().Sessions, s.subscriptions())
		}
	}
}

// clipTracks is how many tracks the built-in clip has.
const clipTracks = 3

// subscriptions returns how many the kernel has: it has those of a session a while longer than the relay, and their streams with them.
func (s *soak) subscriptions() int {
	m, err := s.dp.Entries()
	must(s.T, err)
	return m["subs"]
}

// measure counts what this process and the kernel hold for the relay.
func (s *soak) measure() map[string]int {
	m, err := s.dp.Entries()
	must(s.T, err)
	for range 2 { // the second collects what finalizers of the first have let go
		runtime.GC()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	files, err := os.ReadDir("/proc/self/fd")
	must(s.T, err)
	m["heap_kb"], m["goroutines"], m["files"] = int(mem.HeapAlloc>>10), runtime.NumGoroutine(), len(files)
	forwarded := s.relay.Stats().Boundary.ForwardedPackets
	m["forwarded"], s.last = int(forwarded-s.last), forwarded
	return m
}
