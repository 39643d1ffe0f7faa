package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// datagramQueue is how many datagrams wait for one peer. quic-go blocks when it has 32.
const datagramQueue = 128

// receiveDatagram returns the next datagram of a publisher that the datapath never serves.
func (p *peer) receiveDatagram(ctx context.Context) (d quicadapt.Datagram, err error) {
	p.unnamed++
	d.PacketNumber = p.unnamed // which no other one has either
	d.Data, err = p.conn.ReceiveDatagram(ctx)
	return d, err
}

// readDatagrams forwards the datagrams of a publisher until its session ends.
func (p *peer) readDatagrams(receive func(context.Context) (quicadapt.Datagram, error)) {
	for {
		d, err := receive(p.conn.Context())
		if err != nil {
			return
		}
		o, err := wire.ParseObjectDatagram(d.Data, p.draft)
		if err != nil {
			p.violation(fmt.Errorf("datagram: %w", err))
			return
		}
		if t := p.trackOrHold(&d, &o); t != nil {
			t.datagram(&d, &o)
		}
	}
}

// datagram sends a datagram on to the subscribers that want it and that the datapath has not sent it to. One that
// has not been sent SUBSCRIBE_OK is passed over: moqtransport ends its session on an alias that it does not know.
func (t *track) datagram(d *quicadapt.Datagram, o *wire.ObjectDatagram) {
	t.datagrams.Add(1)
	if o.DefaultPriority {
		o.Priority = t.sub.DefaultPriority
	}
	t.holdDatagram(o)
	l := moq.Location{Group: o.Group, Object: o.ObjectID}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.content || t.largest.Less(l) {
		t.content, t.largest = true, l
	}
	for _, s := range t.subs {
		rank, what, taken := s.rank(o.Priority), datapath.Forwarded, false
		if s.bound {
			what, taken = s.peer.fast.DatagramTaken(t.upstream, d)
		}
		if !taken && (s.leaving || !s.wants(o.Group) || l.Less(s.start)) {
			continue
		}
		early := false
		if !taken {
			select {
			case <-s.accepted:
				what = s.admitsDatagram(d, o, rank)
			default:
				early = true
			}
		}
		s.peer.regulator.measure(rank, t.number, o.Group, 1<<63|d.PacketNumber<<8^d.Index, len(d.Data), what)
		s.ledger.published(o.Priority)
		switch {
		case early:
			s.loseDatagram(o.Priority, "datagram_too_early")
		case what != datapath.Forwarded:
			s.lost.Add(1)
			s.ledger.dropped(o.Priority, what.String())
			if taken {
				s.noteCut(o.Group, rank)
			} else { // the datapath counts its own
				t.relay.counts.add(what.String(), 1)
			}
		case taken:
			s.datagrams.Add(1)
			s.forwarded.Add(1)
			s.ledger.delivered(o.Priority)
		default:
			s.sendDatagram(d.Data, o, rank)
		}
	}
}

// admitsDatagram has the policy decide on a datagram that the slow path would send; the reason is datapath.Forwarded if it may. What
// waits before it counts as if it had been sent: the plan is drawn from when it is.
func (s *subscriber) admitsDatagram(d *quicadapt.Datagram, o *wire.ObjectDatagram, rank uint16) datapath.Reason {
	size := uint64(s.peer.datagramBytes.Load()) + uint64(len(d.Data))
	return s.decide(&datapath.Offer{Importance: rank, Group: o.Group, Sample: d.PacketNumber, Size: size})
}

// sendDatagram queues a datagram for the subscriber's peer. It needs track.mu.
func (s *subscriber) sendDatagram(data []byte, o *wire.ObjectDatagram, rank uint16) {
	var b []byte
	if from, to := s.track.publisher.draft, s.peer.draft; from == to {
		b = wire.RewriteDatagramAlias(make([]byte, 0, len(data)+8), data, o, s.alias)
	} else {
		var err error
		if b, err = transcodeDatagram(o, s.alias, from, to); err != nil {
			s.loseDatagram(o.Priority, "malformed_extensions")
			return
		}
	}
	var due time.Time
	if useful := s.usefulFor(rank); useful > 0 {
		due = time.Now().Add(useful)
	}
	queue := s.peer.datagramQueue()
	s.peer.datagramBytes.Add(int64(len(b)))
	select {
	case queue <- outDatagram{s, b, o.Priority, due}:
	default:
		s.peer.datagramBytes.Add(-int64(len(b)))
		s.loseDatagram(o.Priority, "datagram_queue_full")
	}
}

// loseDatagram counts a datagram that is not sent.
func (s *subscriber) loseDatagram(priority uint8, why string) {
	s.lost.Add(1)
	s.ledger.dropped(priority, why)
	s.track.relay.counts.add(why, 1)
}

// transcodeDatagram writes a datagram in another draft.
func transcodeDatagram(o *wire.ObjectDatagram, alias uint64, from, to wire.Draft) ([]byte, error) {
	c := *o
	c.TrackAlias, c.DefaultPriority = alias, false
	if to == wire.Draft16 && c.HasStatus {
		c.Extensions = nil // not allowed there
		if c.Status == wire.StatusDoesNotExist {
			return nil, errMalformedExtensions // draft 16 has no such status
		}
	}
	var err error
	if c.Extensions, err = wire.TranscodeExtensions(nil, c.Extensions, from, to); err != nil {
		return nil, errMalformedExtensions
	}
	return c.Append(nil, to), nil
}

type outDatagram struct {
	s        *subscriber
	b        []byte
	priority uint8
	due      time.Time // afterwards it is of no use; zero: never
}

// datagramQueue returns the queue of datagrams to the peer. The first call starts a goroutine that empties it, since
// quic-go blocks while a connection cannot send.
func (p *peer) datagramQueue() chan<- outDatagram {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.datagrams == nil {
		p.datagrams = make(chan outDatagram, datagramQueue)
		p.relay.spawn(p.sendDatagrams)
	}
	return p.datagrams
}

func (p *peer) sendDatagrams() {
	for {
		select {
		case d := <-p.datagrams:
			if !d.due.IsZero() && time.Now().After(d.due) {
				p.datagramBytes.Add(-int64(len(d.b)))
				d.s.loseDatagram(d.priority, "delivery_timeout")
				continue
			}
			send := p.session.SendDatagram
			if c, ok := p.conn.(prioritized); ok {
				send = func(b []byte) error { return c.SendDatagramPriority(b, d.priority) }
			}
			err := send(d.b)
			p.datagramBytes.Add(-int64(len(d.b)))
			var size *quic.DatagramTooLargeError
			switch {
			case err == nil:
				d.s.datagrams.Add(1)
				d.s.bytes.Add(uint64(len(d.b)))
				d.s.ledger.delivered(d.priority)
			case errors.As(err, &size):
				d.s.loseDatagram(d.priority, "datagram_too_large")
			default:
				d.s.loseDatagram(d.priority, "datagram_not_sent")
			}
		case <-p.conn.Context().Done():
			return
		}
	}
}
