package quicadapt

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/fastrelay/fastrelay/datapath"
)

// Datagram is a DATAGRAM frame of an upstream, with what names it to the datapath.
type Datagram struct {
	Data         []byte
	PacketNumber uint64 // of the upstream's packet
	Index        uint64 // position among the DATAGRAM frames of its packet, from 0
}

// datagramQueueSize is how many datagrams wait to be read; quic-go keeps 128.
const datagramQueueSize = 512

// datagramQueue holds received datagrams. The oldest give way to new ones, as in a router.
type datagramQueue struct {
	ch   chan Datagram
	end  chan struct{}
	once sync.Once
}

func (q *datagramQueue) init() {
	q.ch, q.end = make(chan Datagram, datagramQueueSize), make(chan struct{})
}

func (q *datagramQueue) put(data []byte, number, index uint64) {
	d := Datagram{append([]byte(nil), data...), number, index}
	for {
		select {
		case q.ch <- d:
			return
		default:
		}
		select {
		case <-q.ch:
		default:
		}
	}
}

func (q *datagramQueue) close() { q.once.Do(func() { close(q.end) }) }

// ReceiveUpstreamDatagram returns the next datagram of a connection for which Upstream was called, and may have been refused by the datapath.
// quic-go's own ReceiveDatagram has them too, without their names.
func (c *Conn) ReceiveUpstreamDatagram(ctx context.Context) (Datagram, error) {
	select {
	case d := <-c.c.received.ch:
		return d, nil
	case <-c.c.received.end:
		return Datagram{}, net.ErrClosed
	case <-ctx.Done():
		return Datagram{}, context.Cause(ctx)
	}
}

// DatagramTaken says whether the datapath has seen to a datagram of an upstream for this connection, and what it did: it has sent
// it, with datapath.Forwarded, or the policy has dropped it. What it has not seen to is to be sent with SendDatagram.
func (c *Conn) DatagramTaken(up datapath.UpstreamID, d *Datagram) (r datapath.Reason, ok bool) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	r, ok = c.c.datagrams.set[datagramKey{up, d.PacketNumber, d.Index}]
	return r, ok
}

type datagramKey struct {
	upstream      datapath.UpstreamID
	number, index uint64
}

// datagramRing remembers what became of the last datagrams that the datapath saw to.
type datagramRing struct {
	set  map[datagramKey]datapath.Reason
	ring []datagramKey
	next int
}

func (r *datagramRing) put(k datagramKey, what datapath.Reason) {
	if r.set == nil {
		r.set = make(map[datagramKey]datapath.Reason)
	}
	if len(r.ring) < 2*datagramQueueSize {
		r.ring = append(r.ring, k)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = k
		r.next = (r.next + 1) % len(r.ring)
	}
	r.set[k] = what
}

// forget removes what became of datagrams of an upstream.
func (r *datagramRing) forget(up datapath.UpstreamID) {
	ring := make([]datagramKey, 0, len(r.ring))
	for i := range r.ring { // from the oldest on
		k := r.ring[(r.next+i)%len(r.ring)]
		if k.upstream == up {
			delete(r.set, k)
		} else {
			ring = append(ring, k)
		}
	}
	r.ring, r.next = ring, 0
}

var errNoDatapath = errors.New("this boundary has no datapath")
