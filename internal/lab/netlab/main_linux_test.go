package netlab_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/fastrelay/fastrelay/internal/lab/netlab"
)

// roleEnv makes the test binary something else than tests.
const roleEnv = "NETLAB_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "child":
		child()
	case "owner":
		owner()
	}
}

// child prints its network namespace and waits until its input ends, or for ever if it has none.
func child() {
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(ns)
	io.Copy(io.Discard, os.Stdin)
}

// owner makes a network with a child in it, prints the name of a namespace and what the child prints, and waits to be killed.
func owner() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	lab, err := netlab.New(context.Background(), netlab.Options{})
	fail(err)
	fmt.Println(lab.Relay.Name())
	cmd := command("child")
	stdin, err := cmd.StdinPipe()
	fail(err)
	cmd.Stdout = os.Stdout
	fail(lab.Relay.Start(cmd))
	io.Copy(io.Discard, os.Stdin)
	stdin.Close()
}

// command returns the test binary in a role.
func command(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a command with start, and returns a function that reads a line of its output, and one that waits for
// the end of the output, which is when nobody can write to it any more. The command's input stays open.
func start(t *testing.T, cmd *exec.Cmd, start func(*exec.Cmd) error) (line func() string, end func()) {
	t.Helper()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout = w
	err = start(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(r)
	line = func() string {
		t.Helper()
		s, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("child wrote %q: %v", s, err)
		}
		return s[:len(s)-1]
	}
	end = func() {
		t.Helper()
		if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
			t.Fatalf("child wrote %q more: %v", rest, err)
		}
	}
	return line, end
}
