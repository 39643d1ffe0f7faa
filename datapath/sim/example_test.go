package sim_test

import (
	"fmt"
	"net"

	"github.com/fastrelay/fastrelay/datapath/sim"
)

// The simulated datapath wraps the relay's socket; the relay gets both.
func ExampleSim_Wrap() {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer socket.Close()
	dp := sim.New(sim.Config{})
	defer dp.Close()
	wrapped := dp.Wrap(socket)
	fmt.Println(wrapped.LocalAddr().Network(), dp.Limits().Clients)
	// Output: udp 1024
}
