// Package ebpf is the datapath in the Linux kernel: TC programs that forward media packets before they reach a socket.
//
//	publisher ──► server_ingress ──clone──► client_egress ──► subscriber
//	                  │                      │       ▲
//	                  ▼ unaltered            ▼       │ maps that are mapped into the process
//	                socket                records    Space
//
// New loads and attaches the programs and returns a datapath.Datapath. They need Linux 6.1 and the capabilities CAP_BPF, CAP_NET_ADMIN and
// CAP_PERFMON; Probe says what is missing. From Linux 6.6 on they are TCX links, which the kernel removes with the process; before,
// filters of a clsact qdisc, which Close removes and the next relay on the same port if the process died. They protect no packets yet: CipherNull only.
//
// docs/rules.md tells what the programs do and names the maps. The sources are in the folder bpf; the built object is part of
// this package, so that users need no compiler.
package ebpf
