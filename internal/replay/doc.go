// Package replay keeps what policies decided for packets, and takes the decisions again in the simulator: what ran in the kernel can be looked at
// afterwards, and its decisions be held against the rules.
//
//	relay ─► Writer ─► file of JSON lines ─► Read ─► Run: a simulator per client ─► Report
//
// A line is a policy that a client was given, or a record of the datapath, which says for each frame what the decision went by. Records
// name the policy by its version.
package replay
