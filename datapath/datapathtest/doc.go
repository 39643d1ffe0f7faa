// Package datapathtest is the conformance suite of datapaths: every backend runs it, so that all take the same decision
// and send the same bytes.
//
//	Builder ──frame──► Harness.Publish ──► [ Datapath ] ──► Harness.Sent, Drain, Counters
//
// A case says what goes in, and exactly what comes out, which records there are and how each counter changes. Faulty is
// a datapath whose calls fail as planned, for tests of those who use one.
//
//	Generate(seed) ──► Trace ──► Compare(Stage, Stage) ──► Divergence ──► Shrink
//
// A trace is a random sequence of what publishers, subscribers and userspace do. Two datapaths that it is played on must
// show the same after every step.
package datapathtest
