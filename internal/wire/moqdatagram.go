package wire

// Datagram type flags (draft-16, section "Object Datagram"). Draft 14 defines 0x00-0x07 and 0x20-0x21 only.
const (
	datagramExtensions      = 0x01
	datagramEndOfGroup      = 0x02
	datagramZeroObjectID    = 0x04
	datagramDefaultPriority = 0x08
	datagramStatus          = 0x20

	datagramFlags14 = datagramExtensions | datagramEndOfGroup | datagramZeroObjectID
	datagramFlags16 = datagramFlags14 | datagramDefaultPriority | datagramStatus
)

// ObjectDatagram is a datagram that carries one object. Its slices alias the parsed bytes.
//
//	Type (i), Track Alias (i), Group ID (i), [Object ID (i)], [Publisher Priority (8)], [Extensions], [Status (i)] or Payload (..)
//
// moqtransport v0.9.0 takes the end-of-group bit for a status and knows none of ZeroObjectID, DefaultPriority and 0x20; a
// relay that serves it clears them (and EndOfGroup) before Append.
type ObjectDatagram struct {
	Type            uint64 // as parsed; Append computes it from the flags
	TrackAlias      uint64
	Group           uint64
	ObjectID        uint64
	ZeroObjectID    bool // the ID is 0 and not on the wire; Append omits it only if this is set and the draft can
	Priority        uint8
	DefaultPriority bool   // the priority is not on the wire, the track's default applies; draft 16 only
	EndOfGroup      bool   // the last object of its group; never together with HasStatus
	Extensions      []byte // the block after its length; Append writes the block only if it is not empty
	Status          uint64 // with HasStatus only
	HasStatus       bool
	Payload         []byte

	AliasOff, AliasLen int // where the parsed datagram has the alias varint
	HeaderLen          int // bytes before the payload
}

// IsObjectDatagram reports whether t is the type of an object datagram in draft d.
func IsObjectDatagram(t uint64, d Draft) bool {
	if d == Draft16 {
		return t&^datagramFlags16 == 0 && t&(datagramStatus|datagramEndOfGroup) != datagramStatus|datagramEndOfGroup
	}
	return t&^datagramFlags14 == 0 || t&^datagramExtensions == datagramStatus
}

// ParseObjectDatagram reads a whole datagram. It returns ErrDatagramType for an undefined type and ErrMalformed if the
// datagram is cut off, has an empty extension block, an unknown status, or bytes after its status. It allocates nothing.
func ParseObjectDatagram(b []byte, d Draft) (ObjectDatagram, error) {
	r := moqReader{b: b}
	o := ObjectDatagram{Type: r.varint()}
	if r.short {
		return ObjectDatagram{}, ErrMalformed
	}
	if !IsObjectDatagram(o.Type, d) {
		return ObjectDatagram{}, ErrDatagramType
	}
	o.EndOfGroup = o.Type&datagramEndOfGroup != 0
	o.ZeroObjectID = o.Type&datagramZeroObjectID != 0
	o.DefaultPriority = o.Type&datagramDefaultPriority != 0
	o.HasStatus = o.Type&datagramStatus != 0

	o.AliasOff = r.n
	o.TrackAlias = r.varint()
	o.AliasLen = r.n - o.AliasOff
	o.Group = r.varint()
	if !o.ZeroObjectID {
		o.ObjectID = r.varint()
	}
	if !o.DefaultPriority {
		o.Priority = r.byte()
	}
	if o.Type&datagramExtensions != 0 {
		o.Extensions = r.take(r.varint())
		if len(o.Extensions) == 0 {
			return ObjectDatagram{}, ErrMalformed
		}
	}
	if o.HasStatus {
		o.Status = r.varint()
		if len(r.rest()) > 0 || !validStatus(o.Status, d) || len(o.Extensions) > 0 && !statusAllowsExtensions(o.Status, d) {
			return ObjectDatagram{}, ErrMalformed
		}
	}
	if r.short {
		return ObjectDatagram{}, ErrMalformed
	}
	o.HeaderLen = r.n
	o.Payload = r.rest()
	return o, nil
}

// Append appends the datagram in draft d, whose encoding Extensions must have. With HasStatus, EndOfGroup and Payload are ignored.
func (o *ObjectDatagram) Append(b []byte, d Draft) []byte {
	var t uint64
	if len(o.Extensions) > 0 {
		t |= datagramExtensions
	}
	if o.HasStatus {
		t |= datagramStatus
	} else if o.EndOfGroup {
		t |= datagramEndOfGroup
	}
	// Draft 14 has no status datagram without an object ID.
	noID := o.ZeroObjectID && o.ObjectID == 0 && (d == Draft16 || !o.HasStatus)
	if noID {
		t |= datagramZeroObjectID
	}
	noPriority := o.DefaultPriority && d == Draft16
	if noPriority {
		t |= datagramDefaultPriority
	}
	b = AppendVarint(b, t)
	b = AppendVarint(b, o.TrackAlias)
	b = AppendVarint(b, o.Group)
	if !noID {
		b = AppendVarint(b, o.ObjectID)
	}
	if !noPriority {
		b = append(b, o.Priority)
	}
	if len(o.Extensions) > 0 {
		b = AppendVarint(b, uint64(len(o.Extensions)))
		b = append(b, o.Extensions...)
	}
	if o.HasStatus {
		return AppendVarint(b, o.Status)
	}
	return append(b, o.Payload...)
}

// RewriteDatagramAlias appends to dst the datagram that o was parsed from, with another track alias in its shortest
// encoding and everything else verbatim.
func RewriteDatagramAlias(dst, datagram []byte, o *ObjectDatagram, alias uint64) []byte {
	return rewriteAlias(dst, datagram, o.AliasOff, o.AliasLen, alias)
}
