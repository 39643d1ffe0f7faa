package relay

import (
	"errors"

	"github.com/fastrelay/fastrelay/internal/wire"
)

var errMalformedExtensions = errors.New("extension headers cannot be read")

// transcoder rewrites the objects of a stream from one draft to the other. Payloads are copied as they come.
type transcoder struct {
	from, to   wire.Draft
	extensions bool
	objects    wire.ObjectReader
	last       uint64 // ID of the last object written
	payload    uint64 // bytes of its payload that follow
	partial    []byte // of an object's header
	scratch    []byte
}

// takes reports whether the other draft has the object's status.
func (t *transcoder) takes(o *wire.Object) bool {
	return o.Status != wire.StatusDoesNotExist || t.to == wire.Draft14
}

// object appends the header of the first object of a stream with header h.
func (t *transcoder) object(b []byte, h *wire.SubgroupHeader, o *wire.Object) ([]byte, error) {
	return t.appendHeader(b, h.Extensions, o.ID, o)
}

func (t *transcoder) appendHeader(b []byte, extensions bool, delta uint64, o *wire.Object) ([]byte, error) {
	var ext []byte
	if len(o.Extensions) > 0 && !(o.Status != wire.StatusNormal && t.to == wire.Draft16) {
		var err error
		if ext, err = wire.TranscodeExtensions(nil, o.Extensions, t.from, t.to); err != nil {
			return nil, errMalformedExtensions
		}
	}
	return wire.AppendObjectHeader(b, t.to, extensions, delta, ext, o.PayloadLen, o.Status), nil
}

// start continues after the header of object o, to which r has read.
func (t *transcoder) start(h *wire.SubgroupHeader, r wire.ObjectReader, o *wire.Object) {
	t.extensions, t.objects, t.last, t.payload = h.Extensions, r, o.ID, o.PayloadLen
}

// copy writes the next bytes of the stream.
func (t *transcoder) copy(write func([]byte) error, b []byte) error {
	for len(b) > 0 {
		if t.payload > 0 {
			k := min(t.payload, uint64(len(b)))
			if err := write(b[:k]); err != nil {
				return err
			}
			t.payload -= k
			b = b[k:]
			continue
		}
		had := len(t.partial)
		t.partial = append(t.partial, b...)
		var o wire.Object
		n, err := t.objects.ParseHeader(t.partial, &o)
		if errors.Is(err, wire.ErrShort) {
			return nil
		}
		if err != nil {
			return err
		}
		b = b[n-had:]
		if t.takes(&o) {
			if t.scratch, err = t.appendHeader(t.scratch[:0], t.extensions, o.ID-t.last-1, &o); err != nil {
				return err
			}
			if err := write(t.scratch); err != nil {
				return err
			}
			t.last, t.payload = o.ID, o.PayloadLen
		}
		t.partial = t.partial[:0]
	}
	return nil
}
