package heuristic

import (
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Age is "age": everything is admitted, waits in userspace in the order of its importance, and is given up when it is too old to be of use:
// the delivery timeout of MoQT, with a default for subscribers that state none.
//
// Use it where a subscriber's deadline is all that counts and streams are independent, as chat or sensor data. Video suffers: bytes are sent of
// streams that then expire, and of frames whose references did.
type Age struct {
	Limit time.Duration // default: the subscriber's timeout, or 500 ms
}

func (a *Age) Name() string { return "age" }

func (a *Age) Policy(v *View) datapath.Policy {
	return datapath.Policy{Bands: []datapath.Band{{UpTo: datapath.MaxImportance, MaxAge: max(or(a.Limit, or(v.Timeout, defaultQueue)), 1)}}}
}
