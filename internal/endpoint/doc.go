// Package endpoint publishes a clip over MoQ and receives it, as applications at both ends of a relay do.
//
//	media.Clip ──► Publish ── one QUIC stream per subgroup ──► relay ──► Subscribe ──► media.Writer, Received
//	                  │                                                      │
//	                  └── Published (what was sent, with hashes) ── Compare ─┘
//
// Both use stock quic-go connections, and packet protection is real, unless Dial is asked for the null wire. Control
// messages are package moq's; data streams and datagrams are written and read here, so that what a relay delivers is checked
// by code that shares nothing with the relay but the wire format.
package endpoint
