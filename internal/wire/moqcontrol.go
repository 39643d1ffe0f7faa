package wire

// Types of control messages (draft-14 and draft-16, section "Control Messages"). Where the drafts differ, the name is that
// of draft 16 and the comment has the other.
const (
	MsgSubscribeUpdate        = 0x02 // REQUEST_UPDATE in draft 16
	MsgSubscribe              = 0x03
	MsgSubscribeOK            = 0x04
	MsgRequestError           = 0x05 // SUBSCRIBE_ERROR in draft 14
	MsgPublishNamespace       = 0x06
	MsgRequestOK              = 0x07 // PUBLISH_NAMESPACE_OK in draft 14
	MsgNamespace              = 0x08 // PUBLISH_NAMESPACE_ERROR in draft 14
	MsgPublishNamespaceDone   = 0x09
	MsgUnsubscribe            = 0x0a
	MsgPublishDone            = 0x0b
	MsgPublishNamespaceCancel = 0x0c
	MsgTrackStatus            = 0x0d
	MsgNamespaceDone          = 0x0e // TRACK_STATUS_OK in draft 14
	MsgTrackStatusError       = 0x0f // draft 14
	MsgGoaway                 = 0x10
	MsgSubscribeNamespace     = 0x11
	MsgSubscribeNamespaceOK   = 0x12 // draft 14
	MsgSubscribeNamespaceErr  = 0x13 // draft 14
	MsgUnsubscribeNamespace   = 0x14 // draft 14
	MsgMaxRequestID           = 0x15
	MsgFetch                  = 0x16
	MsgFetchCancel            = 0x17
	MsgFetchOK                = 0x18
	MsgFetchError             = 0x19 // draft 14
	MsgRequestsBlocked        = 0x1a
	MsgPublish                = 0x1d
	MsgPublishOK              = 0x1e
	MsgPublishError           = 0x1f // draft 14
	MsgClientSetup            = 0x20
	MsgServerSetup            = 0x21
)

// MaxControlLen is the longest payload of a control message; its length field has 16 bits.
const MaxControlLen = 1<<16 - 1

// AppendControl appends a whole control message. It returns ErrTooLarge, and b as it was, for a payload above MaxControlLen.
//
//	Type (i), Length (16), Payload (..)
func AppendControl(b []byte, msgType uint64, payload []byte) ([]byte, error) {
	if len(payload) > MaxControlLen {
		return b, ErrTooLarge
	}
	b = AppendVarint(b, msgType)
	b = append(b, byte(len(payload)>>8), byte(len(payload)))
	return append(b, payload...), nil
}

// parseControl reads the frame of the message at the start of b; ok is false if b does not hold all of it.
func parseControl(b []byte) (msgType uint64, payload []byte, n int, ok bool) {
	r := moqReader{b: b}
	msgType = r.varint()
	size := uint64(r.byte())<<8 | uint64(r.byte())
	payload = r.take(size)
	return msgType, payload, r.n, !r.short
}

// ControlScanner finds the messages in one direction of a control stream, which it is fed in pieces of any size.
// It keeps at most one incomplete message, so at most 64 KiB and 10 bytes.
type ControlScanner struct {
	// Message is called for every whole message, in order. payload is valid during the call only and must not be
	// changed. An error ends the scan.
	Message func(msgType uint64, payload []byte) error

	buf []byte // an incomplete message, from its first byte
	err error
}

// Write takes the next bytes of the stream. It returns the first error of Message, then and ever after. p is not kept.
func (s *ControlScanner) Write(p []byte) error {
	if s.err != nil {
		return s.err
	}
	for len(p) > 0 {
		if len(s.buf) == 0 {
			msgType, payload, n, ok := parseControl(p)
			if !ok {
				s.buf = append(s.buf, p...)
				return nil
			}
			p = p[n:]
			if s.err = s.Message(msgType, payload); s.err != nil {
				return s.err
			}
			continue
		}
		// No more is copied than the message needs: first its frame, then its payload.
		k := min(controlMissing(s.buf), len(p))
		s.buf = append(s.buf, p[:k]...)
		p = p[k:]
		if controlMissing(s.buf) > 0 {
			continue
		}
		msgType, payload, _, _ := parseControl(s.buf)
		if s.err = s.Message(msgType, payload); s.err != nil {
			return s.err
		}
		if cap(s.buf) > 4096 {
			s.buf = nil // one large message should not hold its memory for the life of the connection
		}
		s.buf = s.buf[:0]
	}
	return nil
}

// Pending returns the number of bytes of the incomplete message; it is not 0 if the stream ended inside a message.
func (s *ControlScanner) Pending() int { return len(s.buf) }

// controlMissing returns a lower bound of what the message that b begins with still lacks; 0 if it is whole.
func controlMissing(b []byte) int {
	_, n := ReadVarint(b)
	if n == 0 {
		return 1
	}
	if len(b) < n+2 {
		return n + 2 - len(b)
	}
	return n + 2 + int(b[n])<<8 + int(b[n+1]) - len(b)
}
