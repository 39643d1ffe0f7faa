// Package sim is a datapath in plain Go: the tables of the kernel's, with the same capacities, and the same rules
// (datapath/rules) over Ethernet frames, with time given by the caller and real packet protection.
//
//	frame ──► ClientIngress (learns links) ──► ServerIngress ──clone──► egress ──► Config.Send
//	                                                                      └─► ring ──► Drain
//
// Wrap puts it at a relay's socket, on a real network or a simulated one. One lock guards the tables; the words that a
// client shares with userspace (datapath.Space) are changed with atomics, as in the kernel.
package sim
