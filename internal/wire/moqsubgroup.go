package wire

// Stream types and their flags (draft-16, section "Subgroup Header"; draft 14 has the same values in a table,
// without the default-priority bit).
//
//	0b00D1EMMX   D default priority   E end of group   MM subgroup ID mode   X extensions
const (
	StreamFetch = 0x05

	streamSubgroup = 0x10

	subgroupExtensions      = 0x01
	subgroupModeShift       = 1
	subgroupModeMask        = 0x06
	subgroupEndOfGroup      = 0x08
	subgroupDefaultPriority = 0x20
)

// SubgroupMode says where the subgroup ID of a subgroup stream comes from. Its values are those of the wire.
type SubgroupMode uint8

// The modes; a fourth one is reserved by draft 16 and undefined in draft 14.
const (
	SubgroupZero        SubgroupMode = iota // the subgroup ID is 0
	SubgroupFirstObject                     // it is the ID of the stream's first object
	SubgroupExplicit                        // it is in the header
)

// SubgroupHeader is the start of a unidirectional stream that carries one subgroup.
//
//	Type (i), Track Alias (i), Group ID (i), [Subgroup ID (i)], [Publisher Priority (8)]
type SubgroupHeader struct {
	Type         uint64 // as parsed; Append computes it from the flags
	TrackAlias   uint64
	Group        uint64
	Subgroup     uint64 // with SubgroupExplicit only
	SubgroupMode SubgroupMode
	Priority     uint8
	// DefaultPriority: the priority is not on the wire, the track's default applies (SubscribeOK.DefaultPriority). Draft 16 only.
	DefaultPriority bool
	Extensions      bool // every object has an extension block, perhaps an empty one
	EndOfGroup      bool // the last object before the FIN is the last of its group

	AliasOff, AliasLen int // where the parsed header has the alias varint
	Len                int // bytes of the parsed header
}

// IsSubgroupStream reports whether t is the type of a subgroup stream in draft d.
func IsSubgroupStream(t uint64, d Draft) bool {
	if d == Draft16 {
		t &^= subgroupDefaultPriority
	}
	return t >= streamSubgroup && t < 2*streamSubgroup && t&subgroupModeMask != subgroupModeMask
}

// ParseSubgroupHeader reads the header at the start of b. It returns ErrShort if more bytes are needed and ErrStreamType
// if this is another stream. It allocates nothing.
func ParseSubgroupHeader(b []byte, d Draft) (SubgroupHeader, error) {
	r := moqReader{b: b}
	h := SubgroupHeader{Type: r.varint()}
	if r.short {
		return SubgroupHeader{}, ErrShort
	}
	if !IsSubgroupStream(h.Type, d) {
		return SubgroupHeader{}, ErrStreamType
	}
	h.SubgroupMode = SubgroupMode(h.Type & subgroupModeMask >> subgroupModeShift)
	h.Extensions = h.Type&subgroupExtensions != 0
	h.EndOfGroup = h.Type&subgroupEndOfGroup != 0
	h.DefaultPriority = h.Type&subgroupDefaultPriority != 0

	h.AliasOff = r.n
	h.TrackAlias = r.varint()
	h.AliasLen = r.n - h.AliasOff
	h.Group = r.varint()
	if h.SubgroupMode == SubgroupExplicit {
		h.Subgroup = r.varint()
	}
	if !h.DefaultPriority {
		h.Priority = r.byte()
	}
	if r.short {
		return SubgroupHeader{}, ErrShort
	}
	h.Len = r.n
	return h, nil
}

// Append appends the header in draft d. Draft 14 knows no default priority, so there Priority is always written.
func (h *SubgroupHeader) Append(b []byte, d Draft) []byte {
	t := uint64(streamSubgroup) | uint64(h.SubgroupMode)<<subgroupModeShift&subgroupModeMask
	if h.Extensions {
		t |= subgroupExtensions
	}
	if h.EndOfGroup {
		t |= subgroupEndOfGroup
	}
	noPriority := h.DefaultPriority && d == Draft16
	if noPriority {
		t |= subgroupDefaultPriority
	}
	b = AppendVarint(b, t)
	b = AppendVarint(b, h.TrackAlias)
	b = AppendVarint(b, h.Group)
	if h.SubgroupMode == SubgroupExplicit {
		b = AppendVarint(b, h.Subgroup)
	}
	if !noPriority {
		b = append(b, h.Priority)
	}
	return b
}

// RewriteAlias appends the header to dst with another track alias in its shortest encoding and everything else
// verbatim, so that the rest of the stream moves by one constant (design, D9). header starts with the bytes that h was
// parsed from; at most h.Len of them are read.
func RewriteAlias(dst, header []byte, h *SubgroupHeader, alias uint64) []byte {
	return rewriteAlias(dst, header[:h.Len], h.AliasOff, h.AliasLen, alias)
}

func rewriteAlias(dst, b []byte, off, size int, alias uint64) []byte {
	dst = append(dst, b[:off]...)
	dst = AppendVarint(dst, alias)
	return append(dst, b[off+size:]...)
}

// FetchHeader is the start of a unidirectional stream that answers a FETCH (draft-14 and draft-16, section "Fetch Header").
type FetchHeader struct {
	RequestID uint64
	Len       int // bytes of the parsed header
}

// ParseFetchHeader reads the header at the start of b, with the errors of ParseSubgroupHeader.
func ParseFetchHeader(b []byte) (FetchHeader, error) {
	r := moqReader{b: b}
	t := r.varint()
	if !r.short && t != StreamFetch {
		return FetchHeader{}, ErrStreamType
	}
	h := FetchHeader{RequestID: r.varint()}
	if r.short {
		return FetchHeader{}, ErrShort
	}
	h.Len = r.n
	return h, nil
}

// Append appends the header.
func (h *FetchHeader) Append(b []byte) []byte {
	return AppendVarint(AppendVarint(b, StreamFetch), h.RequestID)
}
