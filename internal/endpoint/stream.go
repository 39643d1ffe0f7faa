package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// maxObject is the largest payload that is taken in, in bytes.
const maxObject = 64 << 20

// maxHeader is how many bytes a subgroup or object header may have.
const maxHeader = wire.MaxExtensionsLen + 64

// subgroupReader reads the objects of one subgroup stream.
type subgroupReader struct {
	r      io.Reader
	draft  wire.Draft
	buf    []byte // read and not yet used
	err    error  // of r; kept until buf is used up
	read   uint64 // bytes of the stream
	Header wire.SubgroupHeader
	object wire.ObjectReader
}

// newSubgroupReader reads the header. wire.ErrStreamType says that the stream is of another kind.
func newSubgroupReader(r io.Reader, d wire.Draft) (*subgroupReader, error) {
	s := &subgroupReader{r: r, draft: d}
	for {
		h, err := wire.ParseSubgroupHeader(s.buf, d)
		if err == nil {
			s.Header = h
			s.buf = s.buf[h.Len:]
			s.object.Init(&h, d)
			return s, nil
		}
		if err := s.fill(err); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("stream ends in its header: %w", io.ErrUnexpectedEOF)
			}
			return nil, err
		}
	}
}

// fill reads more after a parser returned why, if that is that it wants more.
func (s *subgroupReader) fill(why error) error {
	if !errors.Is(why, wire.ErrShort) {
		return why
	}
	if s.err != nil {
		return s.err
	}
	if len(s.buf) > maxHeader {
		return wire.ErrTooLarge
	}
	var chunk [4096]byte
	n, err := s.r.Read(chunk[:])
	s.buf = append(s.buf, chunk[:n]...)
	s.read += uint64(n)
	s.err = err
	if n > 0 {
		return nil
	}
	return err
}

// Next returns the next object with its whole payload, which is the caller's to keep. io.EOF is the regular end;
// io.ErrUnexpectedEOF says that the stream ended inside of an object.
func (s *subgroupReader) Next() (o wire.Object, payload []byte, err error) {
	for {
		n, err := s.object.ParseHeader(s.buf, &o)
		if err == nil {
			s.buf = s.buf[n:]
			break
		}
		short := len(s.buf) > 0
		if err := s.fill(err); err != nil {
			if short && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return o, nil, err
		}
	}
	if o.PayloadLen > maxObject {
		return o, nil, fmt.Errorf("object of %d bytes: %w", o.PayloadLen, wire.ErrTooLarge)
	}
	// Grown as bytes arrive: the length is the peer's claim.
	var p bytes.Buffer
	take := min(uint64(len(s.buf)), o.PayloadLen)
	p.Write(s.buf[:take])
	s.buf = s.buf[take:]
	if rest := int64(o.PayloadLen - take); rest > 0 {
		if s.err != nil {
			return o, nil, unexpected(s.err)
		}
		n, err := io.CopyN(&p, s.r, rest)
		s.read += uint64(n)
		if err != nil {
			return o, nil, unexpected(err)
		}
	}
	o.Payload, o.Extensions = nil, nil // they alias the buffer
	return o, p.Bytes(), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Subgroup returns the subgroup ID and whether it is known yet.
func (s *subgroupReader) Subgroup() (uint64, bool) { return s.object.Subgroup() }
