package wire

import "fmt"

// Parameters of control messages in draft 16 that draft 14 has as fields (draft-16, section "Message Parameters").
const (
	ParamExpires            = 0x08
	ParamLargestObject      = 0x09
	ParamForward            = 0x10
	ParamSubscriberPriority = 0x20
	ParamSubscriptionFilter = 0x21
	ParamGroupOrder         = 0x22
)

// DefaultPriority is the subscriber's and the publisher's priority where none is given (draft-16, sections "SUBSCRIBER
// PRIORITY Parameter" and "DEFAULT PUBLISHER PRIORITY").
const DefaultPriority = 128

// Limits of names (draft-14 and draft-16, section "Track Naming").
const (
	MaxNamespaceFields = 32
	MaxTrackNameLen    = 4096 // namespace fields and track name together
)

// FilterType says where a subscription starts and ends (draft-16, section "Subscription Filters").
type FilterType uint64

// The filter types.
const (
	FilterNextGroupStart FilterType = 1
	FilterLargestObject  FilterType = 2
	FilterAbsoluteStart  FilterType = 3
	FilterAbsoluteRange  FilterType = 4
)

// Subscribe is what a relay needs of a SUBSCRIBE message.
type Subscribe struct {
	RequestID          uint64
	Namespace          []string
	Track              []byte // aliases the payload
	SubscriberPriority uint8
	GroupOrder         uint8 // 0: the publisher's, 1: ascending, 2: descending
	Forward            bool
	// FilterType is never 0. Draft 16 may omit the filter; that is AbsoluteStart at {0, 0}, which the draft calls
	// equivalent. moqtransport v0.9.0 takes it for LargestObject instead.
	FilterType  FilterType
	StartGroup  uint64 // AbsoluteStart, AbsoluteRange
	StartObject uint64
	EndGroup    uint64 // AbsoluteRange: the last group that is wanted
	Params      []ExtensionHeader
}

// ParseSubscribe reads the payload of a SUBSCRIBE message (draft-14 and draft-16, section "SUBSCRIBE").
// Of a repeated parameter the last one counts, as in moqtransport. Errors wrap ErrMalformed.
func ParseSubscribe(payload []byte, d Draft) (Subscribe, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: d}
	s := Subscribe{RequestID: c.varint(), SubscriberPriority: DefaultPriority, Forward: true, FilterType: FilterAbsoluteStart}
	s.Namespace, s.Track = c.trackName()
	if d == Draft14 {
		s.SubscriberPriority = c.byte()
		s.GroupOrder = c.flag("group order", 2)
		s.Forward = c.flag("forward", 1) == 1
		s.filter(&c)
	}
	s.Params = c.params(d)
	if d == Draft16 {
		for _, p := range s.Params {
			s.param16(&c, p)
		}
	}
	return s, c.done("SUBSCRIBE")
}

func (s *Subscribe) filter(c *controlReader) {
	s.FilterType = FilterType(c.varint())
	if s.FilterType < FilterNextGroupStart || s.FilterType > FilterAbsoluteRange {
		c.fail("filter type %d", s.FilterType)
	}
	s.StartGroup, s.StartObject, s.EndGroup = 0, 0, 0
	if s.FilterType >= FilterAbsoluteStart {
		s.StartGroup, s.StartObject = c.varint(), c.varint()
	}
	if s.FilterType == FilterAbsoluteRange {
		// An end before the start is no violation: the answer is an error with INVALID_RANGE.
		s.EndGroup = c.varint()
	}
}

func (s *Subscribe) param16(c *controlReader, p ExtensionHeader) {
	switch p.Type {
	case ParamSubscriberPriority:
		s.SubscriberPriority = uint8(c.limit("subscriber priority", p.Value, 255))
	case ParamGroupOrder:
		s.GroupOrder = uint8(c.limit("group order", p.Value, 2))
	case ParamForward:
		s.Forward = c.limit("forward", p.Value, 1) == 1
	case ParamSubscriptionFilter:
		f := controlReader{moqReader: moqReader{b: p.Bytes}, draft: c.draft}
		s.filter(&f)
		if f.err == nil && !f.short && len(f.rest()) > 0 {
			f.fail("bytes after the filter")
		}
		c.nested(&f)
	}
}

// SubscribeOK is what a relay needs of a SUBSCRIBE_OK message.
type SubscribeOK struct {
	RequestID  uint64
	TrackAlias uint64
	// Expires is in milliseconds, 0 for none. moqtransport v0.9.0 writes nanoseconds in draft 14. It converts what it
	// reads to a time.Duration, which overflows from 2^63 ns on and must not be given back to it (its varint panics).
	Expires       uint64
	GroupOrder    uint8
	ContentExists bool
	LargestGroup  uint64 // with ContentExists only
	LargestObject uint64
	// DefaultPriority is the publisher's priority of streams and datagrams that carry none: a track extension of draft 16,
	// otherwise 128.
	DefaultPriority uint8
	Params          []ExtensionHeader
	// TrackExtensions is the rest of the message in draft 16: extension headers, verbatim. A relay must forward
	// those that it does not know. moqtransport v0.9.0 ignores it on reading and never writes it.
	TrackExtensions []byte
}

// ParseSubscribeOK reads the payload of a SUBSCRIBE_OK message (draft-14 and draft-16, section "SUBSCRIBE_OK").
// Errors wrap ErrMalformed.
func ParseSubscribeOK(payload []byte, d Draft) (SubscribeOK, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: d}
	s := SubscribeOK{RequestID: c.varint(), TrackAlias: c.varint(), DefaultPriority: DefaultPriority}
	if d == Draft14 {
		s.Expires = c.varint()
		// Draft 14 forbids 0, but nothing depends on it and moqtransport accepts it.
		s.GroupOrder = c.flag("group order", 2)
		if s.ContentExists = c.flag("content exists", 1) == 1; s.ContentExists {
			s.LargestGroup, s.LargestObject = c.varint(), c.varint()
		}
	}
	s.Params = c.params(d)
	if d == Draft16 {
		for _, p := range s.Params {
			s.param16(&c, p)
		}
		s.trackExtensions(&c)
	}
	return s, c.done("SUBSCRIBE_OK")
}

func (s *SubscribeOK) param16(c *controlReader, p ExtensionHeader) {
	switch p.Type {
	case ParamExpires:
		s.Expires = p.Value
	case ParamGroupOrder: // not in the draft, but moqtransport v0.9.0 puts it here
		s.GroupOrder = uint8(c.limit("group order", p.Value, 2))
	case ParamLargestObject:
		l := controlReader{moqReader: moqReader{b: p.Bytes}, draft: c.draft}
		s.ContentExists = true
		s.LargestGroup, s.LargestObject = l.varint(), l.varint()
		c.nested(&l)
	}
}

func (s *SubscribeOK) trackExtensions(c *controlReader) {
	s.TrackExtensions = c.rest()
	err := ParseExtensions(s.TrackExtensions, Draft16, func(e ExtensionHeader) bool {
		if e.Type == ExtDefaultPublisherPriority {
			s.DefaultPriority = uint8(c.limit("default publisher priority", e.Value, 255))
		}
		return true
	})
	if err != nil {
		c.fail("track extensions")
	}
}

// ParseServerSetup reads the payload of a SERVER_SETUP message and returns the draft that the session speaks: in
// draft 16 that of the ALPN value, in draft 14 the version in the message. Errors wrap ErrMalformed or ErrDraft.
func ParseServerSetup(payload []byte, alpnDraft Draft) (Draft, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: alpnDraft}
	version := draftVersionBase + uint64(alpnDraft)
	if alpnDraft == Draft14 {
		version = c.varint()
	}
	c.skipParams(alpnDraft)
	if err := c.done("SERVER_SETUP"); err != nil {
		return 0, err
	}
	// Only drafts before 15 select a version here, and of those this package has one.
	if version != draftVersionBase+uint64(alpnDraft) {
		return 0, fmt.Errorf("%w: version %#x in SERVER_SETUP", ErrDraft, version)
	}
	return alpnDraft, nil
}

// SubscribeUpdate is a SUBSCRIBE_UPDATE of draft 14 or a REQUEST_UPDATE of draft 16. What it leaves as it is, is nil.
type SubscribeUpdate struct {
	RequestID    uint64
	Subscription uint64 // request ID of what it changes
	Priority     *uint8
	Forward      *bool
	// The filter: with Start alone it is open-ended, with End it ends with that group.
	HasStart                bool
	StartGroup, StartObject uint64
	HasEnd                  bool
	EndGroup                uint64
	Params                  []ExtensionHeader
}

// ParseSubscribeUpdate reads the payload of the message (draft-14, section "SUBSCRIBE_UPDATE"; draft-16, section
// "REQUEST_UPDATE"). moqtransport v0.9.0 writes draft 14's in draft 16 as well, so that what is no whole message of draft 16 is
// taken for one of draft 14. Errors wrap ErrMalformed.
func ParseSubscribeUpdate(payload []byte, d Draft) (SubscribeUpdate, error) {
	u, err := parseSubscribeUpdate(payload, d)
	if d != Draft14 && err != nil {
		if u14, err14 := parseSubscribeUpdate(payload, Draft14); err14 == nil {
			return u14, nil
		}
	}
	return u, err
}

func parseSubscribeUpdate(payload []byte, d Draft) (SubscribeUpdate, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: d}
	u := SubscribeUpdate{RequestID: c.varint(), Subscription: c.varint()}
	if d == Draft14 {
		u.HasStart = true
		u.StartGroup, u.StartObject = c.varint(), c.varint()
		if end := c.varint(); end > 0 {
			u.HasEnd, u.EndGroup = true, end-1
		}
		priority, forward := c.byte(), c.flag("forward", 1) == 1
		u.Priority, u.Forward = &priority, &forward
		u.Params = c.params(d)
		return u, c.done("SUBSCRIBE_UPDATE")
	}
	u.Params = c.params(d)
	for _, p := range u.Params {
		var s Subscribe
		s.param16(&c, p)
		switch p.Type {
		case ParamSubscriberPriority:
			u.Priority = &s.SubscriberPriority
		case ParamForward:
			u.Forward = &s.Forward
		case ParamSubscriptionFilter:
			u.HasStart = s.FilterType >= FilterAbsoluteStart
			u.StartGroup, u.StartObject = s.StartGroup, s.StartObject
			u.HasEnd, u.EndGroup = s.FilterType == FilterAbsoluteRange, s.EndGroup
		}
	}
	if c.err == nil && !c.short && len(c.rest()) > 0 {
		c.fail("bytes after the parameters")
	}
	return u, c.done("REQUEST_UPDATE")
}

// DeliveryTimeout returns the publisher's delivery timeout in milliseconds: a parameter in draft 14, a track extension in
// draft 16; see DeliveryTimeout.
func (s *SubscribeOK) DeliveryTimeout(d Draft) (ms uint64, err error) {
	return DeliveryTimeout(s.trackProperties(d))
}

// MaxCacheDuration returns how many milliseconds the publisher lets an object be cached (draft-16, section "MAX CACHE
// DURATION"); ok is false if it does not say.
func (s *SubscribeOK) MaxCacheDuration(d Draft) (ms uint64, ok bool) {
	for _, p := range s.trackProperties(d) {
		if p.Type == ExtMaxCacheDuration { // the parameter of draft 14 has the same number
			return p.Value, true
		}
	}
	return 0, false
}

// trackProperties returns what is a parameter in draft 14 and a track extension in draft 16.
func (s *SubscribeOK) trackProperties(d Draft) (hs []ExtensionHeader) {
	if d == Draft14 {
		return s.Params
	}
	_ = ParseExtensions(s.TrackExtensions, Draft16, func(e ExtensionHeader) bool { hs = append(hs, e); return true }) // parsed before
	return hs
}

// ParamDeliveryTimeout is a message parameter of both drafts (section "DELIVERY TIMEOUT Parameter").
const ParamDeliveryTimeout = 0x02

// DeliveryTimeout returns the delivery timeout among parameters or track extensions, in milliseconds; 0: there is none.
// ErrMalformed is one that is present and 0.
func DeliveryTimeout(params []ExtensionHeader) (ms uint64, err error) {
	for _, p := range params {
		if p.Type == ParamDeliveryTimeout {
			if p.Value == 0 {
				return 0, fmt.Errorf("%w: delivery timeout of 0", ErrMalformed)
			}
			ms = p.Value
		}
	}
	return ms, nil
}
