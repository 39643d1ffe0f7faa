package rules_test

import (
	"fmt"

	"github.com/fastrelay/fastrelay/datapath/rules"
)

// A forwarded stream starts with the client's alias instead of the publisher's: here one byte longer, so that every
// later offset is one higher.
func ExamplePrefix() {
	p := rules.NewPrefix(1, 100) // the publisher's alias has one byte, 100 takes two
	var piece rules.Piece
	reason := p.Rewrite(500, []byte("data"), &piece)
	fmt.Println(reason, piece.Offset, piece.Len())
	// Output: forwarded 501 4
}
