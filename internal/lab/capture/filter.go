package capture

import "golang.org/x/net/bpf"

// Offsets in an Ethernet frame, and what is looked for there.
const (
	typeAt     = 12
	ipAt       = 14
	ipv6Header = 40
	typeIPv4   = 0x0800
	typeIPv6   = 0x86dd
	protoUDP   = 17
	fragment   = 0x1fff  // offset of an IPv4 fragment
	whole      = 1 << 18 // more bytes than a packet has, GSO super-packets included
)

// filter returns the program that lets UDP packets from or to the port through, any UDP packet if it is 0. It takes
// neither later fragments nor IPv6 extension headers, which QUIC does not send.
func filter(port uint16) ([]bpf.RawInstruction, error) {
	// The jumps count instructions; the positions are noted at the right.
	const reject, accept = 15, 16
	to := func(from, target int) uint8 { return uint8(target - from - 1) }
	first := bpf.Instruction(bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipTrue: to(12, accept)})
	if port == 0 {
		first = bpf.Jump{Skip: uint32(to(12, accept))}
	}
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: typeAt, Size: 2},                                       // 0
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeIPv6, SkipTrue: to(1, 8)},           // 1
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeIPv4, SkipTrue: to(2, reject)},   // 2
		bpf.LoadAbsolute{Off: ipAt + 6, Size: 2},                                     // 3
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragment, SkipTrue: to(4, reject)},    // 4
		bpf.LoadMemShift{Off: ipAt},                                                  // 5, X: length of the IPv4 header
		bpf.LoadAbsolute{Off: ipAt + 9, Size: 1},                                     // 6
		bpf.Jump{Skip: uint32(to(7, 10))},                                            // 7
		bpf.LoadConstant{Dst: bpf.RegX, Val: ipv6Header},                             // 8
		bpf.LoadAbsolute{Off: ipAt + 6, Size: 1},                                     // 9
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: to(10, reject)},  // 10
		bpf.LoadIndirect{Off: ipAt, Size: 2},                                         // 11, source port
		first,                                                                        // 12
		bpf.LoadIndirect{Off: ipAt + 2, Size: 2},                                     // 13, destination port
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipTrue: to(14, accept)}, // 14
		bpf.RetConstant{Val: 0},                                                      // 15, reject
		bpf.RetConstant{Val: whole},                                                  // 16, accept
	})
}
