/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Layouts and numbers that the TC programs share with userspace. Package datapath has the same reasons, words and sizes;
 * a test in datapath/ebpf reads this file and compares them by name, and the layouts with the BTF of the built object.
 *
 * All integers are in host order unless a comment says otherwise. Every struct is a multiple of 8 bytes or has no hole, so
 * that a key never holds bytes that were not written.
 */
#ifndef FASTRELAY_TYPES_H
#define FASTRELAY_TYPES_H

#ifdef __bpf__
#include <linux/types.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;
#else
#include <stdint.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#endif

#define CID_LEN 20
#define MAX_FRAMES 64
#define MAX_FORWARD 4
#define MEMBERS_PER_TRACK 1024
#define MAX_PACKET_SIZE 1452
#define NUMBER_LEN 4
#define TAG_LEN 16
#define REPLAY_SLOTS 1024
#define MAX_SUBGROUP_BYTES 40

/* A word of a client's space, see datapath.Space. */
#define SPACE_WORDS 512
#define WORD_NEXT 0
#define WORD_DATA_USED 1
#define WORD_DATA_LIMIT 2
#define WORD_POOL_HEAD 3
#define WORD_POOL_TAIL 4
#define WORD_MAX_SIZE 5
#define WORD_GENERATION 6
#define WORD_SENT 7
#define WORD_POOL 8
#define POOL_SIZE 64
#define WORD_SEND_LIMIT 72
#define WORD_PACE_TIME 73
#define WORD_PACE_COST 74
#define WORD_PACE_BURST 75
#define WORD_PLAN_TIME 76
#define WORD_POLICY 77
#define WORD_WAITING 78
#define WORD_STREAMS 79
#define WORD_POLICIES 80
#define WORD_SLOTS 128
#define SLOTS 128

/* Unit of the pace cost: nanoseconds per 1 << PACE_SHIFT bytes. */
#define PACE_SHIFT 10

/* The policy's word: half in use, whether there is a policy, version. The words of a half, and of its bands, see datapath.Policy. */
#define POLICY_SECOND 1
#define POLICY_ON 2
#define POLICY_SHIFT 2
#define POLICY_HALF 16
#define POLICY_COST 0
#define POLICY_STARTED 1
#define POLICY_BANDS 8
#define BANDS 8
#define BAND_SHARE_SHIFT 16
#define BAND_SHARE_MASK 0x1ffff
#define BAND_BY_GROUP (1ULL << 33)
#define BAND_CUT (1ULL << 34)
#define BAND_DEPTH_SHIFT 35
#define BAND_DEPTH_UNIT 10

/* Bit of the generation word, above the 8 that count: the half of the client's double buffer in `clients` that is valid. */
#define GENERATION_HALF 0x100

/* Stream word: closed, tag of the stream ID, highest offset sent. */
#define STREAM_CLOSED (1ULL << 63)
#define STREAM_OFFSET ((1ULL << 48) - 1)
#define STREAM_TAG_SHIFT 48
#define STREAM_TAG_MASK 0x7fffULL

#define MAX_VARINT ((1ULL << 62) - 1)

/* In the order of datapath.Reason. */
enum reason {
	FORWARDED,
	REASON_LONG_HEADER,
	REASON_UNKNOWN_CID,
	REASON_GSO,
	REASON_FRAGMENT,
	REASON_TRUNCATED,
	REASON_ADDRESS,
	REASON_AUTH,
	REASON_REPLAY,
	REASON_MALFORMED_FRAME,
	REASON_TOO_MANY_FRAMES,
	REASON_NO_MEDIA,
	REASON_UNKNOWN_TRACK,
	REASON_NO_SUBSCRIBER,
	REASON_BAD_HEADER,
	REASON_HEADER_SPLIT,
	REASON_STREAMS_FULL,
	REASON_NOT_OPENED,
	REASON_TOO_MANY_MEDIA,
	REASON_STALE_CLIENT,
	REASON_SLOW_STREAM,
	REASON_FILTERED,
	REASON_CONGESTION_WINDOW,
	REASON_PACED,
	REASON_POOL_EMPTY,
	REASON_CLIENT_STREAMS,
	REASON_CLOSED_STREAM,
	REASON_STREAM_CREDIT,
	REASON_CONNECTION_CREDIT,
	REASON_TOO_BIG,
	REASON_PREFIX_SPLIT,
	REASON_RING_FULL,
	REASON_NO_ROUTE,
	REASON_SEND_FAILED,
	REASON_CONTENDED,
	REASON_WAITING,
	REASON_DROP_SHARE,
	REASON_DROP_RESERVE,
	REASON_DROP_GROUP,
	REASON_DROP_STREAM,
	REASON_COUNT
};

/* Key of `cids`: the last byte is 0, since a publisher may write its priority there. */
struct cid {
	u8 bytes[CID_LEN];
};

/* Value of `cids`. */
struct cid_owner {
	u32 upstream;
	u8 last; /* byte of the connection ID, see struct upstream */
	u8 zero[3];
};

/* An IP address and a UDP port; IPv4 is mapped into IPv6. Key of `addresses`. */
struct address {
	u8 ip[16];
	u16 port; /* network order */
	u16 zero;
};

/* Value of `upstreams`. */
struct upstream {
	struct address remote;
	u8 valid;
	u8 streams; /* two low bits of the stream IDs of the peer's unidirectional streams */
	u8 priority_cid; /* the last byte of connection IDs is the packet's priority, whatever it is */
	u8 zero;
};

/* Value of `numbers`: only ever changed atomically, by the kernel and by userspace. */
struct number_window {
	u64 next;      /* largest packet number received + 1 */
	u64 watermark; /* stream ID + 1; streams below it that have no entry are for the slow path */
	u64 streams;   /* entries in `streams` */
	u64 slots[REPLAY_SLOTS];
};

/*
 * Value of `fan_outs`, by CPU: with two cache lines for itself, since some machines have lines of 128 bytes and others fetch them
 * in pairs. Only the CPU writes it.
 */
struct fan_out {
	u64 turns; /* odd while a packet is under way that may open a stream, or has a datagram */
	u64 zero[15];
};

/* Keys of `rests`: the table that is shared. */
#define REST_STREAMS 0
#define REST_CLIENT_STREAMS 1
#define RESTS 2

/* Value of `rests`: with cache lines for itself, as a fan_out. */
struct rest {
	u64 used; /* entries beyond the parts of their owners, see datapath.Share */
	u64 zero[15];
};

struct track_key {
	u64 alias;
	u32 upstream;
	u32 zero;
};

struct track {
	u32 track;
	u8 draft;
	u8 priority; /* of subgroups and datagrams that name none */
	u16 zero;
};

/* Value of `members`: written by userspace a word at a time, while the kernel reads. */
struct member_list {
	u32 n; /* last occupied place + 1 */
	u32 zero;
	u32 place[MEMBERS_PER_TRACK]; /* client + 1, or 0 */
};

struct sub_key {
	u32 track;
	u32 client;
};

struct sub {
	u64 alias; /* on the client's connection */
	u64 first_group;
	u64 last_group; /* 0: without end */
	u64 cut; /* 1 + the group that was cut, 0: none; the kernel changes it */
	u8 generation;  /* of the client */
	u8 priority;
	u8 zero[6];
};

/* Value of `clients`: what a packet to a client is addressed with. Keys 2 * client + half, see GENERATION_HALF. */
struct client {
	u8 local[16];
	u8 remote[16];
	u16 local_port; /* network order */
	u16 remote_port; /* network order */
	u8 family; /* 4 or 6 */
	u8 dcid_len;
	u8 dcid[CID_LEN];
	u16 max_datagram; /* bytes of a DATAGRAM frame */
	u8 priority_cid; /* the packet's priority goes into the last byte of dcid */
	u8 zero[3];
};

/* Value of `links`. */
struct link {
	u32 ifindex; /* 0: not learned yet */
	u8 source[6];
	u8 destination[6];
};

struct stream_key {
	u64 stream;
	u32 upstream;
	u32 zero;
};

struct stream {
	u64 group;
	u32 track;
	u8 priority;
	u8 alias_len;
	u16 zero;
};

struct client_stream_key {
	u64 stream; /* upstream's */
	u32 upstream;
	u32 client;
	u32 generation;
	u32 zero;
};

struct client_stream {
	u64 stream; /* client's */
	u64 alias;
	u32 track;
	u8 slot;
	u8 old_prefix; /* bytes of type and alias, upstream and downstream */
	u8 new_prefix;
	u8 dropped; /* by the policy; stream and slot are 0 if that was at its start */
};

#define FRAME_FIN 1
#define FRAME_OPENED 2
#define FRAME_DATAGRAM 4

struct record_frame {
	u64 upstream_stream;
	u64 client_stream;
	u64 offset;
	u64 group;
	u64 cut; /* of the subscription, before the decision */
	u64 plan; /* WORD_PLAN_TIME before the decision; 0 if there was no policy to take one */
	u32 length;
	u32 track;
	u8 slot;
	u8 priority;
	u8 subscriber; /* its priority */
	u8 flags;
	u8 reason;
	u8 zero[3];
};

/* Value of `records`. */
struct record {
	u64 time; /* of clock_now, ns */
	u64 number;
	u64 upstream_number;
	u32 upstream;
	u32 client;
	u32 policy; /* version */
	u16 size;
	u8 generation;
	u8 reason;
	u8 frames;
	u8 zero[7];
	struct record_frame frame[MAX_FORWARD];
};

#endif
