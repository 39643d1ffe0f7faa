package netlab

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// errNoReturn is the result of a function that ended its goroutine, as t.FailNow does.
var errNoReturn = errors.New("function ended its goroutine")

// onOwnThread runs f on an OS thread that runs nothing else and ends with f, so that f may change what belongs to the
// thread, such as its network namespace, for good. It does not wait.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The runtime never ends the main thread, and /proc/self shows its namespaces. It is kept busy here
			// until f has another one.
			started := make(chan struct{})
			onOwnThread(func() {
				close(started)
				f()
			})
			<-started
			runtime.UnlockOSThread()
			return
		}
		f() // the goroutine ends locked, and the thread with it
	}()
}

// inNamespace runs f on a thread of its own in the network namespace of the open file fd, and waits for it.
func inNamespace(fd int, f func() error) error {
	result := make(chan error, 1)
	onOwnThread(func() {
		err := errNoReturn
		defer func() { result <- err }()
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
			err = errNoReturn
			err = f()
		}
	})
	return <-result
}
