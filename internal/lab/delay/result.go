package delay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Result is what Analyze computes.
type Result struct {
	Start       time.Time    // when the first byte of media left the publisher
	Total       Distribution // of all subscribers together
	Subscribers []Subscriber // connections at the subscribers' interface, in the order of their first packets
	Publisher   Readable     // at the publisher's interface
	Subscriber  Readable     // at the subscribers' interface
}

// Subscriber is one connection of a subscriber.
type Subscriber struct {
	Name   string // address and port
	Delay  Distribution
	Points []Point // all delays, in the order of their At

	Unmatched uint64 // bytes of media that never left the publisher; should be 0
	Different uint64 // those among them that have the place of one of the publisher's bytes and are not that byte
	Missing   uint64 // bytes that left the publisher and never arrived, from the first stream on that the subscriber got a byte of
}

// Point is the delay of some bytes.
type Point struct {
	At    time.Duration // when they left the publisher, since Result.Start
	Delay time.Duration
	Bytes uint64
}

// Distribution is the distribution of the delays of bytes, in microseconds. The percentile p is the least delay that at least
// p of the bytes do not exceed. They are all 0 if N is.
type Distribution struct {
	N    uint64  `json:"n"` // bytes
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Readable says how much of a capture could be read.
type Readable struct {
	Packets   int    // UDP packets
	Strange   int    // packets that are not of a connection whose start is in the capture, or not whole
	Unopened  int    // packets of 1-RTT that could not be opened: no or wrong keys
	Malformed int    // opened packets with a frame, and control streams with a message, that cannot be parsed
	Unknown   uint64 // bytes of streams that belong to no track that was subscribed to, or whose header is not whole
}

// Err returns an error if the delays are not those of all bytes. Missing bytes are none: they have no delay.
func (r *Result) Err() error {
	var errs []error
	for _, side := range []struct {
		name string
		r    *Readable
	}{{"publisher's", &r.Publisher}, {"subscribers'", &r.Subscriber}} {
		for _, c := range []struct {
			n    uint64
			what string
		}{
			{uint64(side.r.Strange), "packets of unknown connections"},
			{uint64(side.r.Unopened), "packets that the key log does not open"},
			{uint64(side.r.Malformed), "packets or messages that cannot be parsed"},
			{side.r.Unknown, "bytes of streams that belong to no track"},
		} {
			if c.n > 0 {
				errs = append(errs, fmt.Errorf("%s capture has %d %s", side.name, c.n, c.what))
			}
		}
	}
	for i := range r.Subscribers {
		if s := &r.Subscribers[i]; s.Unmatched > 0 {
			errs = append(errs, fmt.Errorf("subscriber %s got %d bytes that the publisher did not send", s.Name, s.Unmatched))
		}
	}
	return errors.Join(errs...)
}

// Distribute returns the distribution of the delays of points.
func Distribute(points ...[]Point) Distribution {
	all := slices.Concat(points...)
	slices.SortFunc(all, func(a, b Point) int { return cmp.Compare(a.Delay, b.Delay) })
	var d Distribution
	for i := range all {
		d.N += all[i].Bytes
	}
	if d.N == 0 {
		return d
	}
	// Each percentile is the delay of the byte of that rank, from 1 on; they rise, so one pass finds all.
	ranks := [...]struct {
		rank  uint64
		value *float64
	}{
		{rank(d.N, 500), &d.P50}, {rank(d.N, 900), &d.P90}, {rank(d.N, 990), &d.P99}, {rank(d.N, 999), &d.P999}, {d.N, &d.Max},
	}
	next, seen := 0, uint64(0)
	for i := range all {
		seen += all[i].Bytes
		for next < len(ranks) && ranks[next].rank <= seen {
			*ranks[next].value = float64(all[i].Delay) / float64(time.Microsecond)
			next++
		}
	}
	return d
}

// rank returns the least number of n bytes that are at least thousandths of n.
func rank(n, thousandths uint64) uint64 {
	// Not n*thousandths/1000, which may overflow.
	return n/1000*thousandths + (n%1000*thousandths+999)/1000
}
