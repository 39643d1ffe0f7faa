package quicadapt_test

import (
	"crypto/tls"
	"fmt"
	"net"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/quicadapt"
)

// A boundary sits between a socket, here with a simulated datapath, and quic-go.
func Example() {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	dp := sim.New(sim.Config{})
	defer dp.Close()
	b, err := quicadapt.New(dp.Wrap(socket), quicadapt.Config{Datapath: dp})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close() // closes the socket, too
	ln, err := b.Listen(&tls.Config{Certificates: []tls.Certificate{{}}, NextProtos: []string{"moqt-16"}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	fmt.Println(ln.Addr().Network(), b.Totals().ForwardedPackets)
	// Output: udp 0
}
