// Package quicadapt merges packets that a datapath sends into the QUIC connections of an unmodified quic-go.
//
// It sits at the packet boundary, between quic-go and its socket. It opens each packet that passes, with the keys that TLS
// logs, gives quic-go's packets their numbers from the space that it shares with the datapath, and translates
// acknowledgments back, so that neither quic-go nor its peer notices that somebody else sends on the connection too.
//
//	        quic-go                      relay
//	   own numbers │ ▲ own ACKs            │ Write, Close, Reset
//	               ▼ │                     ▼
//	┌─ Boundary ─────────────────────────────────────────────┐
//	│ renumber, seal │ translate ACK,   │ FastStream: sends  │
//	│                │ MAX_DATA, …      │ what no record     │
//	│  registry of sent packets, loss   │ covers or is lost  │
//	└──────┬─────────┴──▲───────────────┴────────▲───────────┘
//	       ▼            │ packets                │ records
//	     socket ────────┘                     datapath ──► subscriber
//
// With Config.Null the wire carries 1-RTT packets unprotected; then both ends need a Boundary. This stands for a network
// card that does the cryptography, as in the thesis (section 3.1), and is for labs alone.
//
// Without a datapath and without the null wire there is no reason to use this package.
package quicadapt
