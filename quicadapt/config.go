package quicadapt

import (
	"log/slog"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Config says what a Boundary is for.
type Config struct {
	// Datapath forwards packets; nil for none.
	Datapath datapath.Datapath
	// Null leaves 1-RTT packets on the wire unprotected. Both ends need it. For labs alone: anybody on the path can read
	// and change everything, and anybody who can send from the peer's address can inject.
	Null bool
	// PriorityCID tells the priority of each packet in the last byte of its connection ID, to peers that have this option
	// too; see Conn.SetStreamPriority. Such a peer is known by its connection IDs, of datapath.CIDLen bytes with a last
	// one of 0, and others are served as without. Default: off.
	PriorityCID bool
	// Congestion names what controls how much the datapath and repairs may send: scream, which is for live media, newreno, cubic or bbr; see
	// docs/recovery.md. Default: scream. quic-go's own packets have a controller of quic-go's.
	Congestion string
	// MaxUnacked bounds the bytes of fast streams that one client has not acknowledged; default 16 MiB. A client that is
	// further behind loses its streams.
	MaxUnacked int
	// DrainInterval is how often an idle datapath's records are read; default 20 ms. A busy one's are read with every batch
	// of received packets.
	DrainInterval time.Duration
	// OnRecord is called with each record of the datapath, which is valid during the call and must not be changed, before anything else
	// learns of it. It must be quick. Default: nothing.
	OnRecord func(*datapath.Record)
	// Logger is for what goes wrong; default: discarded.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxUnacked == 0 {
		c.MaxUnacked = 16 << 20
	}
	if c.DrainInterval == 0 {
		c.DrainInterval = 20 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// ConnStats counts what a Boundary did for one connection. Payload bytes are those of fast streams.
type ConnStats struct {
	OwnPackets       uint64 // 1-RTT packets of quic-go
	ForwardedPackets uint64 // sent by the datapath
	RepairPackets    uint64 // sent for fast streams by quicadapt
	ForwardedBytes   uint64 // payload bytes that the datapath was first to send
	RepairBytes      uint64 // payload bytes that quicadapt was first to send, since the datapath did not
	ResentBytes      uint64 // payload bytes sent again, since they were lost
	LostPackets      uint64 // media packets declared lost
	SpuriousLosses   uint64 // of them, acknowledged after all
	ProbePackets     uint64 // of the repair packets, sent since the peer was silent (RFC 9002, section 6.2)
	KeyUpdates       uint64 // key updates on the wire that the boundary itself began
	FastStreams      uint64 // streams that the datapath opened
	FlowControlDrops uint64 // packets of quic-go held back because the datapath had used the credit
	Unopened         uint64 // packets that could not be opened, and were passed as they were or, on the null wire, dropped
	// RepairDelay is, in microseconds, how long after a lost packet was sent its bytes were sent again; RepairDelayRTT is the
	// same in hundredths of the smoothed RTT at that time.
	RepairDelay, RepairDelayRTT Histogram

	// Of one connection, not of Totals: the path now.
	SmoothedRTT      time.Duration
	CongestionWindow uint64 // bytes, 0 before the connection joined
	BytesInFlight    uint64
}

// add adds what was counted for a connection. What describes a path is not a sum: it is left out.
func (s *ConnStats) add(o *ConnStats) {
	s.OwnPackets += o.OwnPackets
	s.ForwardedPackets += o.ForwardedPackets
	s.RepairPackets += o.RepairPackets
	s.ForwardedBytes += o.ForwardedBytes
	s.RepairBytes += o.RepairBytes
	s.ResentBytes += o.ResentBytes
	s.LostPackets += o.LostPackets
	s.SpuriousLosses += o.SpuriousLosses
	s.ProbePackets += o.ProbePackets
	s.KeyUpdates += o.KeyUpdates
	s.RepairDelay.Merge(&o.RepairDelay)
	s.RepairDelayRTT.Merge(&o.RepairDelayRTT)
	s.FastStreams += o.FastStreams
	s.FlowControlDrops += o.FlowControlDrops
	s.Unopened += o.Unopened
}
