package moq

import (
	"errors"
	"fmt"

	"github.com/fastrelay/fastrelay/internal/wire"
)

// sessionError is a fault of the peer with the code that the session is closed with.
type sessionError struct {
	code uint64
	msg  string
}

func (e *sessionError) Error() string { return e.msg }

func abortCode(err error) uint64 {
	var s *sessionError
	if errors.As(err, &s) {
		return s.code
	}
	return CodeProtocolViolation
}

// incoming looks at a message of the peer and decides what the library gets of it.
func (c *control) incoming(msgType uint64, payload []byte) error {
	s := c.s
	if c.setup {
		if answer := s.refusal(msgType, payload); answer != nil {
			return answer()
		}
	}
	// These the library does not get, and they may have a format that it does not know.
	if c.setup {
		switch msgType {
		case wire.MsgFetch:
			return s.onFetch(payload)
		case wire.MsgFetchCancel:
			return s.onFetchCancel(payload)
		case wire.MsgFetchOK:
			return s.onFetchOK(payload)
		case wire.MsgSubscribeUpdate:
			return s.onUpdate(payload)
		}
	}
	if err := wire.ValidateControl(msgType, payload, s.draft, c.setup); err != nil {
		return err
	}
	switch msgType {
	case wire.MsgClientSetup:
		c.setup = true
	case wire.MsgServerSetup:
		c.setup = true
		if _, err := wire.ParseServerSetup(payload, s.draft); err != nil {
			return &sessionError{0x15, err.Error()} // VERSION_NEGOTIATION_FAILED
		}
	case wire.MsgSubscribe:
		return s.onSubscribe(payload)
	case wire.MsgUnsubscribe:
		return s.onUnsubscribe(payload)
	case wire.MsgSubscribeOK:
		return s.onSubscribeOK(payload)
	case wire.MsgFetchError:
		_, err := s.onFetchError(payload, false)
		return err
	case wire.MsgRequestError:
		if ours, err := s.onFetchError(payload, s.draft != wire.Draft14); ours || err != nil {
			return err
		}
		s.onRequestError(payload)
	case wire.MsgPublishDone:
		return s.onPublishDone(payload)
	case wire.MsgPublishNamespace:
		id, _ := wire.ReadVarint(payload)
		if err := s.onRequestID(id); err != nil {
			return err
		}
	case wire.MsgGoaway, wire.MsgRequestsBlocked:
		return nil
	}
	c.deliver(msgType, payload)
	return nil
}

// refusal returns what answers a request that this package does not serve, or nil. The library does not get to see
// such messages: it keeps state for some of them for ever, and reads some wrongly in draft 16.
func (s *Session) refusal(msgType uint64, payload []byte) func() error {
	var answer uint64
	switch msgType {
	case wire.MsgFetch:
		if s.handlers.Fetch != nil {
			return nil
		}
		answer = wire.MsgFetchError
	case wire.MsgTrackStatus:
		answer = wire.MsgTrackStatusError
	case wire.MsgSubscribeNamespace:
		answer = wire.MsgSubscribeNamespaceErr
	case wire.MsgPublish:
		answer = wire.MsgPublishError
	case wire.MsgUnsubscribeNamespace:
		return func() error { return nil }
	default:
		return nil
	}
	return func() error {
		id, n := wire.ReadVarint(payload)
		if n == 0 {
			return fmt.Errorf("message type %#x: %w", msgType, wire.ErrMalformed)
		}
		if err := s.onRequestID(id); err != nil {
			return err
		}
		if s.draft != wire.Draft14 {
			answer = wire.MsgRequestError
		}
		select {
		case <-s.ctl.ours: // nothing may precede SETUP
		case <-s.conn.Context().Done():
			return s.closedError()
		}
		return s.ctl.send(answer, s.requestError(id, SubscribeNotSupported, "not supported by this endpoint"))
	}
}

// requestError returns the payload of SUBSCRIBE_ERROR and its kin.
func (s *Session) requestError(id, code uint64, reason string) []byte {
	b := wire.AppendVarint(wire.AppendVarint(nil, id), code)
	if s.draft != wire.Draft14 {
		b = wire.AppendVarint(b, 0) // retry interval: do not
	}
	b = wire.AppendVarint(b, uint64(len(reason)))
	return append(b, reason...)
}

// onRequestID checks the ID of a new request of the peer. That IDs rise is not asked for: moqtransport may send two
// requests in the wrong order.
func (s *Session) onRequestID(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, used := s.requests[id]
	_, fetching := s.fetches[id]
	if used || fetching || id >= maxRequestID {
		return &sessionError{CodeInvalidRequestID, fmt.Sprintf("request ID %d is used already or too large", id)}
	}
	s.highest = max(s.highest, id+1)
	return nil
}

// outgoing looks at a message of the library and passes it on, corrected where it has to be.
func (c *control) outgoing(msgType uint64, payload []byte) error {
	s := c.s
	switch msgType {
	case wire.MsgClientSetup, wire.MsgServerSetup:
		defer close(c.ours) // c.writing is held until the message is out
	case wire.MsgSubscribe:
		m, err := wire.ParseSubscribe(payload, s.draft)
		if err != nil {
			return fmt.Errorf("subscription cannot be sent: %w", err)
		}
		s.onSent(m.RequestID)
	case wire.MsgFetch:
		id, _ := wire.ReadVarint(payload)
		if payload = s.onFetchSent(id); payload == nil {
			return ErrClosed
		}
	case wire.MsgFetchCancel:
		return nil // Fetch.Close sends it
	case wire.MsgSubscribeOK:
		m, err := wire.ParseSubscribeOK(payload, s.draft)
		if err != nil {
			return err
		}
		if r := s.request(m.RequestID); r != nil {
			r.alias = m.TrackAlias
			if s.draft == wire.Draft16 {
				payload = append(payload[:len(payload):len(payload)], r.TrackExtensions...)
			}
		}
	case wire.MsgPublishDone:
		m, err := wire.ParsePublishDone(payload, s.draft)
		if err != nil {
			return err
		}
		if r := s.request(m.RequestID); r != nil {
			// The payload must not be changed in place.
			payload = wire.RewritePublishDone(append([]byte(nil), payload...), r.streams)
		}
	}
	var err error
	c.pending, err = wire.AppendControl(c.pending, msgType, payload)
	return err
}
