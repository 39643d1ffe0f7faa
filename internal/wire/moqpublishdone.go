package wire

// UnknownStreamCount is the stream count of a publisher that does not know it (draft-14 and draft-16, section "PUBLISH_DONE").
const UnknownStreamCount = MaxVarint

// MaxReasonLen is the longest reason phrase (draft-14 and draft-16, section "Reason Phrase Structure").
const MaxReasonLen = 1024

// PublishDone is a PUBLISH_DONE message, the same in both drafts.
type PublishDone struct {
	RequestID   uint64
	StatusCode  uint64
	StreamCount uint64 // data streams that the publisher opened for the subscription, or UnknownStreamCount
	Reason      string

	countOff, countLen int
}

// ParsePublishDone reads the payload of a PUBLISH_DONE message. Errors wrap ErrMalformed.
func ParsePublishDone(payload []byte, d Draft) (PublishDone, error) {
	c := controlReader{moqReader: moqReader{b: payload}, draft: d}
	p := PublishDone{RequestID: c.varint(), StatusCode: c.varint()}
	p.countOff = c.n
	p.StreamCount = c.varint()
	p.countLen = c.n - p.countOff
	p.Reason = string(c.reason())
	return p, c.done("PUBLISH_DONE")
}

// AppendPublishDone appends the payload of a PUBLISH_DONE message (AppendControl adds its frame).
func AppendPublishDone(b []byte, p *PublishDone) []byte {
	b = AppendVarint(b, p.RequestID)
	b = AppendVarint(b, p.StatusCode)
	b = AppendVarint(b, p.StreamCount)
	b = AppendVarint(b, uint64(len(p.Reason)))
	return append(b, p.Reason...)
}

// RewritePublishDone returns the payload with another stream count. It works in place if the count fits where the old
// one was, and returns nil if payload is not that of a PUBLISH_DONE message.
func RewritePublishDone(payload []byte, count uint64) []byte {
	p, err := ParsePublishDone(payload, Draft14)
	if err != nil {
		return nil
	}
	if VarintLen(count) <= p.countLen {
		AppendVarintLen(payload[:p.countOff], count, p.countLen)
		return payload
	}
	out := make([]byte, 0, len(payload)+8)
	out = append(out, payload[:p.countOff]...)
	out = AppendVarint(out, count)
	return append(out, payload[p.countOff+p.countLen:]...)
}
