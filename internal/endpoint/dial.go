package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/quicadapt"
	"github.com/quic-go/quic-go"
)

// Defaults of DialConfig.
const (
	DefaultDraft   = wire.Draft16
	DefaultTimeout = 5 * time.Second
)

// DialConfig says how to reach a relay.
type DialConfig struct {
	// Addr is the relay's UDP address.
	Addr net.Addr
	// TLS verifies the relay. The ALPN is set from Draft. See Trust.
	TLS *tls.Config
	// Draft of MoQ transport; default DefaultDraft.
	Draft wire.Draft
	// Null leaves packets unprotected on the wire; the relay must do so too. For labs alone.
	Null bool
	// PriorityCID tells the relay the priority of each packet in its connection ID; see quicadapt.Config.
	PriorityCID bool
	// PacketConn is the socket, which the connection owns from then on; default: a UDP socket on any free port.
	PacketConn net.PacketConn
	// Timeout bounds the handshake, and after it the setup of the session; default DefaultTimeout.
	Timeout time.Duration
}

// Conn is a connection to a relay.
type Conn struct {
	quic  *quic.Conn
	moq   moq.QUIC
	draft wire.Draft
	null  bool
	setup time.Duration // bounds the setup of a session

	adapted *quicadapt.Conn // the same; nil without a packet boundary
	close   func() error    // of what is below the connection
}

// quicConfig has room for a stream per frame of several tracks and for a group of video in flight: limits that the relay
// runs into are a delay, whichever path the packets take.
func quicConfig(timeout time.Duration) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           timeout,
		MaxIdleTimeout:                 10 * time.Second,
		KeepAlivePeriod:                3 * time.Second,
		InitialStreamReceiveWindow:     1 << 20,
		InitialConnectionReceiveWindow: 8 << 20,
		MaxIncomingUniStreams:          1024,
		EnableDatagrams:                true,
	}
}

// Dial connects to a relay. It fails with one line that says what to do where something can be done.
func Dial(ctx context.Context, cfg DialConfig) (*Conn, error) {
	if cfg.Draft == 0 {
		cfg.Draft = DefaultDraft
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Addr == nil || cfg.TLS == nil || cfg.Draft.ALPN() == "" {
		return nil, errors.New("a connection needs an address, a TLS configuration and MoQ draft 14 or 16")
	}
	pc := cfg.PacketConn
	if pc == nil {
		var err error
		if pc, err = net.ListenUDP("udp", nil); err != nil {
			return nil, fmt.Errorf("cannot open a UDP socket: %w", err)
		}
	}
	tc := cfg.TLS.Clone()
	tc.NextProtos = []string{cfg.Draft.ALPN()}
	c := &Conn{draft: cfg.Draft, null: cfg.Null, setup: cfg.Timeout}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, errDialTimeout)
	defer cancel()
	var err error
	if cfg.Null || cfg.PriorityCID {
		err = c.dialAdapted(ctx, pc, &cfg, tc)
	} else {
		err = c.dialStock(ctx, pc, cfg.Addr, tc, cfg.Timeout)
	}
	if err != nil {
		return nil, explainDial(ctx, cfg.Addr, err)
	}
	return c, nil
}

var errDialTimeout = errors.New("no answer")

func (c *Conn) dialStock(ctx context.Context, pc net.PacketConn, addr net.Addr, tc *tls.Config, timeout time.Duration) error {
	tr := &quic.Transport{Conn: pc}
	c.close = func() error { return errors.Join(tr.Close(), closeSocket(pc)) }
	conn, err := tr.Dial(ctx, addr, tc, quicConfig(timeout))
	if err != nil {
		return errors.Join(err, c.close())
	}
	c.quic, c.moq = conn, conn
	return nil
}

func (c *Conn) dialAdapted(ctx context.Context, pc net.PacketConn, cfg *DialConfig, tc *tls.Config) error {
	b, err := quicadapt.New(pc, quicadapt.Config{Null: cfg.Null, PriorityCID: cfg.PriorityCID})
	if err != nil {
		return errors.Join(err, closeSocket(pc))
	}
	c.close = b.Close
	conn, err := b.Dial(ctx, cfg.Addr, tc, quicConfig(cfg.Timeout))
	if err != nil {
		return errors.Join(err, c.close())
	}
	c.quic, c.moq, c.adapted = conn.Conn, conn, conn
	return nil
}

func closeSocket(pc net.PacketConn) error {
	if err := pc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Draft returns the draft that is spoken.
func (c *Conn) Draft() wire.Draft { return c.draft }

// Cipher returns "null" or the name of the TLS cipher suite.
func (c *Conn) Cipher() string {
	if c.null {
		return "null"
	}
	return tls.CipherSuiteName(c.quic.ConnectionState().TLS.CipherSuite)
}

// connect starts a session.
func (c *Conn) connect(ctx context.Context, h moq.Handlers) (*moq.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.setup)
	defer cancel()
	s, err := moq.Connect(ctx, c.moq, h)
	if err != nil {
		return nil, sessionError(c, "set up the session; do both ends use the same --cipher?", err)
	}
	return s, nil
}

// Close ends the connection without an error, and closes the socket.
func (c *Conn) Close() error {
	return errors.Join(c.quic.CloseWithError(moq.CodeNoError, ""), c.close())
}

// explainDial makes one line of what kept a connection from being made.
func explainDial(ctx context.Context, addr net.Addr, err error) error {
	var (
		idle      *quic.IdleTimeoutError
		handshake *quic.HandshakeTimeoutError
		transport *quic.TransportError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		reset     *quic.StatelessResetError
	)
	switch {
	case errors.Is(err, context.Canceled) && !errors.Is(context.Cause(ctx), errDialTimeout):
		return err
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Errorf("relay %v cannot be reached: is it running? (%w)", addr, err)
	case errors.Is(err, errDialTimeout), errors.Is(err, context.DeadlineExceeded), errors.As(err, &idle), errors.As(err, &handshake), errors.As(err, &reset):
		return fmt.Errorf("no answer from the relay at %v: is it running there, and with the same --cipher? (%w)", addr, ErrUnreachable)
	case errors.Is(err, ErrFingerprint):
		return fmt.Errorf("the relay at %v has a certificate with another fingerprint; it prints its own when it starts", addr)
	case errors.As(err, &authority):
		return fmt.Errorf("the certificate of the relay at %v is not trusted: give it with --ca FILE (fastrelay relay --write-cert FILE writes it)", addr)
	case errors.As(err, &hostname):
		return fmt.Errorf("the certificate of the relay at %v is for another address: %w", addr, err)
	case errors.As(err, &transport) && transport.ErrorCode == 0x100+120: // no_application_protocol (RFC 9001, section 8.1)
		return fmt.Errorf("the relay at %v does not speak this MoQ draft: try --draft 14 or --draft 16", addr)
	}
	return fmt.Errorf("cannot connect to the relay at %v: %w", addr, err)
}

// ErrUnreachable says that nobody answers at the relay's address.
var ErrUnreachable = errors.New("relay is unreachable")
