package moq

import (
	"context"
	"errors"
	"fmt"

	"github.com/Eyevinn/moqtransport"
	"github.com/quic-go/quic-go"
)

// connection is what the library gets for a connection. It keeps data streams and datagrams from it.
type connection struct {
	s           *Session
	perspective moqtransport.Perspective
}

var _ moqtransport.Connection = (*connection)(nil)

var errNotForLibrary = errors.New("data streams are not the library's")

// AcceptStream and OpenStreamSync are called once, for the control stream.
func (c *connection) AcceptStream(ctx context.Context) (moqtransport.Stream, error) {
	stream, err := c.s.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return c.s.newControl(stream), nil
}

func (c *connection) OpenStreamSync(ctx context.Context) (moqtransport.Stream, error) {
	stream, err := c.s.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return c.s.newControl(stream), nil
}

// AcceptUniStream never returns a stream. Its context is the library's session, which ends without a word to the
// connection when the library has found fault with a message.
func (c *connection) AcceptUniStream(ctx context.Context) (moqtransport.ReceiveStream, error) {
	select {
	case <-c.s.conn.Context().Done():
		return nil, context.Cause(c.s.conn.Context())
	case <-ctx.Done():
	}
	cause := context.Cause(ctx)
	var perr moqtransport.ProtocolError
	switch {
	case c.s.conn.Context().Err() != nil || errors.Is(cause, context.Canceled):
	case errors.As(cause, &perr):
		c.s.abort(perr.Code(), cause)
	default:
		c.s.abort(CodeProtocolViolation, fmt.Errorf("control stream: %w", cause))
	}
	return nil, cause
}

func (c *connection) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	select {
	case <-c.s.conn.Context().Done():
		return nil, context.Cause(c.s.conn.Context())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *connection) OpenStream() (moqtransport.Stream, error)        { return nil, errNotForLibrary }
func (c *connection) OpenUniStream() (moqtransport.SendStream, error) { return nil, errNotForLibrary }
func (c *connection) SendDatagram([]byte) error                       { return errNotForLibrary }
func (c *connection) OpenUniStreamSync(context.Context) (moqtransport.SendStream, error) {
	return nil, errNotForLibrary
}

func (c *connection) CloseWithError(code uint64, reason string) error {
	return c.s.conn.CloseWithError(quic.ApplicationErrorCode(code), reason)
}

func (c *connection) Context() context.Context              { return c.s.conn.Context() }
func (c *connection) Protocol() moqtransport.Protocol       { return moqtransport.ProtocolQUIC }
func (c *connection) Perspective() moqtransport.Perspective { return c.perspective }
func (c *connection) NegotiatedALPN() string                { return c.s.draft.ALPN() }
