/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The tables of docs/rules.md. Userspace sets max_entries from its limits before it loads them. */
#ifndef FASTRELAY_MAPS_H
#define FASTRELAY_MAPS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "parse.h"

#ifndef TCX_NEXT
#define TCX_NEXT -1
#endif

/* A clone's mark: magic, generation of the client, its index. */
#define MARK_MAGIC 0xfaU

#define TABLE(name, kind, flags, k, v)                   \
	struct {                                         \
		__uint(type, kind);                      \
		__uint(map_flags, flags);                \
		__uint(max_entries, 1);                  \
		__type(key, k);                          \
		__type(value, v);                        \
	} name SEC(".maps")

struct space {
	u64 words[SPACE_WORDS];
};

TABLE(cids, BPF_MAP_TYPE_HASH, 0, struct cid, struct cid_owner);
TABLE(upstreams, BPF_MAP_TYPE_ARRAY, 0, u32, struct upstream);
TABLE(numbers, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, u32, struct number_window);
TABLE(fan_outs, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, u32, struct fan_out);
TABLE(rests, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, u32, struct rest);
TABLE(tracks, BPF_MAP_TYPE_HASH, 0, struct track_key, struct track);
TABLE(members, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, u32, struct member_list);
TABLE(subs, BPF_MAP_TYPE_HASH, 0, struct sub_key, struct sub);
TABLE(clients, BPF_MAP_TYPE_ARRAY, 0, u32, struct client);
TABLE(links, BPF_MAP_TYPE_ARRAY, 0, u32, struct link);
TABLE(addresses, BPF_MAP_TYPE_HASH, 0, struct address, u32);
TABLE(spaces, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, u32, struct space);
TABLE(streams, BPF_MAP_TYPE_HASH, 0, struct stream_key, struct stream);
TABLE(client_streams, BPF_MAP_TYPE_HASH, 0, struct client_stream_key, struct client_stream);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

/*
 * What ingress knows of the packet that it is fanning out, and what egress composes of it. Egress runs inside
 * bpf_clone_redirect, on the same CPU, so `mark` tells it that a packet is a clone of ours and that the rest is about it:
 * it is 0 whenever no clone is on its way, also for the programs of another relay, which have maps of their own.
 */
struct scratch {
	/* ingress */
	u32 mark;
	u32 payload; /* position of the UDP payload in the frame */
	u32 upstream;
	u32 client;
	u64 number;
	struct walk walk;
	struct frame frames[MAX_FORWARD];
	u32 tracks[MAX_FORWARD]; /* distinct */
	u32 track_count;
	u32 deciding; /* this CPU's word in `fan_outs` is odd */
	u8 priority_cid;
	u8 cid_priority; /* of all media, with priority_cid */
	/* egress */
	u32 start; /* position of the UDP payload in `out` */
	u32 pos;   /* end of what is composed */
	u32 limit; /* largest pos */
	u32 max_datagram;
	u32 appended;
	u32 sending; /* frames of the packet that egress lets go */
	u8 ended;
	u8 failed;
	u8 refused; /* why the client's budget takes no packet now, or 0 */
	u8 priority; /* the most important of what is appended */
	u8 zero[4];
	u64 policy; /* word of the client's */
	struct record record;
	u8 packet[BUFFER_SIZE];
	u8 out[2 * BUFFER_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* The relay's UDP port, network order. */
volatile const u16 PORT;

/* The shares of `streams` for an upstream and of `client_streams` for a client, see datapath.Share. */
volatile const u64 STREAM_PART, STREAM_REST, CLIENT_STREAM_PART, CLIENT_STREAM_REST;

/* The time of every packet, if a test has set it. */
volatile u64 test_clock;

/* clock_now returns the datapath's clock, in nanoseconds: CLOCK_MONOTONIC. */
static __always_inline u64 clock_now(void)
{
	u64 t = test_clock;

	return t ? t : bpf_ktime_get_ns();
}

static __always_inline struct scratch *get_scratch(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

static __always_inline void count(u32 reason, u64 n)
{
	u64 *c = bpf_map_lookup_elem(&counters, &reason);

	if (c)
		*c += n;
}

/* give_entry counts an entry of an owner out. */
static __always_inline void give_entry(u64 *own, u32 table, u64 part)
{
	struct rest *r = bpf_map_lookup_elem(&rests, &table);

	if (__sync_fetch_and_add(own, -1) - 1 >= part && r) /* as datapath.Share, also where a count that is wrong wraps around */
		__sync_fetch_and_add(&r->used, -1);
}

/* take_entry counts another entry of an owner in, if that is admitted. */
static __always_inline int take_entry(u64 *own, u32 table, u64 part, u64 rest)
{
	struct rest *r = bpf_map_lookup_elem(&rests, &table);
	u64 n, used = 0;

	if (!r)
		return 0;
	n = __sync_fetch_and_add(own, 1);
	if (n >= part)
		used = __sync_fetch_and_add(&r->used, 1);
	if (share_admits(n, used, part, rest))
		return 1;
	give_entry(own, table, part);
	return 0;
}

/* raise makes a shared word at least v. Losing 64 races in a row takes a storm of other raises, whose values are no lower by much. */
static __always_inline void raise(u64 *word, u64 v)
{
	for (int i = 0; i < 64; i++) {
		u64 old = *(volatile u64 *)word;

		if (old >= v || __sync_val_compare_and_swap(word, old, v) == old)
			return;
	}
}

#endif
