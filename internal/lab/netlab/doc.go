// Package netlab makes a small network on one machine: a publisher, one relay or more and subscribers in a network namespace each,
// connected by veth pairs without a bridge.
//
//	fastrelay-<id>-pub            fastrelay-<id>-relay             fastrelay-<id>-sub
//	┌──────────┐   Upstream   ┌─────────────────────┐  Downstream  ┌──────────┐
//	│ to-relay ├──────────────┤ to-pub       to-sub ├──────────────┤ to-relay │ all subscribers
//	└──────────┘ .1.2    .1.1 └─────────────────────┘ .2.1    .2.2 └──────────┘
//
// Further relays stand between the first one and the subscribers, in namespaces called relay2, relay3 and so on; each link between two of them
// is one of Between.
//
// The interfaces neither compute checksums late nor segment UDP, so that what a program at the far end sees is what a
// cable would carry: whole packets of at most the MTU, with right checksums. The relay's ends receive in batches, as a network
// card's driver does.
//
// The namespaces are named ones, under /run/netns. Their names carry the process that made them, so that Clean finds what
// a crash left behind. It needs Linux, CAP_SYS_ADMIN and CAP_NET_ADMIN.
package netlab
