// Package netsim is a network for tests and demonstrations: paths that delay, reorder, duplicate and lose packets by a seed.
//
//	host A ── up of A ──► │ Network │ ── down of B ──► host B
//
// A Path is a state machine without a clock. A Network joins hosts in memory, and runs in real time as in the virtual time of
// testing/synctest. Shape puts a path before a real socket.
package netsim
