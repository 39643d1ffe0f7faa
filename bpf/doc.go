// Package bpf holds the TC programs of the kernel datapath, in C; datapath/ebpf has them built.
//
// As a Go package it has only tests: they compile rules.h and parse.h into an ordinary program and compare their rules with those
// of package datapath/rules, without root. The Go file that does it must be in the headers' own folder: elsewhere the build cache
// would not see that a header has changed. Without a C compiler the package is empty.
package bpf
