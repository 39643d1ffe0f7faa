package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// conn is a QUIC connection of the relay: a *quic.Conn, or a *quicadapt.Conn where there is a packet boundary.
type conn interface {
	moq.QUIC
	ReceiveDatagram(context.Context) ([]byte, error)
	RemoteAddr() net.Addr
}

// fastConn is what a connection offers in addition where there is a datapath. *quicadapt.Conn implements it.
type fastConn interface {
	// Upstream and Client make the connection known to the datapath. They may be called again.
	Upstream() (datapath.UpstreamID, error)
	Client() (datapath.ClientID, error)
	// Opened says whether the datapath is known to have opened a stream on this connection for a stream of the upstream, and of which
	// track. Settle makes that final for a stream of this upstream, and keeps the datapath with evict from opening it. Then FastStream is
	// asked once: it returns the sender of that stream, or nil. Unclaimed returns those of a track that it was not asked for.
	Opened(up datapath.UpstreamID, stream uint64) (track datapath.TrackID, ok bool)
	Settle(stream uint64, evict bool) error
	FastStream(up datapath.UpstreamID, stream uint64) *quicadapt.FastStream
	Unclaimed(up datapath.UpstreamID, track datapath.TrackID) []*quicadapt.FastStream
	// ReceiveUpstreamDatagram is ReceiveDatagram with what names the datagram to DatagramTaken.
	ReceiveUpstreamDatagram(context.Context) (quicadapt.Datagram, error)
	DatagramTaken(up datapath.UpstreamID, d *quicadapt.Datagram) (datapath.Reason, bool)
	// Reprioritize follows SetSubscription with another priority.
	Reprioritize(up datapath.UpstreamID, track datapath.TrackID, priority uint8)
	// SetPolicy, Admit and Path are for a client's policy.
	SetPolicy(*datapath.Policy) error
	Admit(*datapath.Offer) (r datapath.Reason, cut bool)
	Path() quicadapt.Path
	PolicyInUse() (client datapath.ClientID, generation uint8, version uint32)
}

var (
	_ conn     = (*quic.Conn)(nil)
	_ conn     = (*quicadapt.Conn)(nil)
	_ fastConn = (*quicadapt.Conn)(nil)
)

// prioritized is what a connection offers in addition where there is a packet boundary. *quicadapt.Conn implements it.
type prioritized interface {
	SetStreamPriority(id quic.StreamID, priority uint8)
	SendDatagramPriority(p []byte, priority uint8) error
}

var _ prioritized = (*quicadapt.Conn)(nil)

// listener accepts connections on the relay's socket.
type listener struct {
	accept func(context.Context) (conn, error)
	dial   func(context.Context, net.Addr, *tls.Config, *quic.Config) (conn, error) // from the same socket
	addr   net.Addr
	close  func() error
	totals func() quicadapt.ConnStats // of the packet boundary; nil without one
}

// listen opens the socket. A packet boundary is there only if something needs it: it costs a few percent.
func listen(cfg *Config) (*listener, error) {
	pc := cfg.Conn
	if pc == nil {
		var err error
		if pc, err = net.ListenPacket("udp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w", cfg.Addr, err)
		}
	}
	l, err := listenOn(pc, cfg)
	if err != nil && cfg.Conn == nil {
		err = errors.Join(err, pc.Close())
	}
	return l, err
}

func listenOn(pc net.PacketConn, cfg *Config) (*listener, error) {
	if cfg.Datapath != nil || cfg.Null || cfg.PriorityCID {
		b, err := quicadapt.New(pc, quicadapt.Config{
			Datapath: cfg.Datapath, Null: cfg.Null, PriorityCID: cfg.PriorityCID, Congestion: cfg.Congestion, MaxUnacked: cfg.MaxBacklog,
			OnRecord: cfg.OnRecord, Logger: cfg.Logger,
		})
		if err != nil {
			return nil, err
		}
		ln, err := b.Listen(cfg.TLS, cfg.QUIC)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		accept := func(ctx context.Context) (conn, error) {
			c, err := ln.Accept(ctx)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
		dial := func(ctx context.Context, to net.Addr, tc *tls.Config, qc *quic.Config) (conn, error) {
			c, err := b.Dial(ctx, to, tc, qc)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
		return &listener{
			accept: accept, dial: dial, addr: ln.Addr(), totals: b.Totals,
			close: func() error { return errors.Join(ln.Close(), b.Close()) },
		}, nil
	}
	tr := &quic.Transport{Conn: pc}
	ln, err := tr.Listen(cfg.TLS, cfg.QUIC)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %v: %w", pc.LocalAddr(), err)
	}
	accept := func(ctx context.Context) (conn, error) {
		c, err := ln.Accept(ctx)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	dial := func(ctx context.Context, to net.Addr, tc *tls.Config, qc *quic.Config) (conn, error) {
		c, err := tr.Dial(ctx, to, tc, qc)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return &listener{accept: accept, dial: dial, addr: ln.Addr(), close: func() error {
		err := errors.Join(ln.Close(), tr.Close())
		if cfg.Conn == nil {
			err = errors.Join(err, pc.Close())
		}
		return err
	}}, nil
}
