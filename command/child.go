package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// starter starts a command somewhere, as a network namespace does.
type starter interface{ Start(*exec.Cmd) error }

// child is a process of this program that prints a line of JSON for each thing that happens.
type child struct {
	cmd    *exec.Cmd
	lines  chan []byte
	errs   tail
	exited chan struct{}
	err    error // of the process, once exited is closed
}

// maxLine bounds a line of a child, the largest of which is a manifest of all objects.
const maxLine = 1 << 30

func startChild(ctx context.Context, where starter, exe string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, exe, args...), lines: make(chan []byte, 16), exited: make(chan struct{})}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(os.Interrupt) }
	c.cmd.WaitDelay = 3 * time.Second
	c.cmd.Stderr = &c.errs
	// A pipe of our own: Wait would close that of StdoutPipe before all is read.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stdout = w
	err = where.Start(c.cmd)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	go c.read(r)
	return c, nil
}

func (c *child) read(r io.ReadCloser) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		c.lines <- bytes.Clone(s.Bytes())
	}
	err := s.Err()
	c.err = errors.Join(c.cmd.Wait(), err, r.Close())
	close(c.lines)
	close(c.exited)
}

// await reads lines until that of an event.
func (c *child) await(ctx context.Context, name string) error {
	for {
		line, err := c.next(ctx)
		if err != nil {
			return err
		}
		var e event
		if json.Unmarshal(line, &e) == nil && e.Event == name {
			return nil
		}
	}
}

func (c *child) next(ctx context.Context) ([]byte, error) {
	select {
	case line, ok := <-c.lines:
		if !ok {
			return nil, c.failure()
		}
		return line, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// failure says why the process ended, by its own last words.
func (c *child) failure() error {
	<-c.exited
	if words := c.errs.last(); words != "" {
		return errors.New(strings.TrimPrefix(words, "fastrelay: "))
	}
	if c.err != nil {
		return c.err
	}
	return errors.New("ended too early")
}

// result reads to the end of the output, the last line of which is the result, and waits for the process.
func (c *child) result(ctx context.Context, v any) error {
	var last []byte
	for {
		select {
		case line, ok := <-c.lines:
			if ok {
				last = line
				continue
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		break
	}
	<-c.exited
	if c.err != nil {
		return c.failure()
	}
	if err := json.Unmarshal(last, v); err != nil {
		return fmt.Errorf("cannot read its result: %w", err)
	}
	return nil
}

// stop asks the process to end, and reads its result.
func (c *child) stop(ctx context.Context, v any) error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		return c.failure()
	}
	return c.result(ctx, v)
}

// kill ends the process if it is still there, and waits for it.
func (c *child) kill() {
	select {
	case <-c.exited:
		return
	default:
	}
	_ = c.cmd.Process.Kill() // fails if it has ended meanwhile
	for range c.lines {      // so that the reader gets to the end
	}
	<-c.exited
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const maxTail = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > maxTail {
		t.b = bytes.Clone(t.b[len(t.b)-maxTail:])
	}
	return len(p), nil
}

// last returns the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.TrimSpace(string(t.b))
	return s[strings.LastIndexByte(s, '\n')+1:]
}
