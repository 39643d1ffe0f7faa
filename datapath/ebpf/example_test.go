package ebpf_test

import (
	"fmt"

	"github.com/fastrelay/fastrelay/datapath/ebpf"
)

// Where the kernel cannot forward, the error says what is missing.
func ExampleNew() {
	dp, err := ebpf.New(ebpf.Config{Interfaces: []string{"no-such-interface"}, Port: 4443})
	if err != nil {
		fmt.Println("serving without a datapath")
		return
	}
	defer dp.Close()
	// Output: serving without a datapath
}
