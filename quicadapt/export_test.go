package quicadapt

import "github.com/fastrelay/fastrelay/datapath"

// OnRecord gives a record to the connection's boundary, as a drain does.
func OnRecord(c *Conn, r *datapath.Record) { c.c.b.onRecord(r) }

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
