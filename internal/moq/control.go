package moq

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// Bounds of what a peer can make a session hold.
const (
	maxRequestID    = 1 << 40  // request IDs are not what bounds a session; the two following are
	maxRequests     = 4096     // subscriptions of the peer that have not ended
	maxNamespaces   = 4096     // namespaces of the peer
	maxQueuedBytes  = 64 << 10 // messages that the library has not read yet; more are left in the stream
	maxHeldMessages = 16       // messages about a subscription that has not been answered
)

// writeTimeout ends a session whose peer does not read its control stream.
const writeTimeout = 10 * time.Second

// control is the control stream as the library sees it. Messages come to it from read, which holds some back.
type control struct {
	s       *Session
	stream  *quic.Stream
	in, out wire.ControlScanner
	setup   bool          // the peer's SETUP message has come; only read uses it
	ours    chan struct{} // closed when our SETUP message is on its way

	mu    sync.Mutex
	ready sync.Cond
	queue []byte // for the library
	err   error  // after the queue

	writing sync.Mutex
	pending []byte // of the library's message, corrected
}

var _ moqtransport.Stream = (*control)(nil)

func (s *Session) newControl(stream *quic.Stream) *control {
	c := &control{s: s, stream: stream, ours: make(chan struct{})}
	c.ready.L = &c.mu
	c.in.Message = c.incoming
	c.out.Message = c.outgoing
	s.ctl = c
	go c.read()
	return c
}

// read scans what comes in until the stream ends.
func (c *control) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.stream.Read(buf)
		if scanErr := c.in.Write(buf[:n]); scanErr != nil {
			c.s.abort(abortCode(scanErr), scanErr)
			err = scanErr
		}
		c.mu.Lock()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the library would take EOF for the end of a message
			}
			c.err = err
			c.ready.Broadcast()
			c.mu.Unlock()
			return
		}
		for len(c.queue) > maxQueuedBytes && c.err == nil {
			c.ready.Wait()
		}
		c.mu.Unlock()
	}
}

// deliver queues a message for the library.
func (c *control) deliver(msgType uint64, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue, _ = wire.AppendControl(c.queue, msgType, payload) // a payload that came in a message fits one
	c.ready.Broadcast()
}

// Read gives messages to the library.
func (c *control) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && c.err == nil {
		c.ready.Wait()
	}
	if len(c.queue) == 0 {
		return 0, c.err
	}
	n := copy(p, c.queue)
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.ready.Broadcast()
	return n, nil
}

// Write sends a message of the library.
func (c *control) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.pending = c.pending[:0]
	if err := c.out.Write(p); err != nil {
		return 0, err
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// send sends a message of this package.
func (c *control) send(msgType uint64, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	var err error
	if c.pending, err = wire.AppendControl(c.pending[:0], msgType, payload); err != nil {
		return err
	}
	return c.flush()
}

func (c *control) flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	_ = c.stream.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.stream.Write(c.pending); err != nil {
		// Half a message may be out: nothing can follow it.
		c.s.abort(CodeControlTimeout, err)
		return err
	}
	return nil
}

func (c *control) Close() error     { return c.stream.Close() }
func (c *control) Reset(u uint32)   { c.stream.CancelWrite(quic.StreamErrorCode(u)) }
func (c *control) Stop(u uint32)    { c.stream.CancelRead(quic.StreamErrorCode(u)) }
func (c *control) StreamID() uint64 { return uint64(c.stream.StreamID()) }
