/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Client ingress learns by which interface and link-layer address a client is reached, from the client's own packets.
 * Only addresses that userspace entered teach anything. Everything goes on to userspace.
 */
#include "ip.h"

SEC("tc")
int client_ingress(struct __sk_buff *skb)
{
	struct headers h = {};
	struct link learned = {}, *link;
	u32 *client;
	u64 *old, *new = (u64 *)&learned;

	if (parse_headers(skb, &h) != OURS)
		return TCX_NEXT;
	client = bpf_map_lookup_elem(&addresses, &h.source);
	if (!client)
		return TCX_NEXT;
	link = bpf_map_lookup_elem(&links, client);
	if (!link)
		return TCX_NEXT;
	learned.ifindex = skb->ifindex;
	__builtin_memcpy(learned.source, h.b, 6);
	__builtin_memcpy(learned.destination, h.b + 6, 6);
	old = (u64 *)link;
	if (old[0] != new[0] || old[1] != new[1]) {
		/* The word with the interface comes last: until then there is no route, or the old one. */
		*(volatile u64 *)&old[1] = new[1];
		*(volatile u64 *)&old[0] = new[0];
	}
	return TCX_NEXT;
}
