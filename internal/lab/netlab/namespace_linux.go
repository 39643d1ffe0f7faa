package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namedDir is where named namespaces are mounted, as by `ip netns`.
const namedDir = "/run/netns"

// Namespace is a named network namespace. Its methods may be called from any goroutine.
type Namespace struct {
	name string

	mu     sync.RWMutex // held for reading while fd or work is in use
	closed bool
	handle netns.NsHandle
	work   chan func() // run by the thread that starts processes
	ended  chan struct{}
}

// newNamespace makes a named namespace with its loopback interface down.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{name: name, work: make(chan func()), ended: make(chan struct{})}
	made := make(chan error, 1)
	onOwnThread(func() {
		defer close(n.ended)
		var err error
		n.handle, err = netns.NewNamed(name)
		made <- err
		if err != nil {
			return
		}
		for f := range n.work {
			f()
		}
	})
	if err := <-made; err != nil {
		// What is mounted may also be of somebody else with this name.
		if !errors.Is(err, fs.ErrExist) {
			err = errors.Join(err, removeNamed(name))
		}
		return nil, fmt.Errorf("make network namespace %s: %w", name, privileges(err))
	}
	return n, nil
}

// privileges adds what to do to an error that says that something is not permitted.
func privileges(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: %w", ErrPrivileges, err)
	}
	return err
}

// removeNamed removes a named namespace, also one whose mount is gone or was never made.
func removeNamed(name string) error {
	path := filepath.Join(namedDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Name returns the namespace's name under /run/netns.
func (n *Namespace) Name() string { return n.name }

// Do runs f in the namespace and waits for it. Sockets that f opens stay in the namespace; goroutines that it starts are
// outside. f runs in another goroutine than its caller.
func (n *Namespace) Do(f func() error) error {
	n.mu.RLock()
	if n.closed {
		n.mu.RUnlock()
		return ErrClosed
	}
	// A copy of the file, so that a long f does not keep Close waiting.
	fd, err := unix.FcntlInt(uintptr(n.handle), unix.F_DUPFD_CLOEXEC, 0)
	n.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", n.name, err)
	}
	defer unix.Close(fd)
	return inNamespace(fd, f)
}

// Start starts a command in the namespace; the caller waits for it with its Wait. Unless the command says otherwise it is
// killed when the namespace is closed or this process ends, however it ends.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return ErrClosed
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		// It is sent when the thread that started the process ends, which is one of the namespace's own.
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	result := make(chan error, 1)
	n.work <- func() { result <- cmd.Start() }
	return <-result
}

// close kills the namespace's processes and removes its name. The namespace itself goes when nothing is left in it.
func (n *Namespace) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	close(n.work)
	<-n.ended
	return errors.Join(n.handle.Close(), removeNamed(n.name))
}
