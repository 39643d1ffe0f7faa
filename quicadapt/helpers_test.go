package quicadapt_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/fastrelay/fastrelay/quicadapt"
)

const alpn = "test"

// certificate makes a self-signed certificate and the client's configuration that trusts it.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	startClock()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: priv}}, NextProtos: []string{alpn}}
	client = &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{alpn}}
	return server, client
}

// lossyRouter loses packets by a seed.
type lossyRouter struct {
	simnet.PerfectRouter
	mu   sync.Mutex
	rnd  *mrand.Rand
	loss float64
	tap  func(simnet.Packet)
}

func (r *lossyRouter) SendPacket(p simnet.Packet) error {
	r.mu.Lock()
	lost := r.rnd.Float64() < r.loss
	if r.tap != nil {
		r.tap(p)
	}
	r.mu.Unlock()
	if lost {
		return nil
	}
	return r.PerfectRouter.SendPacket(p)
}

// newNetwork makes sockets at addresses of a simulated network: 20 ms there and back.
func newNetwork(t testing.TB, seed uint64, loss float64, tap func(simnet.Packet), ips ...string) (sockets []net.PacketConn) {
	t.Helper()
	n := &simnet.Simnet{Router: &lossyRouter{rnd: mrand.New(mrand.NewPCG(seed, 1)), loss: loss, tap: tap}}
	for _, ip := range ips {
		sockets = append(sockets, n.NewEndpoint(&net.UDPAddr{IP: net.ParseIP(ip), Port: 4433}, simnet.NodeBiDiLinkSettings{
			Downlink: simnet.LinkSettings{MTU: 1452},
			Uplink:   simnet.LinkSettings{MTU: 1452},
			Latency:  10 * time.Millisecond,
		}))
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return sockets
}

func config() *quic.Config {
	return &quic.Config{EnableDatagrams: true, MaxIdleTimeout: 20 * time.Second}
}

var processStart = time.Now().Round(0)

// startClock moves virtual time, which begins in the year 2000, past the start of the process: quic-go counts time from there, and before it
// takes a probe of a path for one of the future.
func startClock() { time.Sleep(time.Until(processStart)) }

func within(t testing.TB) context.Context {
	startClock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// dial makes a stock quic-go connection, or one on the null wire.
func dial(t testing.TB, ctx context.Context, null bool, socket net.PacketConn, to net.Addr, conf *quic.Config, tlsConf *tls.Config) *quic.Conn {
	t.Helper()
	if !null {
		tr := &quic.Transport{Conn: socket}
		t.Cleanup(func() { tr.Close() })
		c, err := tr.Dial(ctx, to, tlsConf, conf)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	b, err := quicadapt.New(socket, quicadapt.Config{Null: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	c, err := b.Dial(ctx, to, tlsConf, conf)
	if err != nil {
		t.Fatal(err)
	}
	return c.Conn
}

func asStreamError(err error, target **quic.StreamError) bool { return errors.As(err, target) }
