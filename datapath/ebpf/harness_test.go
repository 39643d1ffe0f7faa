//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
)

// needKernel skips a test that needs root and a kernel with the features. With FASTRELAY_KERNEL_TESTS=1, as make test-kernel
// sets it, a machine without them is a failure; without it the tests are not run at all, since they take minutes.
func needKernel(t testing.TB) {
	t.Helper()
	why := ""
	if os.Getenv("FASTRELAY_KERNEL_TESTS") != "1" {
		t.Skip("runs with make test-kernel")
	}
	if os.Geteuid() != 0 {
		why = "kernel tests need root"
	} else if r := Probe(); !r.OK() {
		why = "this machine cannot run the kernel datapath:\n" + r.String()
	}
	if why != "" {
		t.Fatal(why)
	}
}

const testPort = 4433

// lab is a network namespace with two cables:
//
//	publisher ── relay0      relay1 ── subscriber
//
// The names on the left and right are interfaces whose raw frames the test sends and receives; the datapath is on relay0 and
// relay1. The test's thread enters the namespace, never leaves it, and stays on one CPU, so that a marker frame sent
// after a frame is received after it.
type lab struct {
	testing.TB
	publisher, subscriber, relay1 *rawSocket
	frames                        [][]byte
}

func newLab(t testing.TB) *lab {
	t.Helper()
	needKernel(t)
	runtime.LockOSThread() // and never unlocked: the thread ends with the test's goroutine
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	var cpus, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &cpus))
	for i := range 1024 {
		if cpus.IsSet(i) {
			one.Set(i)
			break
		}
	}
	must(t, unix.SchedSetaffinity(0, &one))
	for _, pair := range [][2]string{{"publisher", "relay0"}, {"subscriber", "relay1"}} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = pair[0]
		attrs.MTU = 2000 // packets that are too long must fit
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: pair[1]}))
		for _, name := range pair {
			l, err := netlink.LinkByName(name)
			must(t, err)
			must(t, netlink.LinkSetMTU(l, attrs.MTU))
			must(t, netlink.LinkSetUp(l))
		}
	}
	return &lab{TB: t, publisher: newRawSocket(t, "publisher"), subscriber: newRawSocket(t, "subscriber"),
		relay1: newRawSocket(t, "relay1")}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rawSocket sends and receives whole frames of an interface.
type rawSocket struct {
	testing.TB
	fd int
}

func newRawSocket(t testing.TB, name string) *rawSocket {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	all := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: l.Attrs().Index}))
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return &rawSocket{t, fd}
}

func (s *rawSocket) send(frame []byte) {
	s.Helper()
	if _, err := unix.Write(s.fd, frame); err != nil {
		s.Fatal(err)
	}
}

func (s *rawSocket) receive() []byte {
	s.Helper()
	b := make([]byte, 65536)
	for {
		n, _, err := unix.Recvfrom(s.fd, b, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			s.Fatalf("receive: %v", err)
		}
		return b[:n]
	}
}

// marker is a frame of a local experimental EtherType.
var marker = append([]byte{2, 0, 0, 0, 0xff, 1, 2, 0, 0, 0, 0xff, 2, markerType >> 8, markerType & 0xff}, make([]byte, 50)...)

const markerType = 0x88b5

// settle returns when all frames that were queued when it was called have been processed, keeping those of UDP that come out.
func (l *lab) settle() {
	l.Helper()
	l.relay1.send(marker)
	for {
		b := l.subscriber.receive()
		switch {
		case bytes.Equal(b, marker):
			return
		case isUDP(b):
			l.frames = append(l.frames, b)
		}
	}
}

func isUDP(b []byte) bool {
	if len(b) < 42 {
		return false
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case 0x0800:
		return b[23] == 17
	case 0x86dd:
		return b[20] == 17
	}
	return false
}

func (l *lab) Publish(frame []byte) {
	l.Helper()
	l.publisher.send(frame)
	l.settle()
}

func (l *lab) Subscribe(frame []byte) {
	l.Helper()
	l.subscriber.send(frame)
	l.settle()
}

func (l *lab) Collect() [][]byte {
	l.Helper()
	l.settle()
	f := l.frames
	l.frames = nil
	return f
}

// harness is the lab with a datapath in it.
type harness struct {
	*lab
	dp     *Datapath
	attach Attach
	shot   func() error // takes the program that fails sends off again
}

func newHarness(t testing.TB, cfg Config) *harness {
	t.Helper()
	l := newLab(t)
	cfg.Interfaces, cfg.Port = []string{"relay0", "relay1"}, testPort
	dp, err := New(cfg)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { must(t, dp.Close()) })
	return &harness{lab: l, dp: dp, attach: cfg.Attach}
}

func (h *harness) Datapath() datapath.Datapath     { return h.dp }
func (h *harness) Port() uint16                    { return testPort }
func (h *harness) Supports(c datapath.Cipher) bool { return c == datapath.CipherNull }

func (h *harness) SetClock(ns uint64) {
	must(h, h.dp.objs.TestClock.Set(ns))
	h.dp.spaces.clock.test.Store(ns)
}

// FailSends lets a program that is not ours shoot what comes out of ours, but for the marker.
func (h *harness) FailSends(fail bool) {
	h.Helper()
	h.settle()
	if h.shot != nil {
		must(h, h.shot())
		h.shot = nil
	}
	if !fail {
		return
	}
	const protocolAt = 16 // in struct __sk_buff
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "shoot", Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, protocolAt, asm.Word),
		asm.Mov.Imm(asm.R0, -1), // go on
		asm.JEq.Imm(asm.R1, int32(bits.ReverseBytes16(markerType)), "out"),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.Return().WithSymbol("out"),
	}})
	must(h, err)
	defer p.Close()
	l, err := netlink.LinkByName("relay1")
	must(h, err)
	if h.attach != AttachClsact {
		x, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: p, Attach: ebpf.AttachTCXEgress, Anchor: link.Tail()})
		must(h, err)
		h.shot = x.Close
		return
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_ALL, Priority: 0xffff},
		Fd:          p.FD(), Name: "shoot", DirectAction: true,
	}
	must(h, netlink.FilterAdd(f))
	h.shot = func() error { return netlink.FilterDel(f) }
}

func TestConformance(t *testing.T) {
	for name, attach := range map[string]Attach{"tcx": AttachTCX, "clsact": AttachClsact} {
		t.Run(name, func(t *testing.T) {
			needKernel(t)
			datapathtest.Run(t, func(t *testing.T, limits datapath.Limits) datapathtest.Harness {
				return newHarness(t, Config{Limits: limits, Attach: attach})
			})
		})
	}
}
