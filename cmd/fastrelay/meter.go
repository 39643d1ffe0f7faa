package main

import (
	"sync/atomic"

	"github.com/fastrelay/fastrelay/datapath"
)

// forwarded counts what a datapath sent, by its records.
type forwarded struct {
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"` // of streams and datagrams, with their MoQ headers
	Datagrams uint64 `json:"datagrams"`
	Lost      uint64 `json:"lost"` // packets that were numbered and not sent; the relay repairs them
}

// meteredDatapath counts a datapath's records on their way to the relay.
type meteredDatapath struct {
	datapath.Datapath
	packets, bytes, datagrams, lost atomic.Uint64
}

// Drain implements datapath.Datapath.
func (m *meteredDatapath) Drain(f func(*datapath.Record)) error {
	return m.Datapath.Drain(func(r *datapath.Record) {
		switch r.Reason {
		case datapath.Forwarded:
			m.packets.Add(1)
			for i := range r.Frames {
				if r.Frames[i].Reason != datapath.Forwarded {
					continue
				}
				m.bytes.Add(uint64(r.Frames[i].Length))
				if r.Frames[i].Datagram {
					m.datagrams.Add(1)
				}
			}
		case datapath.ReasonSendFailed:
			m.lost.Add(1)
		}
		f(r)
	})
}

func (m *meteredDatapath) counts() forwarded {
	return forwarded{Packets: m.packets.Load(), Bytes: m.bytes.Load(), Datagrams: m.datagrams.Load(), Lost: m.lost.Load()}
}
