package moq

import "github.com/Eyevinn/moqtransport"

// handle is called by the library, on the goroutine that reads the control stream, for everything but subscriptions.
func (s *Session) handle(rw moqtransport.ResponseWriter, m *moqtransport.Message) {
	switch m.Method {
	case moqtransport.MessageAnnounce:
		s.onAnnounce(rw, m.Namespace)
	case moqtransport.MessageUnannounce:
		s.announced--
		if s.handlers.Unannounce != nil {
			s.handlers.Unannounce(m.Namespace)
		}
	default:
		if rw != nil {
			_ = rw.Reject(SubscribeNotSupported, "not supported by this endpoint")
		}
	}
}

func (s *Session) onAnnounce(rw moqtransport.ResponseWriter, namespace []string) {
	// The library keeps refused namespaces as well.
	if s.announced++; s.announced > maxNamespaces {
		s.abort(CodeTooManyRequests, &sessionError{CodeTooManyRequests, "too many namespaces"})
		return
	}
	if s.handlers.Announce == nil {
		_ = rw.Reject(SubscribeNotSupported, "nobody subscribes here")
		return
	}
	if err := s.handlers.Announce(namespace); err != nil {
		_ = rw.Reject(SubscribeNotSupported, clip(err.Error()))
		return
	}
	_ = rw.Accept()
}
