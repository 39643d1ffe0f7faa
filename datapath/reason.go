package datapath

// Reason says how a packet, a frame, or a frame for one client ended in the datapath. Every one ends with exactly one. The
// list is shared with bpf/types.h, which a test compares by name and number.
type Reason uint8

// Reasons. Packet: counted once per packet, which goes to userspace alone. Frame: once per media frame, which no client
// gets. Client: once per client and frame that the client is subscribed to.
const (
	Forwarded Reason = iota // client: sent

	// Packet.
	ReasonLongHeader     // handshake packets
	ReasonUnknownCID     // to the relay's port, of no upstream
	ReasonGSO            // a super-packet that was not segmented yet
	ReasonFragment       // IP fragment, IP options or IPv6 extension header
	ReasonTruncated      // shorter than its headers say, or longer than MaxPacketSize
	ReasonAddress        // not from the upstream's address
	ReasonAuth           // packet protection does not verify
	ReasonReplay         // duplicate, or older than the replay window
	ReasonMalformedFrame // unknown or illegal frame
	ReasonTooManyFrames  // more than MaxFrames
	ReasonNoMedia        // nothing in it to forward: acknowledgments, control

	// Frame.
	ReasonUnknownTrack // no such alias on this upstream
	ReasonNoSubscriber // nobody subscribed to its track
	ReasonBadHeader    // not a subgroup stream or object datagram
	ReasonHeaderSplit  // the subgroup header is not whole in the stream's first frame
	ReasonStreamsFull  // no room for the stream's entry
	ReasonNotOpened    // stream without an entry: its start was not seen, or is at or below the watermark
	ReasonTooManyMedia // beyond MaxForward media frames in the packet

	// Client.
	ReasonStaleClient      // the client was replaced meanwhile
	ReasonSlowStream       // the slow path owns the stream for this client
	ReasonFiltered         // group outside the subscription
	ReasonCongestionWindow // the client's congestion window is full
	ReasonPaced            // sent faster than the client's pace allows
	ReasonPoolEmpty        // no reserved stream ID left
	ReasonClientStreams    // no room for the client's entry of the stream
	ReasonClosedStream     // userspace closed the stream
	ReasonStreamCredit     // MAX_STREAM_DATA
	ReasonConnectionCredit // MAX_DATA
	ReasonTooBig           // beyond the client's proven size
	ReasonPrefixSplit      // frame that starts or ends inside the rewritten prefix
	ReasonRingFull         // no room for the record
	ReasonNoRoute          // link-layer address of the client not learned yet
	ReasonSendFailed       // number taken, packet not sent
	ReasonContended        // lost too many races for a shared word
	ReasonWaiting          // behind what waits in userspace and is not less important
	ReasonDropShare        // dropped: the policy drops a share of what is of this importance
	ReasonDropReserve      // dropped: the plan has no more bytes for this importance
	ReasonDropGroup        // dropped: its group was cut, what it depends on was dropped
	ReasonDropStream       // dropped: the rest of a stream that was dropped

	reasonCount
)

// ReasonCount is the number of reasons.
const ReasonCount = int(reasonCount)

var reasonNames = [ReasonCount]string{
	"forwarded",
	"long_header", "unknown_cid", "gso", "fragment", "truncated", "address", "auth", "replay", "malformed_frame",
	"too_many_frames", "no_media",
	"unknown_track", "no_subscriber", "bad_header", "header_split", "streams_full", "not_opened", "too_many_media",
	"stale_client", "slow_stream", "filtered", "congestion_window", "paced", "pool_empty", "client_streams", "closed_stream", "stream_credit",
	"connection_credit", "too_big", "prefix_split", "ring_full", "no_route", "send_failed", "contended",
	"waiting", "drop_share", "drop_reserve", "drop_group", "drop_stream",
}

func (r Reason) String() string {
	if int(r) < ReasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// Dropped says whether r is the policy's decision: what it is about is not to be sent by anybody.
func (r Reason) Dropped() bool { return r >= ReasonDropShare && r <= ReasonDropStream }

// Counters counts how often each reason was given, indexed by Reason.
type Counters [ReasonCount]uint64

// Map returns the counters that are not zero, by the reasons' names.
func (c *Counters) Map() map[string]uint64 {
	m := make(map[string]uint64)
	for r, n := range c {
		if n > 0 {
			m[Reason(r).String()] = n
		}
	}
	return m
}
