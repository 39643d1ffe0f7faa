package command

import (
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/delay"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/fastrelay/fastrelay/relay"
)

// demoReport is what demo --json prints; docs/demo-json.md explains it. The counts are those of the run with the fast path
// or, without a datapath, of the only run.
type demoReport struct {
	Datapath    string  `json:"datapath"`
	DatapathWhy string  `json:"datapath_why,omitempty"`
	Cipher      string  `json:"cipher"`
	Draft       int     `json:"draft"`
	Subscribers int     `json:"subscribers"`
	Hops        int     `json:"hops"`
	Input       string  `json:"input"`
	Layout      string  `json:"layout"`
	Loss        float64 `json:"loss"`
	PathDelay   int64   `json:"path_delay_us"`
	Rate        uint64  `json:"rate"` // bits per second, 0: no bottleneck
	Heuristic   string  `json:"heuristic,omitempty"`

	ObjectsPublished  int    `json:"objects_published"`
	ObjectsExpected   int    `json:"objects_expected"`
	ObjectsDelivered  int    `json:"objects_delivered"`
	ObjectsCorrupt    int    `json:"objects_corrupt"`
	ObjectsMissing    int    `json:"objects_missing"`
	ObjectsReset      int    `json:"objects_reset"`
	ObjectsDuplicate  int    `json:"objects_duplicate"`
	ObjectsUnexpected int    `json:"objects_unexpected"`
	BytesDelivered    uint64 `json:"bytes_delivered"`

	PacketsForwarded uint64            `json:"packets_forwarded"`
	PacketsSlow      uint64            `json:"packets_slow"`
	ForwardedShare   float64           `json:"forwarded_share"`
	PacketsLost      uint64            `json:"packets_lost"`
	Repairs          uint64            `json:"repairs"`
	Reasons          map[string]uint64 `json:"reasons"`

	RepairDelay      repairDelay `json:"repair_delay_us"`
	RepairsWithinRTT float64     `json:"repairs_within_1_5_rtt"` // share

	RelayDelay relayDelay                    `json:"relay_delay_us"`
	DelayFrom  string                        `json:"delay_from"` // kernel or socket: where the timestamps were taken
	SlowModes  map[string]delay.Distribution `json:"slow_modes"`
	Runs       []demoRun                     `json:"runs"`
	Plot       string                        `json:"plot,omitempty"`
	Pcap       []string                      `json:"pcap,omitempty"`
	OK         bool                          `json:"ok"`
}

type relayDelay struct {
	Fast delay.Distribution `json:"fast"`
	Slow delay.Distribution `json:"slow"`
}

// repairDelay is the distribution of how long after lost packets were sent their bytes were sent again, in microseconds.
type repairDelay struct {
	N    uint64 `json:"n"` // repairs of lost packets
	P50  uint64 `json:"p50"`
	P90  uint64 `json:"p90"`
	P99  uint64 `json:"p99"`
	P999 uint64 `json:"p999"`
	Max  uint64 `json:"max"`
}

func newRepairDelay(h *quicadapt.Histogram) repairDelay {
	return repairDelay{h.Count, h.Quantile(.5), h.Quantile(.9), h.Quantile(.99), h.Quantile(.999), h.Max}
}

// soonRTT is what is soon for a repair, in hundredths of the RTT: a loss is seen a little after one, in an acknowledgment of later packets.
const soonRTT = 150

// mediaLayer is what became of the media of one priority: objects as subscribers have them, streams as the relay has them.
type mediaLayer struct {
	endpoint.Layer
	Relay relay.Tally `json:"relay"`
}

// relayRun is what one of the relays forwarded in a run.
type relayRun struct {
	PacketsForwarded uint64            `json:"packets_forwarded"`
	BytesForwarded   uint64            `json:"bytes_forwarded"`
	ForwardedShare   float64           `json:"forwarded_share"`
	Repairs          uint64            `json:"repairs"`
	Reasons          map[string]uint64 `json:"reasons"`
}

// demoRun is one run of the clip.
type demoRun struct {
	Mode             string             `json:"mode"` // fast, slow-aead, slow-null or tail-drop
	Datapath         string             `json:"datapath"`
	Cipher           string             `json:"cipher"`
	ObjectsPublished int                `json:"objects_published"`
	ObjectsExpected  int                `json:"objects_expected"`
	ObjectsDelivered int                `json:"objects_delivered"`
	ObjectsCorrupt   int                `json:"objects_corrupt"`
	ObjectsMissing   int                `json:"objects_missing"`
	ObjectsReset     int                `json:"objects_reset"`
	PacketsForwarded uint64             `json:"packets_forwarded"`
	PacketsSlow      uint64             `json:"packets_slow"`
	PacketsLost      uint64             `json:"packets_lost"` // by --loss, both directions
	BytesForwarded   uint64             `json:"bytes_forwarded"`
	Repairs          uint64             `json:"repairs"`     // packets that the relay sent for streams of the datapath
	BytesMedia       uint64             `json:"bytes_media"` // of subscribed tracks, with their MoQ headers, that reached the subscribers
	ForwardedShare   float64            `json:"forwarded_share"`
	Reasons          map[string]uint64  `json:"reasons"`
	Heuristic        string             `json:"heuristic,omitempty"`
	Media            []mediaLayer       `json:"media"`
	Relays           []relayRun         `json:"relays"` // from the publisher on; the counts above are of the last one
	Delay            delay.Distribution `json:"relay_delay_us"`
	Files            []string           `json:"files"`
	Problems         []string           `json:"problems"` // why the run is not whole; empty if it is

	comparison endpoint.Comparison
	boundary   quicadapt.ConnStats
	delays     *delay.Result
}
