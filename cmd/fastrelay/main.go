// Command fastrelay is a Media-over-QUIC relay with a fast path, and what is needed to see it work: a publisher, a
// subscriber, a demonstration that compares the paths, a study of drop heuristics, and a check of what this machine can do.
package main

import (
	"os"

	"github.com/fastrelay/fastrelay/command"
)

func main() { os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr)) }
