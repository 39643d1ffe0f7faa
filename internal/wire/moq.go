package wire

import (
	"errors"
	"fmt"
)

// Draft is a version of draft-ietf-moq-transport, by its number.
type Draft uint8

// The drafts that this package reads and writes. Drafts 15 and from 17 on differ in ways that need a codec of their own.
const (
	Draft14 Draft = 14
	Draft16 Draft = 16
)

// ALPN values. All drafts before 15 share one and agree on the draft in SETUP (draft-16, section "Session establishment").
const (
	ALPNDraft14 = "moq-00"
	ALPNDraft16 = "moqt-16"
)

// Version numbers in the SETUP messages of draft 14 (draft-14, section "Versions"): 0xff000000 plus the draft's number.
const draftVersionBase = 0xff000000

// DraftFromALPN returns the draft that an ALPN value stands for. For "moq-00" that is Draft14, which SETUP has yet to
// confirm (ParseServerSetup).
func DraftFromALPN(alpn string) (Draft, bool) {
	switch alpn {
	case ALPNDraft14:
		return Draft14, true
	case ALPNDraft16:
		return Draft16, true
	}
	return 0, false
}

// ALPN returns the ALPN value under which d is negotiated, or "" for an unknown draft.
func (d Draft) ALPN() string {
	switch d {
	case Draft14:
		return ALPNDraft14
	case Draft16:
		return ALPNDraft16
	}
	return ""
}

func (d Draft) String() string { return fmt.Sprintf("draft-%d", uint8(d)) }

// What can be wrong with MoQ bytes. They come unwrapped from data streams and datagrams, so that these cost no
// allocation, and wrapped with what is wrong from the control stream; compare with errors.Is.
var (
	// ErrShort is no fault: more bytes of the stream are needed.
	ErrShort = errors.New("wire: MoQ bytes are incomplete")
	// ErrMalformed calls for closing the session with PROTOCOL_VIOLATION.
	ErrMalformed = errors.New("wire: malformed MoQ bytes")
	// ErrTooLarge is something longer than this package takes (see the Max constants).
	ErrTooLarge = errors.New("wire: MoQ field is too large")
	// ErrStreamType is a unidirectional stream that does not start with the wanted header.
	ErrStreamType = errors.New("wire: not a MoQ stream of this type")
	// ErrDatagramType is a datagram type that the draft does not define.
	ErrDatagramType = errors.New("wire: unknown MoQ datagram type")
	// ErrDraft is a MoQ version that this package does not speak.
	ErrDraft = errors.New("wire: unsupported MoQ draft")
)

// moqReader walks over bytes; after the first failed read everything fails and short is set.
type moqReader struct {
	b     []byte
	n     int // bytes read
	short bool
}

func (r *moqReader) varint() uint64 {
	if r.short {
		return 0
	}
	v, n := ReadVarint(r.b[r.n:])
	if n == 0 {
		r.short = true
	}
	r.n += n
	return v
}

func (r *moqReader) byte() byte {
	if r.short || r.n == len(r.b) {
		r.short = true
		return 0
	}
	r.n++
	return r.b[r.n-1]
}

// take compares before it converts: size comes from the wire and need not fit an int.
func (r *moqReader) take(size uint64) []byte {
	if r.short || size > uint64(len(r.b)-r.n) {
		r.short = true
		return nil
	}
	v := r.b[r.n : r.n+int(size) : r.n+int(size)]
	r.n += int(size)
	return v
}

func (r *moqReader) rest() []byte {
	if r.short {
		return nil
	}
	return r.b[r.n:]
}
