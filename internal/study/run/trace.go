package run

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/recovery"
)

// Trace writes what passes between the relay and the first subscriber, as the relay sees it: a capture of packets with the null
// cipher, of which the first bytes are kept, and a qlog (JSON text sequences, RFC 7464) with the policies beside QUIC's events.
type Trace struct {
	pcap    *sim.Pcap
	capture *bufio.Writer
	qlog    *bufio.Writer
	line    []byte
	packet  []byte
	frames  []byte
	err     error
	acks    uint64 // packets of the subscriber
	last    datapath.Policy
	told    bool // there was a policy
	metric  [7]uint64
}

// traceStart is when runs begin by the clocks of their traces.
var traceStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Ends of the path, as in traces.
var (
	relayAddr      = netip.MustParseAddrPort("192.0.2.1:4433")
	subscriberAddr = netip.MustParseAddrPort("198.51.100.1:50000")
)

// NewTrace returns a Trace that writes to pcap and qlog. title says of what run.
func NewTrace(pcap, qlog io.Writer, title string) (*Trace, error) {
	t := &Trace{capture: bufio.NewWriterSize(pcap, 1<<16), qlog: bufio.NewWriterSize(qlog, 1<<16)}
	var err error
	if t.pcap, err = sim.NewPcap(t.capture); err != nil {
		return nil, err
	}
	quoted, err := json.Marshal(title)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(t.qlog, "\x1e"+`{"file_schema":"urn:ietf:params:qlog:file:sequential","serialization_format":"application/qlog+json-seq","title":%s,`+
		`"trace":{"event_schemas":["urn:ietf:params:qlog:events:quic-12"],"vantage_point":{"type":"server"},`+
		`"common_fields":{"reference_time":{"clock_type":"system","epoch":%q}}}}`+"\n", quoted, traceStart.Format(time.RFC3339))
	return t, err
}

// Close writes what is left, and returns the first error.
func (t *Trace) Close() error {
	for _, err := range []error{t.pcap.Err(), t.capture.Flush(), t.qlog.Flush()} {
		if t.err == nil {
			t.err = err
		}
	}
	return t.err
}

// event begins a line.
func (t *Trace) event(now int64, name string) {
	t.line = append(t.line[:0], "\x1e{\"time\":"...)
	t.line = appendMilliseconds(t.line, now-epoch)
	t.line = append(t.line, ",\"name\":\""...)
	t.line = append(t.line, name...)
	t.line = append(t.line, "\",\"data\":{"...)
}

// end ends a line.
func (t *Trace) end() {
	t.line = append(t.line, "}}\n"...)
	if _, err := t.qlog.Write(t.line); err != nil && t.err == nil {
		t.err = err
	}
}

// field appends a number to the line. It is not the first.
func (t *Trace) field(name string, v uint64) {
	t.line = append(t.line, ",\""...)
	t.line = append(t.line, name...)
	t.line = append(t.line, "\":"...)
	t.line = strconv.AppendUint(t.line, v, 10)
}

// appendMilliseconds appends a time to the microsecond.
func appendMilliseconds(b []byte, ns int64) []byte {
	us := ns / 1000
	b = strconv.AppendInt(b, us/1000, 10)
	if us %= 1000; us > 0 {
		b = append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
	}
	return b
}

// header appends a packet's header and size.
func (t *Trace) header(number uint64, size int) {
	t.line = append(t.line, `"header":{"packet_type":"1RTT"`...)
	t.field("packet_number", number)
	t.line = append(t.line, `},"raw":{"length":`...)
	t.line = strconv.AppendInt(t.line, int64(size), 10)
	t.line = append(t.line, '}')
}

// sent is told of each packet that is sent.
func (t *Trace) sent(c *client, number uint64, size int, kind recovery.Kind, x *contents) {
	t.event(c.w.now, "transport:packet_sent")
	t.header(number, size)
	t.line = append(t.line, `,"frames":[`...)
	for i, f := range x.pieces[:x.n] {
		if i > 0 {
			t.line = append(t.line, ',')
		}
		t.frame(c, f)
	}
	switch {
	case x.n > 0:
	case x.control > 0:
		t.line = append(t.line, `{"frame_type":"stream","stream_id":1`...)
		t.field("offset", uint64(x.control-1)*controlSize)
		t.field("length", controlSize)
		t.line = append(t.line, '}')
	case kind == recovery.Silent:
		t.line = append(t.line, `{"frame_type":"ack","acked_ranges":[[0,`...)
		t.line = strconv.AppendUint(t.line, t.acks, 10)
		t.line = append(t.line, `]]}`...)
	default:
		t.line = append(t.line, `{"frame_type":"ping"}`...)
	}
	t.line = append(t.line, ']')
	t.end()
	t.capturePacket(c, number, size, kind, x)
}

func (t *Trace) frame(c *client, f int32) {
	if f < 0 {
		t.line = append(t.line, `{"frame_type":"reset_stream"`...)
		t.field("stream_id", streamID(-1-f))
		t.field("error_code", codeDeliveryTimeout)
		t.field("final_size", c.finalSize(-1-f))
		t.line = append(t.line, '}')
		return
	}
	p := &c.w.program.pieces[f]
	t.line = append(t.line, `{"frame_type":"stream"`...)
	t.field("stream_id", streamID(p.stream))
	t.field("offset", uint64(p.offset))
	t.field("length", uint64(p.size))
	if p.fin {
		t.line = append(t.line, `,"fin":true`...)
	}
	t.line = append(t.line, '}')
}

// received is told of each ACK.
func (t *Trace) received(c *client, a *ack) {
	t.event(c.w.now, "transport:packet_received")
	t.header(t.acks, t.captureAck(c, a))
	t.acks++
	t.line = append(t.line, `,"frames":[{"frame_type":"ack","ack_delay":`...)
	t.line = appendMilliseconds(t.line, a.delay)
	t.line = append(t.line, `,"acked_ranges":[`...)
	for i, r := range slices.Backward(a.ranges) {
		if i < len(a.ranges)-1 {
			t.line = append(t.line, ',')
		}
		t.line = append(t.line, '[')
		t.line = strconv.AppendUint(t.line, r.Smallest, 10)
		t.line = append(t.line, ',')
		t.line = strconv.AppendUint(t.line, r.Largest, 10)
		t.line = append(t.line, ']')
	}
	t.line = append(t.line, `]}]`...)
	t.end()
}

// lost is told of each packet that is declared lost.
func (t *Trace) lost(c *client, p *recovery.Packet[contents]) {
	t.event(c.w.now, "recovery:packet_lost")
	t.line = append(t.line, `"header":{"packet_type":"1RTT"`...)
	t.field("packet_number", p.Number)
	t.line = append(t.line, '}')
	t.end()
}

// metrics is told after each ACK. What has not changed is left out, as qlog allows.
func (t *Trace) metrics(c *client) {
	rtt := &c.loss.RTT
	values := [...]struct {
		name  string
		value uint64
		time  bool
	}{
		{"min_rtt", uint64(rtt.Min), true}, {"smoothed_rtt", uint64(rtt.Smoothed), true}, {"latest_rtt", uint64(rtt.Latest), true},
		{"rtt_variance", uint64(rtt.Var), true}, {"congestion_window", c.loss.Window(), false}, {"bytes_in_flight", c.loss.InFlight(), false},
		{"pacing_rate", 8 * c.loss.Rate(), false},
	}
	t.event(c.w.now, "recovery:metrics_updated")
	first := true
	for i, v := range values {
		if t.metric[i] == v.value {
			continue
		}
		t.metric[i] = v.value
		if !first {
			t.line = append(t.line, ',')
		}
		first = false
		t.line = append(t.line, '"')
		t.line = append(t.line, v.name...)
		t.line = append(t.line, "\":"...)
		if v.time {
			t.line = appendMilliseconds(t.line, int64(v.value))
		} else {
			t.line = strconv.AppendUint(t.line, v.value, 10)
		}
	}
	if !first {
		t.end()
	}
}

// policy is told of each policy, and writes those that are new.
func (t *Trace) policy(c *client) {
	p := &c.policy
	if t.told && p.Rate == t.last.Rate && p.Burst == t.last.Burst && p.Overflow == t.last.Overflow && slices.Equal(p.Bands, t.last.Bands) {
		return
	}
	t.told, t.last = true, *p
	t.last.Bands = slices.Clone(p.Bands)
	t.event(c.w.now, "fastrelay:policy_set")
	t.line = append(t.line, `"version":`...)
	t.line = strconv.AppendUint(t.line, uint64(c.space.PolicyVersion()), 10)
	t.field("rate", p.Rate)
	t.field("burst", p.Burst)
	t.field("overflow", p.Overflow)
	t.field("path_rate", c.view.Rate)
	t.field("backlog", c.view.Backlog)
	t.line = append(t.line, `,"bands":[`...)
	for i, b := range p.Bands {
		if i > 0 {
			t.line = append(t.line, ',')
		}
		t.line = fmt.Appendf(t.line, `{"up_to":%d,"reserve":%d,"overflow":%t,"drop":%g,"by_group":%t,"cut":%t,"max_age":%g}`,
			b.UpTo, b.Reserve, b.Overflow, b.Drop, b.ByGroup, b.Cut, float64(b.MaxAge)/1e6)
	}
	t.line = append(t.line, ']')
	t.end()
}

// gaveUp is told of each stream that is dropped or reset.
func (t *Trace) gaveUp(c *client, n int32, s *sending) {
	name := "fastrelay:stream_dropped"
	if s.phase == reset {
		name = "fastrelay:stream_reset"
	}
	x, o := &c.w.program.streams[n], &c.w.program.objects[s.at]
	t.event(c.w.now, name)
	t.line = append(t.line, `"reason":"`...)
	t.line = append(t.line, s.why.String()...)
	t.line = append(t.line, `","class":"`...)
	t.line = append(t.line, o.class.String()...)
	t.line = append(t.line, '"')
	t.field("stream_id", streamID(n))
	t.field("group", x.group)
	t.field("importance", uint64(c.importanceOf(n)))
	t.field("size", uint64(x.bytes))
	t.end()
}
