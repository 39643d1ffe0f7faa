package wire

import "fmt"

// controlReader reads the fields of one control message. The first thing that is wrong stays in err.
type controlReader struct {
	moqReader
	draft Draft
	err   error
}

func (c *controlReader) fail(format string, args ...any) {
	if c.err == nil && !c.short {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *controlReader) done(what string) error {
	switch {
	case c.err != nil:
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, c.err)
	case c.short:
		return fmt.Errorf("%w: %s is cut off", ErrMalformed, what)
	}
	return nil
}

// nested takes over what is wrong with a field that has its own length.
func (c *controlReader) nested(f *controlReader) {
	switch {
	case f.err != nil:
		c.fail("%w", f.err)
	case f.short:
		c.fail("a parameter is cut off")
	}
}

func (c *controlReader) limit(what string, v, limit uint64) uint64 {
	if v > limit {
		c.fail("%s is %d", what, v)
	}
	return v
}

func (c *controlReader) flag(what string, limit uint64) uint8 {
	return uint8(c.limit(what, uint64(c.byte()), limit))
}

// bytes reads a length and as many bytes.
func (c *controlReader) bytes() []byte { return c.take(c.varint()) }

func (c *controlReader) reason() []byte {
	b := c.bytes()
	c.limit("length of the reason phrase", uint64(len(b)), MaxReasonLen)
	return b
}

// namespace reads a tuple. moqtransport allocates as many fields as the message says, before it has seen one.
func (c *controlReader) namespace() (fields []string, size int) {
	n := c.limit("number of namespace fields", c.varint(), MaxNamespaceFields)
	for ; n > 0 && !c.short && c.err == nil; n-- {
		f := c.bytes()
		fields = append(fields, string(f))
		size += len(f)
	}
	c.limit("length of the namespace", uint64(size), MaxTrackNameLen)
	return fields, size
}

func (c *controlReader) trackName() (namespace []string, track []byte) {
	namespace, size := c.namespace()
	track = c.bytes()
	c.limit("length of the full track name", uint64(size+len(track)), MaxTrackNameLen)
	return namespace, track
}

// params reads a counted list. d is the encoding of the types, which for moqtransport is not always that of the draft.
func (c *controlReader) params(d Draft) (ps []ExtensionHeader) {
	c.eachParam(d, func(p ExtensionHeader) { ps = append(ps, p) })
	return ps
}

func (c *controlReader) skipParams(d Draft) { c.eachParam(d, func(ExtensionHeader) {}) }

func (c *controlReader) eachParam(d Draft, f func(ExtensionHeader)) {
	var prev uint64
	for n := c.varint(); n > 0 && !c.short && c.err == nil; n-- {
		p, ok := c.kvp(d, prev)
		if !ok {
			c.fail("a parameter's type or length is too large")
			return
		}
		prev = p.Type
		f(p)
	}
}

// maxOpenRequestID bounds the IDs of SUBSCRIBE and FETCH. moqtransport answers an ID in the upper half of what it allows
// by doubling the allowance, without end: after some 60 requests its varint would panic. IDs grow by 2, so that no
// honest session comes near.
const maxOpenRequestID = 1<<60 - 1

func (c *controlReader) openRequestID() {
	c.limit("request ID", c.varint(), maxOpenRequestID)
}

// ValidateControl reports whether the payload of a control message may be given to moqtransport v0.9.0, whose parsers
// slice and allocate by lengths that they do not check. The error wraps ErrMalformed; the caller closes the session with
// PROTOCOL_VIOLATION. setupDone says whether this direction has had its SETUP message.
//
// It reads every message as that library does, because that is what must not go wrong. In draft 16 the library reads
// PUBLISH, PUBLISH_OK, FETCH, FETCH_OK, TRACK_STATUS, SUBSCRIBE_NAMESPACE and the PUBLISH_NAMESPACE_DONE and _CANCEL
// messages in the format of draft 14; other implementations' messages of these types may be refused here, and the library would
// end the session on most of them anyway. Types that the library does not know pass: it ends the session in order. So do
// bytes after a message's last field, which the library ignores, although both drafts forbid them.
//
// What one message cannot show is the caller's to bound: SUBSCRIBE_NAMESPACE and PUBLISH_NAMESPACE leave state in the
// library for the life of the session. The session also needs a Handler that is not nil.
func ValidateControl(msgType uint64, payload []byte, d Draft, setupDone bool) error {
	if isSetup := msgType == MsgClientSetup || msgType == MsgServerSetup; isSetup == setupDone {
		return fmt.Errorf("%w: message type %#x out of order with SETUP", ErrMalformed, msgType)
	}
	switch msgType {
	case MsgSubscribe:
		s, err := ParseSubscribe(payload, d)
		if err == nil && s.RequestID > maxOpenRequestID {
			err = fmt.Errorf("%w: SUBSCRIBE: request ID is %d", ErrMalformed, s.RequestID)
		}
		return err
	case MsgSubscribeOK:
		_, err := ParseSubscribeOK(payload, d)
		return err
	case MsgPublishDone:
		_, err := ParsePublishDone(payload, d)
		return err
	}
	c := controlReader{moqReader: moqReader{b: payload}, draft: d}
	c.validate(msgType)
	return c.done(fmt.Sprintf("message type %#x", msgType))
}

func (c *controlReader) validate(msgType uint64) {
	switch msgType {
	case MsgClientSetup:
		if c.draft == Draft14 {
			// A version is at least a byte, so that the count needs no bound of its own.
			for n := c.varint(); n > 0 && !c.short; n-- {
				c.varint()
			}
		}
		c.skipParams(c.draft)
	case MsgServerSetup:
		if c.draft == Draft14 {
			c.varint()
		}
		c.skipParams(c.draft)
	case MsgGoaway:
		c.bytes()
	case MsgMaxRequestID, MsgRequestsBlocked, MsgUnsubscribe, MsgFetchCancel, MsgSubscribeNamespaceOK:
		c.varint()
	case MsgRequestOK:
		c.varint()
		if c.draft == Draft16 && !c.short && len(c.rest()) > 0 {
			c.skipParams(Draft16)
		}
	case MsgRequestError:
		c.varint()
		c.varint()
		if c.draft == Draft16 {
			c.varint() // retry interval
		}
		c.reason()
	case MsgNamespace:
		if c.draft == Draft14 { // PUBLISH_NAMESPACE_ERROR; the library refuses NAMESPACE unread
			c.requestError()
		}
	case MsgTrackStatusError, MsgFetchError, MsgSubscribeNamespaceErr, MsgPublishError:
		c.requestError()
	case MsgSubscribeUpdate:
		c.subscribeUpdate()
	case MsgPublishNamespace:
		c.varint()
		c.namespace()
		c.skipParams(c.draft)
	case MsgPublishNamespaceDone, MsgUnsubscribeNamespace:
		c.namespace()
	case MsgPublishNamespaceCancel:
		c.namespace()
		c.varint()
		c.reason()
	case MsgSubscribeNamespace:
		c.varint()
		c.namespace()
		c.skipParams(Draft14)
	case MsgTrackStatus:
		c.varint()
		c.trackName()
		c.byte() // subscriber priority
		c.flag("group order", 2)
		c.flag("forward", 1)
		c.filterAndParams()
	case MsgNamespaceDone:
		c.trackStatusOK()
	case MsgPublish:
		c.publish()
	case MsgPublishOK:
		c.varint()
		c.flag("forward", 1)
		c.byte() // subscriber priority
		c.flag("group order", 2)
		c.filterAndParams()
	case MsgFetch:
		c.fetch()
	case MsgFetchOK:
		c.varint()
		c.flag("group order", 2)
		c.byte() // end of track
		c.varint()
		c.varint()
		c.skipParams(Draft14)
	}
}

func (c *controlReader) requestError() {
	c.varint()
	c.varint()
	c.reason()
}

func (c *controlReader) filterAndParams() {
	var s Subscribe
	s.filter(c)
	c.skipParams(Draft14)
}

func (c *controlReader) subscribeUpdate() {
	c.varint()
	c.varint()
	if c.draft == Draft16 {
		var s Subscribe
		for _, p := range c.params(Draft16) {
			s.param16(c, p)
		}
		return
	}
	c.varint() // start group
	c.varint() // start object
	c.varint() // end group, plus 1
	c.byte()   // subscriber priority
	c.flag("forward", 1)
	c.skipParams(Draft14)
}

// trackStatusOK reads TRACK_STATUS_OK of draft 14. NAMESPACE_DONE of draft 16 has the same type and is read
// as the former by the library.
func (c *controlReader) trackStatusOK() {
	c.varint()
	c.varint()
	c.varint()
	c.flag("group order", 2)
	if c.flag("content exists", 1) == 1 {
		c.varint()
		c.varint()
	}
	c.skipParams(Draft14)
}

func (c *controlReader) publish() {
	c.varint()
	c.trackName()
	c.varint() // track alias
	c.flag("group order", 2)
	if c.flag("content exists", 1) == 1 {
		c.varint()
		c.varint()
	}
	c.flag("forward", 1)
	c.skipParams(Draft14)
}

func (c *controlReader) fetch() {
	c.openRequestID()
	c.byte() // subscriber priority
	c.flag("group order", 2)
	switch t := c.varint(); t {
	case 1: // standalone
		c.trackName()
		for range 4 { // start and end location
			c.varint()
		}
	case 2, 3: // relative and absolute joining
		c.varint()
		c.varint()
	default:
		c.fail("fetch type %d", t)
	}
	c.skipParams(Draft14)
}
