package run

import "github.com/fastrelay/fastrelay/internal/recovery"

// Trace writes what happens to the first subscriber.
type Trace struct{}

func (t *Trace) sent(*client, uint64, int, recovery.Kind, *contents) {}
func (t *Trace) lost(*client, *recovery.Packet[contents])            {}
func (t *Trace) metrics(*client)                                     {}
func (t *Trace) policy(*client)                                      {}
func (t *Trace) gaveUp(*client, int32, *sending)                     {}
