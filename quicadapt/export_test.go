package quicadapt

import (
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/congestion"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// OnRecord gives a record to the connection's boundary, as a drain does.
func OnRecord(c *Conn, r *datapath.Record) { c.c.b.onRecord(r) }

// SetKeyLimits lowers the usage limits of keys, for connections to come.
func SetKeyLimits(b *Boundary, update, confidentiality, integrity uint64) {
	b.keyLimits = func(wire.Suite) keyLimits { return keyLimits{update, confidentiality, integrity} }
}

// NewController makes the congestion control of a path.
func NewController(b *Boundary) congestion.Controller { return b.newController(1200) }

// Known counts what a boundary knows of connections.
func Known(b *Boundary) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.conns) + len(b.byAddr) + len(b.byCID)
	for _, t := range [][]*conn{b.clients, b.ups} {
		for _, c := range t {
			if c != nil {
				n++
			}
		}
	}
	return n
}
