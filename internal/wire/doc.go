// Package wire reads and writes what is on the wire: QUIC v1 and v2 packets, their protection and their frames,
// and the MoQ streams and datagrams that those frames carry.
//
//	short header packet (RFC 9000, section 17.3.1), one UDP payload
//	┌─────────────────┬───────────┬────────────┬──────────────────────────┬────────┐
//	│ 0 1 S R R K P P │ DCID 0–20 │ number 1–4 │ frames                   │ tag 16 │
//	└─────────────────┴───────────┴────────────┴──────────────────────────┴────────┘
//	      STREAM    id, offset, length  │ bytes of a MoQ stream
//	      DATAGRAM  length              │ one MoQ object
//
// Nothing here keeps a clock, a socket or a goroutine. Parsing QUIC allocates nothing: what is parsed aliases its input.
// Every parser takes any input without a panic. Writers append to a slice that the caller owns.
package wire
