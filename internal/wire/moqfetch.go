package wire

// FetchType says which objects a FETCH asks for (draft-14 and draft-16, section "FETCH").
type FetchType uint64

// The types.
const (
	FetchStandalone      FetchType = 1
	FetchRelativeJoining FetchType = 2
	FetchAbsoluteJoining FetchType = 3
)

// Group orders (draft-16, section "GROUP ORDER Parameter").
const (
	OrderPublisher  = 0
	OrderAscending  = 1
	OrderDescending = 2
)

// Fetch is a FETCH message.
type Fetch struct {
	RequestID uint64
	// Layout is the draft whose format the message, its answer and its stream have. It is the session's but for
	// moqtransport v0.9.0, which uses that of draft 14 in draft 16 as well.
	Layout             Draft
	SubscriberPriority uint8
	GroupOrder         uint8
	Type               FetchType
	Namespace          []string // FetchStandalone
	Track              []byte   // FetchStandalone; aliases the payload
	StartGroup         uint64   // FetchStandalone, as the three that follow
	StartObject        uint64
	EndGroup           uint64
	EndObject          uint64 // of the last object plus 1; 0: the whole group
	JoiningID          uint64 // request ID of the subscription that is joined
	JoiningStart       uint64 // groups before its largest one, or a group ID
	Params             []ExtensionHeader
}

// ParseFetch reads the payload of a FETCH message. In draft 16 it takes what is no whole message of that draft for one in the
// layout of draft 14. Errors wrap ErrMalformed.
func ParseFetch(payload []byte, d Draft) (Fetch, error) {
	f, err := parseFetch(payload, d, d)
	if d != Draft14 && err != nil {
		if g, err14 := parseFetch(payload, d, Draft14); err14 == nil {
			return g, nil
		}
	}
	return f, err
}

func parseFetch(payload []byte, d, layout Draft) (Fetch, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: d}
	f := Fetch{RequestID: c.varint(), Layout: layout, SubscriberPriority: DefaultPriority}
	if layout == Draft14 {
		f.SubscriberPriority = c.byte()
		f.GroupOrder = c.flag("group order", 2)
	}
	f.Type = FetchType(c.varint())
	switch f.Type {
	case FetchStandalone:
		f.Namespace, f.Track = c.trackName()
		f.StartGroup, f.StartObject, f.EndGroup, f.EndObject = c.varint(), c.varint(), c.varint(), c.varint()
		if len(f.Namespace) == 0 {
			c.fail("no namespace")
		}
	case FetchRelativeJoining, FetchAbsoluteJoining:
		f.JoiningID, f.JoiningStart = c.varint(), c.varint()
	default:
		c.fail("fetch type %d", f.Type)
	}
	f.Params = c.params(layout)
	if layout == Draft16 {
		for _, p := range f.Params {
			switch p.Type {
			case ParamSubscriberPriority:
				f.SubscriberPriority = uint8(c.limit("subscriber priority", p.Value, 255))
			case ParamGroupOrder:
				f.GroupOrder = uint8(c.limit("group order", p.Value, 2))
			}
		}
	}
	if c.err == nil && !c.short && len(c.rest()) > 0 {
		c.fail("bytes after the parameters")
	}
	return f, c.done("FETCH")
}

// Append appends the payload of the message in f.Layout. In draft 16 priority and order become parameters; Params are not written.
func (f *Fetch) Append(b []byte) []byte {
	b = AppendVarint(b, f.RequestID)
	if f.Layout == Draft14 {
		b = append(b, f.SubscriberPriority, f.GroupOrder)
	}
	b = AppendVarint(b, uint64(f.Type))
	if f.Type == FetchStandalone {
		b = AppendVarint(b, uint64(len(f.Namespace)))
		for _, n := range f.Namespace {
			b = append(AppendVarint(b, uint64(len(n))), n...)
		}
		b = append(AppendVarint(b, uint64(len(f.Track))), f.Track...)
		for _, v := range [...]uint64{f.StartGroup, f.StartObject, f.EndGroup, f.EndObject} {
			b = AppendVarint(b, v)
		}
	} else {
		b = AppendVarint(AppendVarint(b, f.JoiningID), f.JoiningStart)
	}
	if f.Layout == Draft14 {
		return AppendVarint(b, 0)
	}
	params := []ExtensionHeader{{Type: ParamSubscriberPriority, Value: uint64(f.SubscriberPriority)}}
	if f.GroupOrder != OrderPublisher {
		params = append(params, ExtensionHeader{Type: ParamGroupOrder, Value: uint64(f.GroupOrder)})
	}
	return AppendExtensions(AppendVarint(b, uint64(len(params))), params, Draft16)
}

// FetchOK is a FETCH_OK message.
type FetchOK struct {
	RequestID       uint64
	GroupOrder      uint8 // draft 14
	EndOfTrack      bool  // the end is that of the track
	EndGroup        uint64
	EndObject       uint64 // of the last object plus 1; 0: the whole group
	TrackExtensions []byte // draft 16, verbatim
}

// ParseFetchOK reads the payload of a FETCH_OK message in a layout (draft-14 and draft-16, section "FETCH_OK"). Errors wrap
// ErrMalformed.
func ParseFetchOK(payload []byte, layout Draft) (FetchOK, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: layout}
	f := FetchOK{RequestID: c.varint()}
	if layout == Draft14 {
		f.GroupOrder = c.flag("group order", 2)
	}
	f.EndOfTrack = c.flag("end of track", 1) == 1
	f.EndGroup, f.EndObject = c.varint(), c.varint()
	c.skipParams(layout)
	if layout == Draft16 {
		f.TrackExtensions = c.rest()
		if ParseExtensions(f.TrackExtensions, Draft16, func(ExtensionHeader) bool { return true }) != nil {
			c.fail("track extensions")
		}
	}
	return f, c.done("FETCH_OK")
}

// Append appends the payload of the message.
func (f *FetchOK) Append(b []byte, layout Draft) []byte {
	b = AppendVarint(b, f.RequestID)
	if layout == Draft14 {
		b = append(b, f.GroupOrder)
	}
	end := byte(0)
	if f.EndOfTrack {
		end = 1
	}
	b = append(b, end)
	b = AppendVarint(AppendVarint(b, f.EndGroup), f.EndObject)
	b = AppendVarint(b, 0) // no parameters
	if layout == Draft16 {
		b = append(b, f.TrackExtensions...)
	}
	return b
}

// FetchError is a FETCH_ERROR message of draft 14, which moqtransport uses in draft 16 too, or the REQUEST_ERROR of draft 16.
type FetchError struct {
	RequestID uint64
	Code      uint64
	Reason    string
}

// ParseFetchError reads the payload of a FETCH_ERROR or, with retry, a REQUEST_ERROR message. Errors wrap ErrMalformed.
func ParseFetchError(payload []byte, retry bool) (FetchError, error) {
	c := controlReader{moqReader: moqReader{b: payload}}
	f := FetchError{RequestID: c.varint(), Code: c.varint()}
	if retry {
		c.varint()
	}
	f.Reason = string(c.reason())
	return f, c.done("FETCH_ERROR")
}

// Serialization flags of an object in a fetch stream of draft 16 (draft-16, section "Fetch Header").
const (
	fetchSubgroupPrior   = 0x01
	fetchSubgroupNext    = 0x02
	fetchSubgroupPresent = 0x03
	fetchObjectID        = 0x04
	fetchGroupID         = 0x08
	fetchPriority        = 0x10
	fetchExtensions      = 0x20
	fetchDatagram        = 0x40

	fetchEndNonExistent = 0x8c
	fetchEndUnknown     = 0x10c
)

// FetchObject is one object of a fetch stream, or in draft 16 the end of a range without objects. Extensions aliases the
// parsed bytes.
type FetchObject struct {
	Group, Subgroup, ID uint64
	Datagram            bool // draft 16; it has no subgroup
	Priority            uint8
	Extensions          []byte
	Status              uint64 // draft 14
	PayloadLen          uint64
	// Missing: this is no object, but all locations from the last object up to this one, inclusive, have none; with Unknown
	// nobody knows whether they have (draft-16, section "End of Range").
	Missing, Unknown bool
}

// FetchReader reads the objects of one fetch stream after its header.
type FetchReader struct {
	layout  Draft
	started bool
	prev    FetchObject
}

// NewFetchReader returns a reader of a stream in a layout.
func NewFetchReader(layout Draft) FetchReader { return FetchReader{layout: layout} }

// ParseHeader reads what precedes the next object's payload; see ObjectReader.ParseHeader.
func (r *FetchReader) ParseHeader(b []byte, o *FetchObject) (n int, err error) {
	m := moqReader{b: b}
	var f FetchObject
	extensions, ok := true, true
	if r.layout == Draft16 {
		extensions, ok = r.fields16(&m, &f)
	} else {
		f = FetchObject{Group: m.varint(), Subgroup: m.varint(), ID: m.varint(), Priority: m.byte()}
	}
	if !ok {
		return 0, ErrMalformed
	}
	if !f.Missing {
		if extensions {
			size := m.varint()
			if size > MaxExtensionsLen {
				return 0, ErrTooLarge
			}
			f.Extensions = m.take(size)
		}
		f.PayloadLen = m.varint()
		if r.layout == Draft14 && f.PayloadLen == 0 && !m.short {
			f.Status = m.varint()
		}
	}
	if m.short {
		return 0, ErrShort
	}
	if r.layout == Draft14 && !validStatus(f.Status, Draft14) {
		return 0, ErrMalformed
	}
	if !f.Missing {
		r.started, r.prev = true, f
		r.prev.Extensions = nil
	}
	*o = f
	return m.n, nil
}

// fields16 reads the fields that the flags speak of. ok is false if they must not be so; with m.short it does not count.
func (r *FetchReader) fields16(m *moqReader, f *FetchObject) (extensions, ok bool) {
	flags := m.varint()
	if m.short {
		return false, true
	}
	if flags == fetchEndNonExistent || flags == fetchEndUnknown {
		f.Missing, f.Unknown = true, flags == fetchEndUnknown
		f.Group, f.ID = m.varint(), m.varint()
		return false, true
	}
	if flags >= 0x80 {
		return false, false
	}
	f.Datagram = flags&fetchDatagram != 0
	mode := flags & fetchSubgroupPresent
	priorSubgroup := !f.Datagram && (mode == fetchSubgroupPrior || mode == fetchSubgroupNext)
	const all = fetchObjectID | fetchGroupID | fetchPriority
	if !r.started && (flags&all != all || priorSubgroup) {
		return false, false
	}
	f.Group, f.ID, f.Priority = r.prev.Group, r.prev.ID+1, r.prev.Priority
	if flags&fetchGroupID != 0 {
		f.Group = m.varint()
	}
	switch {
	case f.Datagram || mode == 0:
	case mode == fetchSubgroupPresent:
		f.Subgroup = m.varint()
	case r.prev.Datagram: // it has no subgroup that could be referred to
		return false, false
	case mode == fetchSubgroupPrior:
		f.Subgroup = r.prev.Subgroup
	default:
		f.Subgroup = r.prev.Subgroup + 1
	}
	if flags&fetchObjectID != 0 {
		f.ID = m.varint()
	}
	if flags&fetchPriority != 0 {
		f.Priority = m.byte()
	}
	return flags&fetchExtensions != 0, f.ID <= MaxVarint && f.Subgroup <= MaxVarint
}

// FetchWriter writes the objects of one fetch stream after its header.
type FetchWriter struct {
	layout  Draft
	started bool
	prev    FetchObject
}

// NewFetchWriter returns a writer of a stream in a layout.
func NewFetchWriter(layout Draft) FetchWriter { return FetchWriter{layout: layout} }

// AppendHeader appends what precedes the payload of an object. What the layout cannot say is left out: in draft 14 the end of a
// range, in draft 16 objects with a status, which both leave a gap.
func (w *FetchWriter) AppendHeader(b []byte, o *FetchObject) []byte {
	if w.layout == Draft14 {
		if o.Missing {
			return b
		}
		subgroup := o.Subgroup
		if o.Datagram {
			subgroup = o.ID
		}
		b = AppendVarint(AppendVarint(AppendVarint(b, o.Group), subgroup), o.ID)
		b = append(b, o.Priority)
		b = append(AppendVarint(b, uint64(len(o.Extensions))), o.Extensions...)
		if b = AppendVarint(b, o.PayloadLen); o.PayloadLen == 0 {
			b = AppendVarint(b, o.Status)
		}
		return b
	}
	switch {
	case o.Missing && o.Unknown:
		return AppendVarint(AppendVarint(AppendVarint(b, fetchEndUnknown), o.Group), o.ID)
	case o.Missing:
		return AppendVarint(AppendVarint(AppendVarint(b, fetchEndNonExistent), o.Group), o.ID)
	case o.Status != StatusNormal:
		return b
	}
	flags := uint64(0)
	first := !w.started
	if first || o.Group != w.prev.Group {
		flags |= fetchGroupID
	}
	if first || o.ID != w.prev.ID+1 {
		flags |= fetchObjectID
	}
	if first || o.Priority != w.prev.Priority {
		flags |= fetchPriority
	}
	if len(o.Extensions) > 0 {
		flags |= fetchExtensions
	}
	priorSubgroup := !first && !w.prev.Datagram
	switch {
	case o.Datagram:
		flags |= fetchDatagram
	case o.Subgroup == 0:
	case priorSubgroup && o.Subgroup == w.prev.Subgroup:
		flags |= fetchSubgroupPrior
	case priorSubgroup && o.Subgroup == w.prev.Subgroup+1:
		flags |= fetchSubgroupNext
	default:
		flags |= fetchSubgroupPresent
	}
	b = AppendVarint(b, flags)
	if flags&fetchGroupID != 0 {
		b = AppendVarint(b, o.Group)
	}
	if !o.Datagram && flags&fetchSubgroupPresent == fetchSubgroupPresent {
		b = AppendVarint(b, o.Subgroup)
	}
	if flags&fetchObjectID != 0 {
		b = AppendVarint(b, o.ID)
	}
	if flags&fetchPriority != 0 {
		b = append(b, o.Priority)
	}
	if flags&fetchExtensions != 0 {
		b = append(AppendVarint(b, uint64(len(o.Extensions))), o.Extensions...)
	}
	w.started, w.prev = true, *o
	w.prev.Extensions = nil
	return AppendVarint(b, o.PayloadLen)
}
