/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Rule 1 of the server ingress: which frames are the relay's. */
#ifndef FASTRELAY_IP_H
#define FASTRELAY_IP_H

#include "maps.h"

#define ETHER_LEN 14
#define IPV4_LEN 20
#define IPV6_LEN 40
#define UDP_LEN 8
#define PROTO_UDP 17
#define HEADERS_MAX (ETHER_LEN + IPV6_LEN + UDP_LEN)

struct headers {
	u8 b[HEADERS_MAX + 2];
	struct address source;
	u32 payload;    /* position of the UDP payload */
	u32 ip_end;     /* end of the packet, as the IP header says */
	u32 udp_length;
};

static __always_inline u16 half(const u8 *p) { return (u16)p[0] << 8 | p[1]; }

/* A frame that is not the relay's is OTHER, one that is but is not for the datapath has a reason, otherwise OURS. */
#define OTHER -1
#define OURS 0

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct headers *h)
{
	u32 header = (h->b[ETHER_LEN] & 15) * 4, fragment = half(h->b + 20);
	u16 port;

	if (h->b[ETHER_LEN] >> 4 != 4 || header < IPV4_LEN || h->b[23] != PROTO_UDP || (fragment & 0x1fff))
		return OTHER;
	if (skb->len < ETHER_LEN + header + UDP_LEN)
		return OTHER;
	if (bpf_skb_load_bytes(skb, ETHER_LEN + header + 2, &port, 2) || port != PORT)
		return OTHER;
	if (header > IPV4_LEN || (fragment & 0x2000))
		return REASON_FRAGMENT;
	h->payload = ETHER_LEN + IPV4_LEN + UDP_LEN;
	h->ip_end = ETHER_LEN + half(h->b + 16);
	h->udp_length = half(h->b + 38);
	__builtin_memset(&h->source, 0, sizeof(h->source));
	h->source.ip[10] = h->source.ip[11] = 0xff;
	__builtin_memcpy(h->source.ip + 12, h->b + 26, 4);
	__builtin_memcpy(&h->source.port, h->b + 34, 2);
	return OURS;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct headers *h)
{
	u16 port;

	if (skb->len < HEADERS_MAX || h->b[ETHER_LEN] >> 4 != 6 || h->b[20] != PROTO_UDP)
		return OTHER;
	__builtin_memcpy(&port, h->b + 56, 2);
	if (port != PORT)
		return OTHER;
	h->payload = HEADERS_MAX;
	h->ip_end = ETHER_LEN + IPV6_LEN + half(h->b + 18);
	h->udp_length = half(h->b + 58);
	__builtin_memcpy(h->source.ip, h->b + 22, 16);
	__builtin_memcpy(&h->source.port, h->b + 54, 2);
	h->source.zero = 0;
	return OURS;
}

static __always_inline int parse_headers(struct __sk_buff *skb, struct headers *h)
{
	u32 len = skb->len;

	if (skb->vlan_present || len < ETHER_LEN + IPV4_LEN + UDP_LEN)
		return OTHER;
	if (len > HEADERS_MAX)
		len = HEADERS_MAX;
	if (bpf_skb_load_bytes(skb, 0, h->b, len))
		return OTHER;
	switch (half(h->b + 12)) {
	case 0x0800:
		return parse_ipv4(skb, h);
	case 0x86dd:
		return parse_ipv6(skb, h);
	}
	return OTHER;
}

#endif
