// Package recovery finds out which packets of a connection arrived and which are lost (RFC 9002), whoever sent them.
//
//	          Add, Skip                    OnAck, OnTimer, OnSendFailed
//	packets ────────────► ┌───────────┐ ◄──────────────────────────────── acknowledgments, time
//	                      │  Sender   │
//	handler ◄──────────── └───────────┘ ──► congestion.Controller
//	   OnAcked, OnLost         │ Deadline, Limit
//
// A Sender is one packet number space on one path. It does no I/O and has no clock: times are nanoseconds of one clock,
// given by the caller. Packets become known after they were sent, and perhaps not in the order of their numbers. What a
// packet carries is the caller's: a Sender gives it back when the packet is acknowledged or lost.
//
// The ring holds packets by number. Those that are not acknowledged are linked in the order of their numbers, so what an
// ACK costs depends on what it changes and on what is missing, not on what is in flight.
//
//	base                                  end
//	│ sent │ acked │ lost │ unused │ sent │
//	   └──────────────┴───────────────┘      linked
package recovery
