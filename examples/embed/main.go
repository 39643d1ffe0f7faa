// Embed puts a relay with a datapath into a program. It takes a certificate and its key:
//
//	embed cert.pem key.pem
//
// The datapath is the simulated one, which needs no privileges. For the kernel's take
// ebpf.New(ebpf.Config{Interfaces: []string{"eth0"}, Port: port}), and the socket as it is.
package main

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"os"
	"os/signal"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/relay"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: embed cert.pem key.pem")
	}
	if err := run(ctx, ":4443", os.Args[1], os.Args[2]); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	socket, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	defer socket.Close()
	dp := sim.New(sim.Config{Port: uint16(socket.LocalAddr().(*net.UDPAddr).Port)})
	defer dp.Close()
	r, err := relay.New(relay.Config{Conn: dp.Wrap(socket), Datapath: dp, TLS: &tls.Config{Certificates: []tls.Certificate{pair}}})
	if err != nil {
		return err
	}
	defer r.Close()
	log.Printf("relay listens on %v", socket.LocalAddr())
	return r.Serve(ctx)
}
