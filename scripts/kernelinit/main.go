//go:build linux

// Command kernelinit is the first process of the machine that scripts/test-kernels.sh boots: it loads the modules of
// /modules in the order of their names, runs the test binary /test with the arguments in /args, one a line, says on the
// console how it ended, and switches the machine off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("kernelinit:", err)
	}
	unix.Sync()
	// Returning would make the kernel panic, which the script takes for what it is.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("kernelinit: power off:", err)
	}
}

func run() error {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range modules {
		if err := load(name); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	args, err := os.ReadFile("/args")
	if err != nil {
		return err
	}
	test := exec.Command("/test", strings.Fields(string(args))...)
	test.Dir = "/src/datapath/ebpf" // tests read the headers in ../../bpf
	// An emulated machine is much slower: fewer random traces than elsewhere.
	test.Env = []string{"FASTRELAY_KERNEL_TESTS=1", "FASTRELAY_DIFF_TRACES=20", "HOME=/tmp", "TMPDIR=/tmp"}
	test.Stdout, test.Stderr = os.Stdout, os.Stderr
	if err := test.Run(); err != nil {
		return err
	}
	fmt.Println("kernelinit: ok")
	return nil
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
