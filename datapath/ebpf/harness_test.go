//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"os"
	"runtime"
	"sync"
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
	} else if r := probed(); !r.OK() {
		why = "this machine cannot run the kernel datapath:\n" + r.String()
	}
	if why != "" {
		t.Fatal(why)
	}
}

var probed = sync.OnceValue(Probe)

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
	fd     int
	buffer []byte
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
	return &rawSocket{t, fd, make([]byte, 65536)}
}

func (s *rawSocket) send(frame []byte) {
	s.Helper()
	if _, err := unix.Write(s.fd, frame); err != nil {
		s.Fatal(err)
	}
}

func (s *rawSocket) receive() []byte {
	s.Helper()
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buffer, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			s.Fatalf("receive: %v", err)
		}
		return bytes.Clone(s.buffer[:n])
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
	shoot  *ebpf.Map // not 0: what leaves relay1 is shot; nil until sends are to fail
}

func newHarness(t testing.TB, limits datapath.Limits, attach Attach) *harness {
	t.Helper()
	return &harness{lab: newLab(t), dp: attached(t, limits, attach), attach: attach}
}

func (h *harness) Datapath() datapath.Datapath     { return h.dp }
func (h *harness) Port() uint16                    { return testPort }
func (h *harness) Supports(c datapath.Cipher) bool { return c == datapath.CipherNull }

func (h *harness) SetClock(ns uint64) {
	must(h, h.dp.objs.TestClock.Set(ns))
	h.dp.spaces.clock.test.Store(ns)
}

// FailSends lets a program that is not ours shoot what comes out of ours, but for the marker. Once attached it stays, switched by
// a word, since attaching waits for the kernel.
func (h *harness) FailSends(fail bool) {
	h.Helper()
	h.settle()
	if h.shoot == nil {
		if !fail {
			return
		}
		h.attachShooter()
	}
	v := uint32(0)
	if fail {
		v = 1
	}
	must(h, h.shoot.Put(uint32(0), v))
}

func (h *harness) attachShooter() {
	h.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(h, err)
	h.shoot = m
	h.Cleanup(func() { must(h, m.Close()) })
	const protocolAt = 16 // in struct __sk_buff
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "shooter", Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, protocolAt, asm.Word),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Imm(asm.R0, -1), // go on
		asm.JEq.Imm(asm.R7, 0, "out"),
		asm.LoadMem(asm.R7, asm.R7, 0, asm.Word),
		asm.JEq.Imm(asm.R7, 0, "out"),
		asm.JEq.Imm(asm.R6, int32(bits.ReverseBytes16(markerType)), "out"),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.Return().WithSymbol("out"),
	}})
	must(h, err)
	defer p.Close()
	l, err := netlink.LinkByName("relay1")
	must(h, err)
	if _, version := kernelVersion(); h.attach != AttachClsact && version >= kernelTCX {
		x, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: p, Attach: ebpf.AttachTCXEgress, Anchor: link.Tail()})
		must(h, err)
		h.Cleanup(func() { must(h, x.Close()) })
		return
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_ALL, Priority: 0xffff},
		Fd:          p.FD(), Name: "shooter", DirectAction: true,
	}
	must(h, netlink.FilterAdd(f))
	h.Cleanup(func() { must(h, netlink.FilterDel(f)) })
}

func TestConformance(t *testing.T) {
	eachAttach(t, func(t *testing.T, attach Attach) {
		datapathtest.Run(t, func(t *testing.T, limits datapath.Limits) datapathtest.Harness {
			return newHarness(t, limits, attach)
		})
	})
}

// eachAttach runs a test with each way of attaching that the kernel has.
func eachAttach(t *testing.T, f func(t *testing.T, attach Attach)) {
	needKernel(t)
	if _, version := kernelVersion(); version >= kernelTCX {
		t.Run("tcx", func(t *testing.T) { f(t, AttachTCX) })
	}
	t.Run("clsact", func(t *testing.T) { f(t, AttachClsact) })
}
