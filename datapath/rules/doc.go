// Package rules has the rules of the datapath as pure functions: no tables, no clocks, no allocation. docs/rules.md tells
// them in the same order, and bpf/rules.h has them in C; all three take the same decision and write the same bytes.
//
//	ip.go      rule 1–2: Ethernet, IP, UDP           prefix.go  egress 3: replaced alias
//	short.go   rule 2–4: short header, null cipher   size.go    egress 4: length field or not
//	replay.go  rule 5: window; watermark             word.go    egress 2, 5: pool and stream word
//	walk.go    rule 6: frames                        compose.go egress 6: frames, packet, checksums
//	moq.go     rule 7: subgroup and object headers
//
// A function that can end a packet or a frame returns a datapath.Reason, which is datapath.Forwarded to go on.
package rules
