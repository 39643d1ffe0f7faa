package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/relay"
)

// A relay with a simulated datapath. Without Datapath it works wholly in userspace.
func Example() {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	dp := sim.New(sim.Config{})
	defer dp.Close()
	r, err := relay.New(relay.Config{
		Conn: dp.Wrap(socket), Datapath: dp,
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate()}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go r.Close() // for the example's sake
	err = r.Serve(context.Background())
	fmt.Println(errors.Is(err, relay.ErrClosed))
	// Output: true
}
