// Package congestion decides how many bytes may be in flight to a peer, and how fast they may leave (RFC 9002, section 7).
//
//	          OnSent, OnAcked, OnLost, OnAck, OnPersistentCongestion
//	recovery ───────────────────────────────────────────────────────► Controller
//	          ◄─────────────────────────────────────── Window, Rate
//
// A Controller has no clock, no timer and no packets of its own: it is told of each packet, with times in nanoseconds of
// one clock, and asked for two figures. It does not send, and it does not hold back: who sends keeps to the figures.
package congestion

// Packet is what a controller learns of a packet that counts as in flight.
type Packet struct {
	Sent int64 // when, nanoseconds
	Size int   // bytes of UDP payload
	// How things stood when it was sent (draft-ietf-ccwg-bbr, section 4.1.2.1.2): bytes in flight, itself included, and all bytes that had been
	// delivered and lost.
	InFlight, Delivered, Lost uint64
	// AppLimited says that the sender had used less than the window and the rate allow.
	AppLimited bool
}

// Sample is what one ACK frame tells about the path, once all packets that it acknowledges have been told.
type Sample struct {
	// RTT, in nanoseconds; 0 if this ACK gave no sample. Smoothed and Min are always set once there was one.
	RTT, Smoothed, Min int64
	// AckDelay is how much of RTT the peer says it waited, in nanoseconds, at most its max_ack_delay.
	AckDelay int64
	// Delivered is the bytes that this ACK acknowledged, Total all so far.
	Delivered, Total uint64
	// Rate is the delivery rate in bytes per second since the newest packet acknowledged was sent, 0 if unknown. With
	// AppLimited the path could have taken more.
	Rate       uint64
	AppLimited bool
	// Newest is the packet that was sent last of those that this ACK acknowledges.
	Newest Packet
	// Lost is all bytes so far that OnLost told of.
	Lost uint64
	// InFlight is what is left in flight.
	InFlight uint64
}

// Estimator is a Controller that knows how many bytes per second the path carries. What it sends at differs from that on purpose, to probe.
type Estimator interface {
	// Bandwidth returns 0 as long as nothing is known.
	Bandwidth() uint64
}

// Burster is a Controller that says how many bytes may leave at once. Without it, that is up to who sends (RFC 9002, section 7.7).
type Burster interface {
	// Burst returns at least two datagrams. rate is that of pacing, in bytes per second.
	Burst(rate uint64) uint64
}

// Controller is a congestion control algorithm for one path. It is not safe for concurrent use.
type Controller interface {
	// OnSent is called when a packet becomes known as sent; inFlight includes it.
	OnSent(p Packet, inFlight uint64)
	// OnAcked is called for each packet that is newly acknowledged; inFlight is what was in flight when the ACK came.
	OnAcked(now int64, p Packet, inFlight uint64)
	// OnLost is called for each packet that is declared lost, before OnAcked of the same ACK. Packets whose loss says
	// nothing about congestion, as probes of the path's MTU (RFC 9000, section 14.4), are not told.
	OnLost(now int64, p Packet)
	// OnPersistentCongestion is called after OnLost when packets were lost over so long a time that what is known of the
	// path is void (RFC 9002, section 7.6).
	OnPersistentCongestion(now int64)
	// OnAck is called once for each ACK frame that acknowledges anything new, last.
	OnAck(now int64, s Sample)
	// SetDatagramSize tells the largest datagram that is sent, in bytes.
	SetDatagramSize(n int)
	// Window returns how many bytes may be in flight.
	Window() uint64
	// Rate returns how many bytes per second may leave, 0 for no limit but the window. smoothed is the smoothed RTT in
	// nanoseconds, 0 if unknown.
	Rate(smoothed int64) uint64
}
