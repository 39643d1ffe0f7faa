/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Ethernet, IP and UDP headers of what goes to a client, with their checksums. */
#ifndef FASTRELAY_HEADERS_H
#define FASTRELAY_HEADERS_H

#include "ip.h"

static __always_inline void put_half(u8 *p, u32 v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static __always_inline u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * udp_checksum sums addresses, UDP header and payload, which follow each other in either IP version, in pieces of at most
 * 512 bytes, which is what bpf_csum_diff takes in older kernels. The bytes up to the next multiple of 4 are zero.
 */
static __always_inline u16 udp_checksum(u8 *from, u32 size, u32 udp_length)
{
	s64 sum = bpf_htons(PROTO_UDP) + bpf_htons(udp_length);
	u32 left = (size + 3) & ~3;

#pragma unroll
	for (u32 i = 0; i < 3; i++) {
		u32 n = left > 512 ? 512 : left & 508;

		if (left == 512)
			n = 512;
		asm volatile("" : "+r"(n));
		if (n > 512)
			n = 512;
		if (n)
			sum = bpf_csum_diff(0, 0, (void *)(from + 512 * i), n, sum & 0xffffffff);
		left -= n;
	}
	return fold(sum & 0xffffffff);
}

/* write_headers writes Ethernet, IP and UDP headers in front of the payload of `length` bytes. */
static __always_inline void write_headers(u8 *p, struct client *client, struct link *link, u32 length)
{
	u32 udp_length = UDP_LEN + length;
	u8 *udp = p + ETHER_LEN + IPV4_LEN;
	u16 sum;

	__builtin_memcpy(p, link->destination, 6);
	__builtin_memcpy(p + 6, link->source, 6);
	if (client->family == 4) {
		u64 words = 0;
		u8 *ip = p + ETHER_LEN;

		put_half(p + 12, 0x0800);
		put_half(ip, 0x4500);
		put_half(ip + 2, IPV4_LEN + udp_length);
		put_half(ip + 4, 0);
		put_half(ip + 6, 0x4000);
		put_half(ip + 8, 64 << 8 | PROTO_UDP);
		put_half(ip + 10, 0);
		__builtin_memcpy(ip + 12, client->local + 12, 4);
		__builtin_memcpy(ip + 16, client->remote + 12, 4);
#pragma unroll
		for (int i = 0; i < IPV4_LEN; i += 2)
			words += half(ip + i);
		put_half(ip + 10, fold(words));
		__builtin_memcpy(udp, &client->local_port, 2);
		__builtin_memcpy(udp + 2, &client->remote_port, 2);
		put_half(udp + 4, udp_length);
		put_half(udp + 6, 0);
		sum = udp_checksum(p + 26, 8 + udp_length, udp_length);
	} else {
		udp = p + ETHER_LEN + IPV6_LEN;
		put_half(p + 12, 0x86dd);
		put_half(p + 14, 0x6000);
		put_half(p + 16, 0);
		put_half(p + 18, udp_length);
		put_half(p + 20, PROTO_UDP << 8 | 64);
		__builtin_memcpy(p + 22, client->local, 16);
		__builtin_memcpy(p + 38, client->remote, 16);
		__builtin_memcpy(udp, &client->local_port, 2);
		__builtin_memcpy(udp + 2, &client->remote_port, 2);
		put_half(udp + 4, udp_length);
		put_half(udp + 6, 0);
		sum = udp_checksum(p + 22, 32 + udp_length, udp_length);
	}
	if (!sum)
		sum = 0xffff;
	__builtin_memcpy(udp + 6, &sum, 2); /* one's complement sums keep the byte order of what they add up */
}

#endif
