package wire

// Object status values (draft-14 and draft-16, section "Object Status").
const (
	StatusNormal       = 0x0
	StatusDoesNotExist = 0x1 // draft 14 only
	StatusEndOfGroup   = 0x3
	StatusEndOfTrack   = 0x4
)

// MaxExtensionsLen is the longest extension block of an object that this package takes. The drafts limit one value to
// 65535 bytes and set no limit for the block; a relay must buffer it whole, so it needs one.
const MaxExtensionsLen = 1 << 16

func validStatus(s uint64, d Draft) bool {
	return s == StatusNormal || s == StatusEndOfGroup || s == StatusEndOfTrack || s == StatusDoesNotExist && d == Draft14
}

// statusAllowsExtensions: draft 14 forbids extensions for objects that do not exist, draft 16 for all that are not normal.
func statusAllowsExtensions(s uint64, d Draft) bool {
	return s == StatusNormal || d == Draft14 && s != StatusDoesNotExist
}

// Object is one object of a subgroup stream. Its slices alias the parsed bytes.
type Object struct {
	ID         uint64 // absolute
	Extensions []byte // the block after its length, in the draft's encoding (ParseExtensions)
	Status     uint64 // StatusNormal if the payload is not empty
	Payload    []byte // the payload if the parsed bytes hold all of it, otherwise nil
	PayloadLen uint64
	HeaderLen  int // bytes before the payload
}

// ObjectReader reads the objects of one subgroup stream after its header. It keeps what the delta encoding of
// the object IDs needs, and nothing else.
//
//	Object ID Delta (i), [Extension Headers Length (i), Extension Headers (..)], Payload Length (i), [Status (i)], Payload (..)
type ObjectReader struct {
	draft      Draft
	extensions bool
	mode       SubgroupMode
	subgroup   uint64
	started    bool
	prev       uint64
}

// Init starts the reader at the first object after the header h.
func (r *ObjectReader) Init(h *SubgroupHeader, d Draft) {
	*r = ObjectReader{draft: d, extensions: h.Extensions, mode: h.SubgroupMode, subgroup: h.Subgroup}
}

// ParseHeader reads the header of the next object at the start of b into o and returns its length; the next call
// is for the bytes n+o.PayloadLen further on. With ErrShort nothing has changed, and the call is repeated with more
// bytes. ErrMalformed and ErrTooLarge are final. Nothing is allocated.
func (r *ObjectReader) ParseHeader(b []byte, o *Object) (n int, err error) {
	m := moqReader{b: b}
	id := m.varint()
	if m.short {
		return 0, ErrShort
	}
	if r.started {
		// The first object has its ID, all others the distance to the one after the previous object. Both sides are
		// below 2^62, so the sum cannot wrap.
		id += r.prev + 1
	}
	if id > MaxVarint {
		return 0, ErrMalformed
	}
	var ext []byte
	if r.extensions {
		size := m.varint()
		if size > MaxExtensionsLen {
			return 0, ErrTooLarge
		}
		ext = m.take(size)
	}
	size := m.varint()
	status := uint64(StatusNormal)
	if size == 0 && !m.short {
		status = m.varint()
	}
	if m.short {
		return 0, ErrShort
	}
	if !validStatus(status, r.draft) || len(ext) > 0 && !statusAllowsExtensions(status, r.draft) {
		return 0, ErrMalformed
	}
	if !r.started && r.mode == SubgroupFirstObject {
		r.subgroup = id
	}
	r.started, r.prev = true, id
	*o = Object{ID: id, Extensions: ext, Status: status, PayloadLen: size, HeaderLen: m.n}
	if uint64(len(b)-m.n) >= size {
		o.Payload = b[m.n : m.n+int(size) : m.n+int(size)]
	}
	return m.n, nil
}

// Subgroup returns the subgroup ID, which with SubgroupFirstObject is known from the first object on.
func (r *ObjectReader) Subgroup() (id uint64, ok bool) {
	return r.subgroup, r.started || r.mode != SubgroupFirstObject
}

// AppendObjectHeader appends what precedes the payload of an object in a subgroup stream. idDelta is the object ID for a
// stream's first object and otherwise the ID minus the previous ID minus 1. extensions, in the encoding of d, is written
// if the stream's header says that objects have extensions; status is written if the payload is empty.
func AppendObjectHeader(b []byte, d Draft, withExtensions bool, idDelta uint64, extensions []byte, payloadLen uint64, status uint64) []byte {
	_ = d // the same in both drafts
	b = AppendVarint(b, idDelta)
	if withExtensions {
		b = AppendVarint(b, uint64(len(extensions)))
		b = append(b, extensions...)
	}
	b = AppendVarint(b, payloadLen)
	if payloadLen == 0 {
		b = AppendVarint(b, status)
	}
	return b
}
