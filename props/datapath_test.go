package props_test

import (
	"testing"

	"pgregory.net/rapid"
)

// of makes a property of what a world finds.
func of(name string, prof profile) property {
	return func(t *rapid.T, d *defect) error { return runWorld(t, prof, d).verdict(name) }
}

// TestP1: no packet number is sent twice on a connection, by any mix of CPUs and userspace, over wraps of the wire's 32
// bits, joins and new clients in an old one's place; and none that is taken goes unused.
func TestP1(t *testing.T) {
	holds(t, "P1", 400, of("P1", profile{packets: 14, ops: 20, anyCPU: true, failing: true}))
	holds(t, "P1 by churn", 200, of("P1", profile{packets: 12, ops: 6, kinds: []int{opOwn, opReplace, opJoin}}))
}

// TestP3: for one subscription, upstream stream and client stream are one to one, and fast or slow for ever.
func TestP3(t *testing.T) {
	holds(t, "P3", 600, of("P3", profile{packets: 20, ops: 25, tight: true}))
}

// TestP3OnTwoCPUs is P3 with packets of one upstream on several CPUs at once, as when a queue moves between two packets.
func TestP3OnTwoCPUs(t *testing.T) {
	holds(t, "P3 on two CPUs", 600, of("P3", profile{packets: 20, ops: 25, anyCPU: true}))
	holds(t, "P3 on two CPUs with evictions", 1200, of("P3", profile{packets: 10, ops: 25, anyCPU: true, single: true, kinds: []int{opRead, opEvict, opEvict}}))
	holds(t, "P3", 300, of("P3", profile{packets: 20, ops: 25, anyCPU: true, failing: true, tight: true}))
}

// TestP3Unreadable is P3 where the datapath cannot read some packets, so that userspace sees the start of a stream first.
func TestP3Unreadable(t *testing.T) {
	holds(t, "P3 with packets that cannot be read", 1200, of("P3", profile{packets: 12, ops: 25, anyCPU: true, unreadable: true, kinds: []int{opRead}}))
}

// TestP4: limits are never exceeded, final sizes are right, and credit of what failed comes back.
func TestP4(t *testing.T) {
	holds(t, "P4", 600, of("P4", profile{packets: 16, ops: 25, anyCPU: true, failing: true, pressure: true}))
	holds(t, "P4 with little", 200, of("P4", profile{packets: 16, ops: 8, anyCPU: true, pressure: true, kinds: []int{opOwnData, opOwnData, opRepair}}))
}

// TestP6: before an ACK is processed, the record of every packet that it names has been read, also when another CPU
// is writing it.
func TestP6(t *testing.T) {
	holds(t, "P6", 400, of("P6", profile{packets: 16, ops: 25, anyCPU: true, failing: true}))
}

// TestP7: every (client, frame) ends with exactly one reason, and the counters add up to records and packets.
func TestP7(t *testing.T) {
	holds(t, "P7", 300, of("P7", profile{packets: 20, ops: 12, still: true, single: true, tight: true, failing: true, pressure: true, anyCPU: true}))
	holds(t, "P7", 200, of("P7", profile{packets: 20, ops: 12, still: true, failing: true, pressure: true}))
	byTrack := func(t *rapid.T) uint8 { return rapid.SampledFrom([]uint8{0, 60, 128, 250}).Draw(t, "priority") }
	holds(t, "P7 with policies", 200, of("P7", profile{packets: 20, ops: 12, still: true, policies: true, priority: byTrack}))
	holds(t, "P7 with policies", 100, of("P7", profile{packets: 20, ops: 12, still: true, policies: true, priority: byTrack, anyCPU: true, failing: true}))
}

// TestP10Datapath is P10 for what the datapath sends: frames of streams and datagrams that a subscription selects, and nothing
// else. TestP10 is about the relay.
func TestP10Datapath(t *testing.T) {
	holds(t, "P10 of the datapath", 300, of("P10", profile{packets: 16, ops: 20}))
}
