//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ebpf

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Kernels, by major<<8 | minor.
const (
	kernelFloor = 6<<8 | 1
	kernelTCX   = 6<<8 | 6
)

// loadError is an error of New that keeps the verifier's log for %+v.
type loadError struct {
	msg string
	err error
}

func (e *loadError) Error() string { return e.msg + ": " + e.err.Error() }
func (e *loadError) Unwrap() error { return e.err }

// Format implements fmt.Formatter: %+v adds the verifier's whole log.
func (e *loadError) Format(s fmt.State, verb rune) {
	var v *ebpf.VerifierError
	if verb == 'v' && s.Flag('+') && errors.As(e.err, &v) {
		fmt.Fprintf(s, "%s: %+v", e.msg, v)
		return
	}
	fmt.Fprint(s, e.Error())
}

// explainLoad says what a failed load asks for.
func explainLoad(err error) error {
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		return &loadError{"the kernel refused a program; please report it with what %+v prints", err}
	}
	return &loadError{"load programs and maps", explain(err)}
}

// explain adds to an error of the kernel what to do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES):
		if release, v := kernelVersion(); v < kernelFloor {
			return fmt.Errorf("%w: kernel %s is older than 6.1: %w", ErrUnsupported, release, err)
		}
		return fmt.Errorf("%w: capabilities are missing; run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon+ep PROGRAM: %w", ErrUnsupported, err)
	case errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w: the kernel lacks a feature; see what Probe reports: %w", ErrUnsupported, err)
	case errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("not enough memory for the tables; lower Config.Limits: %w", err)
	}
	return err
}

func kernelVersion() (release string, version int) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown", 0
	}
	release = unix.ByteSliceToString(u.Release[:])
	var major, minor int
	_, _ = fmt.Sscanf(release, "%d.%d", &major, &minor)
	return release, major<<8 | minor
}

// Probe tries what the datapath needs of this machine. It changes nothing.
func Probe() Report {
	const upgrade = "use Linux 6.1 or newer"
	const privileges = "run as root, or give the program the capabilities: setcap cap_bpf,cap_net_admin,cap_perfmon+ep PROGRAM"
	release, version := kernelVersion()
	r := Report{{Name: "kernel", OK: version >= kernelFloor, Detail: "Linux " + release, Advice: upgrade}}
	add := func(name string, err error, detail, advice string) {
		switch {
		case errors.Is(err, syscall.EPERM): // not the library's guess, which is of a memory limit
			detail, advice = "not permitted", privileges
		case err != nil:
			detail = err.Error()
		}
		r = append(r, Item{Name: name, OK: err == nil, Detail: detail, Advice: advice})
	}
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_BPF", unix.CAP_BPF}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_PERFMON", unix.CAP_PERFMON}} {
		add(c.name, capability(c.bit), "effective", privileges)
	}
	_, err := btf.LoadKernelSpec()
	add("BTF", err, "/sys/kernel/btf/vmlinux", "use a kernel that is built with CONFIG_DEBUG_INFO_BTF")
	add("bpf system call", features.HaveProgramType(ebpf.SchedCLS), "TC programs load", "use a kernel that is built with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF; a container may filter bpf(2)")
	add("ring buffer", features.HaveMapType(ebpf.RingBuf), "Linux 5.8", upgrade)
	add("mmapable arrays", features.HaveMapFlag(features.BPF_F_MMAPABLE), "Linux 5.5", upgrade)
	add("atomics", haveAtomics(), "Linux 5.12", upgrade)
	add("bpf_loop", features.HaveProgramHelper(ebpf.SchedCLS, asm.FnLoop), "Linux 5.17", upgrade)
	add("attachment", nil, attachment(version), "")
	return r
}

func attachment(version int) string {
	if _, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress}); err == nil {
		return "TCX"
	}
	if version >= kernelTCX {
		return "clsact; TCX could not be queried"
	}
	return "clsact; TCX comes with Linux 6.6"
}

// capability returns an error if the process does not have a capability.
func capability(bit uint) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&h, &data[0]); err != nil {
		return err
	}
	if data[bit/32].Effective&(1<<(bit%32)) == 0 {
		return syscall.EPERM
	}
	return nil
}

// haveAtomics loads a program with a fetch-and-add, the instruction set that the programs are built for.
func haveAtomics() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual MIT/GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, 1),
		asm.FetchAdd.Mem(asm.RFP, asm.R1, asm.DWord, -8),
		asm.Return(),
	}})
	if err != nil {
		return err
	}
	return p.Close()
}
