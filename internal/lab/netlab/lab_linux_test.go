package netlab_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/lab/netlab/netlabtest"
)

// own returns the names of this process's namespaces that there are.
func own(t *testing.T, l *netlab.Lab) []string {
	t.Helper()
	prefix, _, ok := strings.Cut(l.Publisher.Name(), "-pub")
	if !ok {
		t.Fatalf("publisher's namespace is called %q", l.Publisher.Name())
	}
	names, err := filepath.Glob("/run/netns/" + prefix + "-*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

func listen(t *testing.T, e netlab.End) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := e.Namespace.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.Addr(), 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addr(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func TestLab(t *testing.T) {
	for name, o := range map[string]netlab.Options{"IPv4": {}, "IPv6": {IPv6: true}, "three relays": {Hops: 3}, "two relays, IPv6": {IPv6: true, Hops: 2}} {
		ipv6, hops := o.IPv6, max(o.Hops, 1)
		t.Run(name, func(t *testing.T) {
			lab := netlabtest.New(t, o)
			if got := own(t, lab); len(got) != hops+2 || len(lab.Relays) != hops || lab.Relays[0] != lab.Relay {
				t.Errorf("namespaces are %q with %d relays, want %d relays", got, len(lab.Relays), hops)
			}
			if len(lab.Between) != hops-1 {
				t.Errorf("%d links between %d relays", len(lab.Between), hops)
			}
			for i, link := range lab.Between {
				if link.Relay.Namespace != lab.Relays[i] || link.Peer.Namespace != lab.Relays[i+1] {
					t.Errorf("link %d is between %s and %s", i, link.Relay.Namespace.Name(), link.Peer.Namespace.Name())
				}
			}
			for _, link := range append([]netlab.Link{lab.Upstream, lab.Downstream}, lab.Between...) {
				a, b := listen(t, link.Peer), listen(t, link.Relay)
				if addr(a).Addr().Is6() != ipv6 {
					t.Errorf("address is %v", addr(a))
				}
				if _, err := a.WriteToUDPAddrPort([]byte("hello"), addr(b)); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 10)
				n, from, err := b.ReadFromUDPAddrPort(buf)
				if err != nil || string(buf[:n]) != "hello" || from != addr(a) {
					t.Errorf("received %q from %v, error %v; want hello from %v", buf[:n], from, err, addr(a))
				}
			}
			if err := lab.Close(); err != nil {
				t.Fatal(err)
			}
			if got := own(t, lab); len(got) != 0 {
				t.Errorf("namespaces %q are left", got)
			}
			if err := lab.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
			if err := lab.Relay.Do(func() error { return nil }); !errors.Is(err, netlab.ErrClosed) {
				t.Errorf("Do after Close returns %v", err)
			}
			if err := lab.Relay.Start(exec.Command("true")); !errors.Is(err, netlab.ErrClosed) {
				t.Errorf("Start after Close returns %v", err)
			}
		})
	}
}

func TestTooManyRelays(t *testing.T) {
	if l, err := netlab.New(t.Context(), netlab.Options{Hops: netlab.MaxHops + 1}); err == nil || !strings.Contains(err.Error(), "at most 8 relays") {
		t.Errorf("New with %d relays returns %v, %v", netlab.MaxHops+1, l, err)
	}
}

// TestInterfacesGoAtOnce checks that they do not outlive Close when something still keeps the namespace.
func TestInterfacesGoAtOnce(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	inside, goOn := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- lab.Publisher.Do(func() error {
			close(inside)
			<-goOn
			links, err := net.Interfaces()
			if err == nil && len(links) != 1 {
				err = errors.New("interfaces are left beside lo")
			}
			return err
		})
	}()
	<-inside
	err := lab.Close()
	close(goOn)
	if err := errors.Join(err, <-result); err != nil {
		t.Error(err)
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	lab, err := netlab.New(ctx, netlab.Options{})
	netlabtest.Skip(t, err)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Close()
	cmd := command("child")
	line, end := start(t, cmd, lab.Relay.Start)
	line()
	cancel()
	end() // returns only when the child is gone
	if err := cmd.Wait(); err == nil {
		t.Error("child was not killed")
	}
	if err := lab.Close(); err != nil { // waits for what the end of the context started
		t.Fatal(err)
	}
	if got := own(t, lab); len(got) != 0 {
		t.Errorf("namespaces %q are left", got)
	}
	if lab, err := netlab.New(ctx, netlab.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("New after the context ended returns %v, %v", lab, err)
	}
}

// TestPartialStart makes New fail after the namespaces, at the first interface.
func TestPartialStart(t *testing.T) {
	probe := netlabtest.New(t, netlab.Options{}) // skips without privileges
	before, err := filepath.Glob("/run/netns/*")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netlab.New(t.Context(), netlab.Options{MTU: 7}); err == nil || !strings.Contains(err.Error(), "MTU 7") {
		t.Errorf("New with MTU 7 returns %v", err)
	}
	after, err := filepath.Glob("/run/netns/*")
	if err != nil {
		t.Fatal(err)
	}
	prefix := strings.TrimRight(strings.TrimSuffix(probe.Relay.Name(), "-relay"), "0123456789")
	for _, name := range after {
		if !slices.Contains(before, name) && strings.Contains(name, prefix) {
			t.Errorf("namespace %s is left", name)
		}
	}
}

func TestProcess(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	inside := ""
	err := lab.Relay.Do(func() (err error) {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command("child")
	line, end := start(t, cmd, lab.Relay.Start)
	if got := line(); got != inside || got == outside {
		t.Errorf("child is in %s, want %s, which is not %s", got, inside, outside)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	end()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("child ended with %v, want it killed", err)
	}
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != outside {
		t.Errorf("this process moved from %s to %s, error %v", outside, now, err)
	}
}

// TestDoGoexit checks that a function that fails the test, which ends its goroutine, does not hang Do.
func TestDoGoexit(t *testing.T) {
	lab := netlabtest.New(t, netlab.Options{})
	if err := lab.Relay.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error")
	}
}

// TestCrash kills a process that made a network and looks at what Clean finds.
func TestCrash(t *testing.T) {
	living := netlabtest.New(t, netlab.Options{})
	cmd := command("owner")
	line, end := start(t, cmd, (*exec.Cmd).Start)
	name := line()
	line() // the child in the namespace runs
	removed, err := netlab.Clean()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(removed, name) {
		t.Errorf("removed %s, whose owner lives", name)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	end() // the child is gone as well
	// Not waited for yet, the process is a zombie: gone, too.
	if removed, err = netlab.Clean(); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"pub", "relay", "sub"} {
		want := strings.TrimSuffix(name, "relay") + role
		if !slices.Contains(removed, want) {
			t.Errorf("removed %q, not %s", removed, want)
		}
	}
	cmd.Wait()
	if got := own(t, living); len(got) != 3 {
		t.Errorf("of the living network %q are left", got)
	}
	if again, err := netlab.Clean(); err != nil || slices.Contains(again, name) {
		t.Errorf("second Clean removed %q, error %v", again, err)
	}
}
