package datapath_test

import (
	"fmt"

	"github.com/fastrelay/fastrelay/datapath"
)

// A client's space is shared with the datapath: both take packet numbers from one word.
func ExampleSpace() {
	s := datapath.NewSpace(nil, nil)
	s.SetNext(7)
	fmt.Println(s.TakeNumber(), s.TakeNumber(), s.Next())

	// A reserved stream may carry 1000 bytes, the connection 600.
	s.Reserve(3, 0, 1000)
	fmt.Println(s.Advance(0, 500, 600), s.Advance(0, 700, 600), s.DataUsed())
	// Output:
	// 7 8 9
	// true false 500
}

func ExampleReason() {
	var c datapath.Counters
	c[datapath.Forwarded], c[datapath.ReasonPoolEmpty] = 10, 2
	fmt.Println(c.Map(), datapath.ReasonTooBig)
	// Output: map[forwarded:10 pool_empty:2] too_big
}
