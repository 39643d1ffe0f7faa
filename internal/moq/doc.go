// Package moq runs MoQ sessions over raw QUIC connections. Control messages are moqtransport's; data streams and
// datagrams are the caller's.
//
//	           ┌────────────── Session ───────────────┐
//	handlers ◄─┤ moqtransport ◄── scan, check ◄───────┼── control stream (bidirectional) ◄── peer
//	methods  ──┤              ──► read, correct ──────┼──►
//	           │ AcceptDataStream, OpenDataStream,    │
//	           │ SendDatagram, ReceiveDatagram ───────┼── unidirectional streams, DATAGRAM frames
//	           └──────────────────────────────────────┘
//
// The library hides what a relay needs (track aliases, filters, UNSUBSCRIBE), so both directions of the control stream
// are read here as well. What comes in is checked before the library sees it, because it panics on some malformed
// messages. A SUBSCRIBE reaches the library only when it has been answered: the library answers on the goroutine that
// reads the control stream, and an answer may take a round trip to somebody else.
//
// FETCH and SUBSCRIBE_UPDATE are handled here alone. In draft 16 the library writes and reads FETCH as in draft 14: a peer's
// FETCH is taken in either form and answered in the same, and a peer whose SUBSCRIBE_OK looks like the library's gets ours in
// its form.
//
// Drafts 14 (ALPN "moq-00") and 16 ("moqt-16") are spoken. TRACK_STATUS, SUBSCRIBE_NAMESPACE and GOAWAY are refused or
// ignored; the library does not speak PUBLISH at all and ends the session when it gets one.
package moq
