// Embed is a relay with a datapath: embed ADDRESS CERT KEY. The simulated datapath needs no privileges; for the kernel's take
// ebpf.New(ebpf.Config{Interfaces: …, Port: …}) and give the relay the socket as it is.
package main

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"os"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/relay"
)

func main() {
	log.Fatal(run(context.Background(), os.Args[1], os.Args[2], os.Args[3]))
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
	dp := sim.New(sim.Config{})
	defer dp.Close()
	r, err := relay.New(relay.Config{Conn: dp.Wrap(socket), Datapath: dp, TLS: &tls.Config{Certificates: []tls.Certificate{pair}}})
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Serve(ctx)
}
