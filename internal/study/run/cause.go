package run

import "github.com/fastrelay/fastrelay/datapath"

// cause is why a stream was dropped or reset.
type cause uint8

const (
	causeNone    cause = iota
	causeShare         // the policy drops a share
	causeReserve       // the plan has no more bytes for its importance
	causeGroup         // its group was cut
	causeStream        // the stream that it is on was dropped or reset before it came
	causeAge           // it was not sent within the policy's or the subscriber's time
	causeBehind        // the subscriber is too far behind
	causes
)

var causeNames = [causes]string{"none", "share", "reserve", "group", "stream", "age", "behind"}

func (c cause) String() string { return causeNames[c] }

func causeOf(r datapath.Reason) cause {
	switch r {
	case datapath.ReasonDropShare:
		return causeShare
	case datapath.ReasonDropReserve:
		return causeReserve
	case datapath.ReasonDropGroup:
		return causeGroup
	}
	return causeStream
}

// Causes returns the names of the reasons, in the order of Fate.Dropped and Fate.Reset but for the first, which is none.
func Causes() []string { return causeNames[1:] }
