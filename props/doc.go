// Package props has the property tests of the relay's invariants, P1 to P13, which docs/invariants.md lists. It has no
// code of its own: the properties test the other packages together.
//
//	                       schedule: one goroutine runs at a time, and a property decides who
//	publisher ─► CPU 0 ──┐     │
//	publisher ─► CPU 1 ──┼─► datapath/sim ──► packets to clients ─┐
//	userspace (own packets, repairs, joins, drains …) ────────────┴─► trace ─► property
//
// Each property is run as it is, and again with each of the defects that it must catch (defects_test.go): a property
// that passes with one fails its test. P2, P10 and P12 run the whole relay in virtual time.
package props
