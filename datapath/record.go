package datapath

import "time"

// Record tells userspace what the datapath did for one client with one packet: sent it (Reason Forwarded), took a number
// and failed to send (ReasonSendFailed), or sent nothing but opened a stream for the client or dropped a frame (any other reason,
// that of the first frame). Records are written before packets are sent: if that fails then, a second record of the packet follows,
// with ReasonSendFailed and no frames.
type Record struct {
	Time           time.Time // when it was sent
	Number         uint64    // packet number on the client's connection; only with Forwarded and ReasonSendFailed
	UpstreamNumber uint64    // packet number on the upstream
	Upstream       UpstreamID
	Client         ClientID
	Generation     uint8  // of the client, as in its Space: a record of another generation is of a predecessor
	Reason         Reason // of the packet
	Size           uint16 // UDP payload bytes that were sent
	Policy         uint32 // version of the policy that decided, see Space.PolicyVersion
	Frames         []RecordFrame
}

// RecordFrame is a media frame of a record.
type RecordFrame struct {
	UpstreamStream uint64 // with Datagram: position of the DATAGRAM frame among those of its packet, from 0
	ClientStream   uint64
	Offset         uint64 // in the client's stream
	Length         uint32 // bytes of stream data or of the datagram, for which the plan has room or not
	Group          uint64
	Cut            uint64        // 1 + the group that was cut for the subscription, before the frame was decided; 0: none
	Plan           time.Duration // how far ahead of Time the plan was filled, before the frame was decided; 0 without a policy
	Track          TrackID
	Slot           uint8 // of the client's stream in its Space
	Priority       uint8 // of the publisher
	Subscriber     uint8 // the subscription's priority
	Fin            bool
	Opened         bool // this frame opened the stream for the client, which the datapath owns from now on
	Datagram       bool
	// Reason is Forwarded for what is part of the packet. If it is Dropped, nobody is to send it: the stream that the frame opens, which
	// has no ClientStream then, the rest of one that was begun, or the datagram. What follows of a dropped stream has no record. Where
	// another CPU opened the stream, its record may come after the one that drops the rest. Otherwise the frame opened a stream, and
	// userspace is to send it.
	Reason Reason
}
