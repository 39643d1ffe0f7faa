package relay

import (
	"slices"

	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// maxEarly is how many datagrams of unknown aliases are held for one publisher; what comes beyond them is dropped.
const maxEarly = 64

// earlyDatagrams are those that came before the SUBSCRIBE_OK that names their track, as when both are in one packet (draft-14 and
// draft-16, section "Datagrams": a receiver may buffer briefly or drop them). They are held only while a SUBSCRIBE is not answered
// yet, which its timeout bounds. Guarded by the peer's mu.
type earlyDatagrams struct {
	asking int // tracks that have been asked for, and are not known by an alias yet
	held   []earlyDatagram
}

type earlyDatagram struct {
	quicadapt.Datagram
	object wire.ObjectDatagram
}

// ask says that a track's alias may come. Each call needs one of answered.
func (p *peer) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.early.asking++
}

// answered ends ask. What is still held when nobody asks any more is dropped.
func (p *peer) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.early.asking--; p.early.asking > 0 {
		return
	}
	if n := len(p.early.held); n > 0 {
		p.relay.counts.add("unknown_alias", uint64(n))
		p.early.held = nil
	}
}

// trackOrHold returns the track of a datagram. Without one it holds the datagram or drops it.
func (p *peer) trackOrHold(d *quicadapt.Datagram, o *wire.ObjectDatagram) *track {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, e := p.aliases[o.TrackAlias], &p.early
	switch {
	case t != nil:
	case e.asking > 0 && len(e.held) < maxEarly:
		e.held = append(e.held, earlyDatagram{*d, *o})
	default:
		p.relay.counts.add("unknown_alias", 1)
	}
	return t
}

// take takes out the datagrams of an alias, in the order in which they came.
func (e *earlyDatagrams) take(alias uint64) (taken []earlyDatagram) {
	e.held = slices.DeleteFunc(e.held, func(d earlyDatagram) bool {
		if d.object.TrackAlias == alias {
			taken = append(taken, d)
		}
		return d.object.TrackAlias == alias
	})
	return taken
}
