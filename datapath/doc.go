// Package datapath is the contract between the relay and what forwards its media packets.
//
// A datapath sits below the relay's UDP socket. It opens the packets of publishers, and sends the frames of tracks that
// have subscribers on to them, renumbered, rewritten and sealed for each, while the unaltered packet goes on to the
// socket. Userspace learns of each forwarded packet from a record.
//
//	publisher ──► [ ingress: open, window, walk frames, open streams ] ──clone──► [ egress: per client ] ──► subscriber
//	                    │ unaltered packet                                  │ Record        ▲ Space: numbers, credit,
//	                    ▼                                                   ▼               │ reserved stream IDs
//	                  socket ─► quicadapt ─► quic-go ─► relay            Drain ─► quicadapt ┘
//
// Two backends implement it: datapath/sim in plain Go, and datapath/ebpf in the kernel. Both keep the same tables with the
// same capacities (Limits), apply the same rules (datapath/rules) and give the same reasons (Reason).
package datapath
