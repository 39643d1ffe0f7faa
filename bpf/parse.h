/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Rule 6 of the server ingress: the walk over a packet's frames, one frame or one ACK range at a time, because that is how
 * bpf_loop calls it. Pure like rules.h, and compiled by the same test.
 */
#ifndef FASTRELAY_PARSE_H
#define FASTRELAY_PARSE_H

#include "rules.h"

#define NO_TRACK 0xffffffff

/* A media frame that is kept. What follows `flags` is filled in once its track is known. */
struct frame {
	u64 stream; /* with FRAME_DATAGRAM: its position among the packet's DATAGRAM frames */
	u64 offset;
	u32 data; /* position in the packet */
	u32 length;
	u8 flags; /* FRAME_FIN, FRAME_DATAGRAM, and FRAME_OPENED for the frame that opens its stream */
	u8 priority;
	u8 alias_len;
	u8 zero;
	u32 track; /* NO_TRACK: not forwarded */
	u64 group;
};

struct walk {
	u32 pos, end; /* what is left of the packet's frames */
	u32 items;    /* frames and further ACK ranges so far */
	u32 media;    /* kept */
	u32 excess;   /* media frames beyond MAX_FORWARD */
	u32 datagrams;
	u64 ranges;   /* ACK ranges still to come */
	u64 smallest; /* number acknowledged so far */
	u64 excess_opened; /* largest stream ID + 1 of an excess frame at offset 0 */
	u8 streams;   /* two low bits of media streams */
	u8 ecn;
	u8 reason;
	u8 zero[5];
};

/* keep stores a media frame that has been parsed. */
RULE void keep(struct walk *w, struct frame *frames, u64 stream, u64 offset, u32 data, u32 length, u8 flags)
{
	struct frame *f;

	if (w->media >= MAX_FORWARD) {
		w->excess++;
		if (!(flags & FRAME_DATAGRAM) && !offset && stream >= w->excess_opened)
			w->excess_opened = stream + 1;
		return;
	}
	f = &frames[w->media & (MAX_FORWARD - 1)];
	w->media++;
	f->stream = stream;
	f->offset = offset;
	f->data = data;
	f->length = length;
	f->flags = flags;
	f->track = NO_TRACK;
}

RULE int walk_ecn(struct walk *w, const u8 *p)
{
	u64 v;

	w->ecn = 0;
	for (int i = 0; i < 3; i++) {
		u32 len = read_varint(p, w->pos, w->end, &v);

		if (!len)
			return 0;
		w->pos += len;
	}
	return 1;
}

RULE int walk_range(struct walk *w, const u8 *p)
{
	u64 gap, size;
	u32 len = read_varint(p, w->pos, w->end, &gap);

	if (!len)
		return 0;
	w->pos += len;
	len = read_varint(p, w->pos, w->end, &size);
	if (!len || w->smallest < gap + 2 || w->smallest - gap - 2 < size)
		return 0;
	w->pos += len;
	w->smallest -= gap + 2 + size;
	w->ranges--;
	return w->ranges || !w->ecn || walk_ecn(w, p);
}

/* fields returns how many integers follow a frame type, or -1 for an unknown one (RFC 9000, section 19). */
RULE int fields(u64 type)
{
	switch (type) {
	case 0x00: case 0x01: case 0x1a: case 0x1b: case 0x1e: case 0x1f: case 0x30:
		return 0;
	case 0x07: case 0x10: case 0x12: case 0x13: case 0x14: case 0x16: case 0x17: case 0x19: case 0x31:
		return 1;
	case 0x05: case 0x06: case 0x11: case 0x15: case 0x18: case 0x1d:
		return 2;
	case 0x04: case 0x1c:
		return 3;
	case 0x02: case 0x03: case 0x24: case 0xaf:
		return 4;
	}
	if ((type & ~7ULL) == 0x08)
		return 1 + !!(type & 4) + !!(type & 2);
	return -1;
}

/* walk_stream and walk_datagram return the data's length, or -1. */
RULE u64 walk_stream(struct walk *w, struct frame *frames, u64 type, const u64 *v)
{
	u64 offset = type & 4 ? v[1] : 0;
	u64 length = type & 2 ? (type & 4 ? v[2] : v[1]) : w->end - w->pos;

	if (length > w->end - w->pos || length > MAX_VARINT - offset)
		return -1;
	if ((v[0] & 3) == w->streams)
		keep(w, frames, v[0], offset, w->pos, length, type & 1 ? FRAME_FIN : 0);
	return length;
}

RULE u64 walk_datagram(struct walk *w, struct frame *frames, u64 type, const u64 *v)
{
	u64 length = type & 1 ? v[0] : w->end - w->pos;

	if (length > w->end - w->pos)
		return -1;
	keep(w, frames, w->datagrams, 0, w->pos, length, FRAME_DATAGRAM);
	w->datagrams++;
	return length;
}

/* walk_body handles a frame whose integers were read; it returns the bytes that follow them, or -1. */
RULE u64 walk_body(struct walk *w, const u8 *p, struct frame *frames, u64 type, const u64 *v)
{
	u64 bytes;

	if ((type & ~7ULL) == 0x08)
		return walk_stream(w, frames, type, v);
	switch (type) {
	case 0x30: case 0x31:
		return walk_datagram(w, frames, type, v);
	case 0x02: case 0x03:
		if (v[3] > v[0])
			return -1;
		w->smallest = v[0] - v[3];
		w->ranges = v[2];
		w->ecn = type & 1;
		if (w->ecn && !w->ranges && !walk_ecn(w, p))
			return -1;
		return 0;
	case 0x24: /* RESET_STREAM_AT: reliable size within the final size */
		return v[3] > v[2] ? -1 : 0;
	case 0x06: /* CRYPTO */
		return v[1] > MAX_VARINT - v[0] ? -1 : v[1];
	case 0x07: /* NEW_TOKEN */
		return v[0] ? v[0] : -1;
	case 0x12: case 0x13: case 0x16: case 0x17: /* limits on streams */
		return v[0] > 1ULL << 60 ? -1 : 0;
	case 0x18: /* NEW_CONNECTION_ID: length, ID, reset token */
		if (v[1] > v[0] || w->pos >= w->end)
			return -1;
		bytes = p[w->pos & BUFFER_MASK];
		return bytes < 1 || bytes > 20 ? -1 : 1 + bytes + 16;
	case 0x1a: case 0x1b: /* path challenge and response */
		return 8;
	case 0x1c:
		return v[2];
	case 0x1d:
		return v[1];
	}
	return 0;
}

/* walk_item takes one frame or ACK range. It returns 0 to go on, 1 at the end of the packet or with a reason. */
RULE int walk_item(struct walk *w, const u8 *p, struct frame *frames)
{
	u64 type, bytes, v[4] = {};
	u32 len;
	int n;

	if (!w->ranges && w->pos >= w->end)
		return 1;
	if (w->items >= MAX_FRAMES) {
		w->reason = REASON_TOO_MANY_FRAMES;
		return 1;
	}
	w->items++;
	if (w->ranges) {
		if (walk_range(w, p))
			return 0;
		goto malformed;
	}
	len = read_varint(p, w->pos, w->end, &type);
	if (!len || len != varint_len(type))
		goto malformed;
	w->pos += len;
	n = fields(type);
	if (n < 0)
		goto malformed;
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		if (i >= n)
			break;
		len = read_varint(p, w->pos, w->end, &v[i]);
		if (!len)
			goto malformed;
		w->pos += len;
	}
	bytes = walk_body(w, p, frames, type, v);
	if (bytes > w->end - w->pos)
		goto malformed;
	w->pos += bytes;
	return 0;
malformed:
	w->reason = REASON_MALFORMED_FRAME;
	return 1;
}

#endif
