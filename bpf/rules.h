/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The rules that look at bytes and numbers only: no helpers, no maps, no clock. docs/rules.md tells them, package
 * datapath/rules has them in Go, and a test compiles this file with cgo and compares the two.
 *
 * The functions work on buffers of BUFFER_SIZE bytes. Positions are masked before every access, so the verifier sees that
 * none leaves the buffer; `end` is what says which bytes are the packet's. Integers are read eight bytes at a time,
 * which is why a buffer has BUFFER_SLACK bytes behind the last position.
 */
#ifndef FASTRELAY_RULES_H
#define FASTRELAY_RULES_H

#include "types.h"

#define BUFFER_MASK 2047
#define BUFFER_SLACK 64
#define BUFFER_SIZE (BUFFER_MASK + 1 + BUFFER_SLACK)

#ifdef __bpf__
#define RULE static __attribute__((always_inline)) inline
#else
#define RULE static inline
#endif

/* Result of the rules that give a reason: 0 is to go on. */
#define RULE_OK 0

RULE u64 load64(const u8 *p) { return __builtin_bswap64(*(const u64 *)p); }

RULE void store64(u8 *p, u64 v) { *(u64 *)p = __builtin_bswap64(v); }

/* varint_log2 is the two high bits of the shortest encoding of v (RFC 9000, section 16). */
RULE u32 varint_log2(u64 v) { return (v >= 1 << 6) + (v >= 1 << 14) + (v >= 1 << 30); }

RULE u32 varint_len(u64 v) { return 1 << varint_log2(v); }

/* read_varint reads the integer at pos, and returns its length, or 0 if it does not end by end. */
RULE u32 read_varint(const u8 *p, u32 pos, u32 end, u64 *v)
{
	u64 x = load64(p + (pos & BUFFER_MASK));
	u32 len = 1 << (x >> 62);

	if (pos >= end || len > end - pos)
		return 0;
	*v = (x << 2) >> ((66 - 8 * len) & 63);
	return len;
}

/* write_varint writes the shortest encoding of v at p, and returns its length. It changes eight bytes. */
RULE u32 write_varint(u8 *p, u64 v)
{
	u32 log = varint_log2(v), len = 1 << log;

	store64(p, (v << ((64 - 8 * len) & 63)) | (u64)log << 62);
	return len;
}

/* decode_number recovers a packet number from its len lowest bytes, 1 to 4 (RFC 9000, appendix A.3). */
RULE u64 decode_number(u64 next, u64 truncated, u32 len)
{
	u64 window = 1ULL << (8 * len & 63), half = window / 2;
	u64 candidate = (next & ~(window - 1)) | truncated;

	if (candidate + half <= next && candidate < (1ULL << 62) - window)
		return candidate + window;
	if (candidate > next + half && candidate >= window)
		return candidate - window;
	return candidate;
}

/* replayed says whether a slot's value rules a packet number out. */
RULE int replayed(u64 slot, u64 number) { return slot >= number + 1; }

RULE u64 stream_tag(u64 id) { return (id >> 2 & STREAM_TAG_MASK) << STREAM_TAG_SHIFT; }

/*
 * stream_advance applies rule 5 of the client egress to a stream word but for the connection's credit: the word that is to
 * replace old, and by how much the highest offset grows. A FIN closes the stream.
 */
RULE u8 stream_advance(u64 old, u64 limit, u64 id, u64 end, int fin, u64 *next, u64 *growth)
{
	u64 highest = old & STREAM_OFFSET;

	if (end > limit || end > STREAM_OFFSET)
		return REASON_STREAM_CREDIT;
	if ((old & ~STREAM_OFFSET) != stream_tag(id))
		return REASON_CLOSED_STREAM;
	if (fin && end < highest)
		return REASON_CLOSED_STREAM;
	*growth = end > highest ? end - highest : 0;
	*next = old + *growth;
	if (fin)
		*next |= STREAM_CLOSED;
	return RULE_OK;
}

/* pace_after is the pace time after a packet of size bytes that is sent now. */
RULE u64 pace_after(u64 pace, u64 cost, u64 now, u64 size)
{
	return (pace > now ? pace : now) + (size * cost >> PACE_SHIFT);
}

/* check_budget says whether a packet of size bytes fits a client's budget now. */
RULE u8 check_budget(u64 sent, u64 limit, u64 pace, u64 cost, u64 burst, u64 now, u64 size)
{
	if (sent + size > limit)
		return REASON_CONGESTION_WINDOW;
	if (cost && pace_after(pace, cost, now, size) > now + burst)
		return REASON_PACED;
	return RULE_OK;
}

/* importance orders media: by the subscriber's priority, then by the publisher's. */
RULE u32 importance(u8 subscriber, u8 publisher) { return (u32)subscriber << 8 | publisher; }

/* A media frame for a client, as a policy looks at it, see datapath.Offer. */
struct offer {
	u64 group;
	u64 sample;
	u64 size;
	u64 cut;
	u32 importance;
	u32 started;
};

/* check_policy takes a policy's decision on an offer: half are its words. *cut says that the rest of the group is to be dropped too. */
RULE u8 check_policy(const volatile u64 *half, u64 plan, u64 now, const struct offer *o, u32 *cut)
{
	u64 cost = half[POLICY_COST], band = half[POLICY_BANDS], up_to = band;
	u64 after = pace_after(plan, cost, now, o->size);

#pragma GCC unroll 8
	for (int i = 1; i < BANDS; i++) {
		u64 next = half[POLICY_BANDS + i];

		if (o->importance > (up_to & 0xffff))
			band = next;
		up_to = next;
	}
	*cut = !!(band & BAND_CUT);
	if (o->started) {
		if (cost && after > now + half[POLICY_STARTED])
			return REASON_DROP_RESERVE;
	} else if (o->cut == o->group + 1) {
		*cut = 0;
		return REASON_DROP_GROUP;
	} else {
		u64 sample = band & BAND_BY_GROUP ? o->group : o->sample;

		/* 2^64 divided by the golden ratio spreads shares evenly over numbers that follow each other. */
		if (sample * 0x9e3779b97f4a7c15ULL >> 48 < (band >> BAND_SHARE_SHIFT & BAND_SHARE_MASK))
			return REASON_DROP_SHARE;
		if (cost && after > now + (band >> BAND_DEPTH_SHIFT << BAND_DEPTH_UNIT))
			return REASON_DROP_RESERVE;
	}
	*cut = 0;
	return RULE_OK;
}

/* datagram_size is the size of a DATAGRAM frame with length bytes of data. */
RULE u32 datagram_size(u32 length, u32 with_length) { return 1 + (with_length ? varint_len(length) : 0) + length; }

/* selected says whether a subscription selects a group. */
RULE int selected(u64 first, u64 last, u64 group) { return group >= first && (!last || group <= last); }

/*
 * translate applies rule 3 of the client egress: where a frame of length bytes at offset goes when a prefix of `old` bytes
 * is replaced by one of `new` bytes. *rewrite says that the frame holds the prefix.
 */
RULE u8 translate(u64 offset, u32 length, u32 old, u32 new, u64 *to, u32 *to_length, u32 *rewrite)
{
	*rewrite = offset == 0;
	if (offset == 0) {
		if (length < old)
			return REASON_PREFIX_SPLIT;
		*to = 0;
		*to_length = length - old + new;
		return RULE_OK;
	}
	if (offset < old)
		return REASON_PREFIX_SPLIT;
	*to = offset - old + new;
	*to_length = length;
	return RULE_OK;
}

/* A MoQ data header, of a subgroup stream or an object datagram. */
struct media {
	u64 alias;
	u64 group;
	u8 type;
	u8 alias_len;
	u8 priority;
	u8 has_priority;
};

/* subgroup_type says whether a stream type is a subgroup's in the draft; 0 is any draft. */
RULE int subgroup_type(u64 type, u8 draft)
{
	if (draft != 14)
		type &= ~0x20ULL;
	return type >= 0x10 && type < 0x20 && (type & 0x06) != 0x06;
}

/* datagram_type says the same of datagrams. */
RULE int datagram_type(u64 type, u8 draft)
{
	if (draft != 14)
		return type <= 0x2f && (type & 0x10) == 0 && (type & 0x22) != 0x22;
	return type <= 0x07 || type == 0x20 || type == 0x21;
}

/* parse_fields reads what follows the type. It returns 0 if that is not whole by end. */
RULE int parse_fields(const u8 *p, u32 pos, u32 end, int third, int priority, struct media *m)
{
	u64 v;
	u32 len = read_varint(p, pos, end, &m->alias);

	if (!len)
		return 0;
	m->alias_len = len;
	pos += len;
	len = read_varint(p, pos, end, &m->group);
	if (!len)
		return 0;
	pos += len;
	if (third) {
		len = read_varint(p, pos, end, &v);
		if (!len)
			return 0;
		pos += len;
	}
	m->has_priority = priority;
	if (priority) {
		if (pos >= end)
			return 0;
		m->priority = p[pos & BUFFER_MASK];
	}
	return 1;
}

/* parse_subgroup parses the header of a subgroup stream in p[pos:end]; the track's draft is checked later. */
RULE u8 parse_subgroup(const u8 *p, u32 pos, u32 end, struct media *m)
{
	if (pos >= end)
		return REASON_HEADER_SPLIT;
	if (end - pos > MAX_SUBGROUP_BYTES)
		end = pos + MAX_SUBGROUP_BYTES;
	m->type = p[pos & BUFFER_MASK];
	if (!subgroup_type(m->type, 0))
		return REASON_BAD_HEADER;
	if (!parse_fields(p, pos + 1, end, (m->type & 0x06) == 0x04, !(m->type & 0x20), m))
		return REASON_HEADER_SPLIT;
	return RULE_OK;
}

/* parse_datagram parses the header of the object datagram in p[pos:end]. */
RULE u8 parse_datagram(const u8 *p, u32 pos, u32 end, struct media *m)
{
	if (pos >= end)
		return REASON_BAD_HEADER;
	m->type = p[pos & BUFFER_MASK];
	if (!datagram_type(m->type, 0))
		return REASON_BAD_HEADER;
	if (!parse_fields(p, pos + 1, end, !(m->type & 0x04), !(m->type & 0x08), m))
		return REASON_BAD_HEADER;
	return RULE_OK;
}

/* share_admits says whether an owner that has own entries of a table gets another, when used are taken of what is for all; see datapath.Share. */
RULE int share_admits(u64 own, u64 used, u64 part, u64 rest)
{
	return own < part || own - part + used < rest;
}

#endif
