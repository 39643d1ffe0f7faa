/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Client egress makes of a clone the packet that its client gets. The record is written before the packet leaves.
 */
#include "admit.h"
#include "headers.h"

/* at_least_one returns n, 1 to BUFFER_MASK + 1, in a way that verifiers before Linux 6.8 see: a test against 0 teaches them nothing. */
static __always_inline u32 at_least_one(u32 n)
{
	n--;
	asm volatile("" : "+r"(n));
	return (n & BUFFER_MASK) + 1;
}

/* append is step 6; the frame's data comes from the clone, which still is the publisher's packet. */
static __always_inline void append(struct egress *c, struct frame *f, struct step *t, int with_length)
{
	struct scratch *s = c->s;
	u32 pos = s->pos, from = s->payload + f->data, left = t->length;

	if (f->flags & FRAME_DATAGRAM) {
		s->out[pos & BUFFER_MASK] = 0x30 | with_length;
		pos++;
	} else {
		s->out[pos & BUFFER_MASK] = 0x0c | with_length << 1 | (f->flags & FRAME_FIN);
		pos++;
		pos += write_varint(&s->out[pos & BUFFER_MASK], t->stream);
		pos += write_varint(&s->out[pos & BUFFER_MASK], t->to);
	}
	if (with_length)
		pos += write_varint(&s->out[pos & BUFFER_MASK], t->length);
	if (t->rewrite) {
		s->out[pos & BUFFER_MASK] = s->packet[f->data & BUFFER_MASK];
		write_varint(&s->out[(pos + 1) & BUFFER_MASK], t->alias);
		pos += t->new;
		left -= t->new;
		from += t->old;
	}
	left &= BUFFER_MASK;
	if (left && bpf_skb_load_bytes(c->skb, from, &s->out[pos & BUFFER_MASK], at_least_one(left)))
		s->failed = 1;
	s->pos = pos + left;
}

/* place is steps 2 to 6: 0 if the frame became part of the packet. */
static __always_inline u8 place(struct egress *c, struct frame *f, struct sub *sub, struct step *t)
{
	struct scratch *s = c->s;
	struct client_stream_key key = {.stream = f->stream, .upstream = s->upstream, .client = s->client, .generation = c->generation};
	u32 header = 1, with_length = 1;
	u8 reason, split;

	t->alias = sub->alias;
	t->old = 1 + f->alias_len;
	t->new = 1 + varint_len(sub->alias);
	t->cut = *(volatile u64 *)&sub->cut;
	if (f->flags & FRAME_DATAGRAM)
		reason = selected(sub->first_group, sub->last_group, f->group) ? RULE_OK : REASON_FILTERED;
	else
		reason = find_stream(&key, f, sub, t);
	if (reason)
		return reason;
	split = translate(f->offset, f->length, t->old, t->new, &t->to, &t->length, &t->rewrite);
	reason = f->flags & FRAME_DATAGRAM ? own_datagram(c, f, sub, t) : own_stream(c, &key, f, sub, t);
	if (reason)
		return reason;
	if (split)
		return split;
	if (!(f->flags & FRAME_DATAGRAM))
		header += varint_len(t->stream) + varint_len(t->to);
	if (s->ended)
		return REASON_TOO_BIG;
	if (s->pos + header + varint_len(t->length) + t->length > s->limit) {
		if (s->pos + header + t->length > s->limit)
			return REASON_TOO_BIG;
		with_length = 0;
	}
	if (f->flags & FRAME_DATAGRAM) {
		if (datagram_size(t->length, with_length) > s->max_datagram)
			return REASON_TOO_BIG;
	} else {
		reason = take_credit(c->space, t, f->flags & FRAME_FIN);
		if (reason)
			return reason;
	}
	s->ended = !with_length;
	append(c, f, t, with_length);
	return RULE_OK;
}

static long egress_frame(u32 i, struct egress *c)
{
	struct scratch *s = c->s;
	struct frame *f = &s->frames[i & (MAX_FORWARD - 1)];
	struct sub_key key = {.track = f->track, .client = s->client};
	struct record_frame *r;
	struct sub *sub;
	struct step t = {};
	u8 reason;

	if (f->track == NO_TRACK)
		return 0;
	sub = bpf_map_lookup_elem(&subs, &key);
	if (!sub || sub->generation != c->generation)
		return 0;
	reason = place(c, f, sub, &t);
	if (reason) {
		count(reason, 1);
	} else {
		s->appended++;
		if (f->priority < s->priority)
			s->priority = f->priority;
	}
	if (reason && !t.opened && (reason < REASON_DROP_SHARE || reason > REASON_DROP_GROUP))
		return 0;
	r = &s->record.frame[s->record.frames & (MAX_FORWARD - 1)];
	r->upstream_stream = f->stream;
	r->client_stream = t.stream;
	r->offset = t.to;
	r->group = f->group;
	r->cut = t.cut;
	r->plan = t.plan;
	r->length = t.length;
	r->track = f->track;
	r->slot = t.slot;
	r->priority = f->priority;
	r->subscriber = sub->priority;
	r->flags = (f->flags & (FRAME_FIN | FRAME_DATAGRAM)) | (t.opened ? FRAME_OPENED : 0);
	r->reason = reason;
	if (!s->record.frames)
		s->record.reason = reason;
	s->record.frames++;
	return 0;
}

/* begin writes what precedes the frames but for the number. */
static __always_inline void begin(struct egress *c, struct client *client)
{
	struct scratch *s = c->s;
	u64 limit = *(volatile u64 *)&c->space->words[WORD_MAX_SIZE];
	u32 dcid = client->dcid_len > CID_LEN ? CID_LEN : client->dcid_len;
	u8 *p;

	if (limit > MAX_PACKET_SIZE)
		limit = MAX_PACKET_SIZE;
	s->start = ETHER_LEN + UDP_LEN + (client->family == 4 ? IPV4_LEN : IPV6_LEN);
	p = &s->out[s->start & 63];
	p[0] = 0x43;
	__builtin_memcpy(p + 1, client->dcid, CID_LEN);
	s->pos = s->start + 1 + dcid + NUMBER_LEN;
	/* Never below 0: a size that leaves no room for the tag leaves none for a frame. */
	s->limit = s->start + limit - (limit < TAG_LEN ? limit : TAG_LEN);
	s->max_datagram = client->max_datagram;
	s->appended = 0;
	s->ended = 0;
	s->failed = 0;
	s->priority = 0xff;
	__builtin_memset(&s->record, 0, sizeof(s->record));
	s->record.time = clock_now();
	s->refused = look_at_budget(c->space, s->record.time, limit);
	s->policy = *(volatile u64 *)&c->space->words[WORD_POLICY];
	s->record.policy = s->policy >> POLICY_SHIFT;
	s->record.upstream_number = s->number;
	s->record.upstream = s->upstream;
	s->record.client = s->client;
	s->record.generation = c->generation;
}

/* finish numbers and seals the packet, and makes it the clone's content. 0 if that worked. */
static __always_inline int finish(struct egress *c, struct client *client, struct link *link)
{
	struct scratch *s = c->s;
	u64 number = __sync_fetch_and_add(&c->space->words[WORD_NEXT], 1);
	u32 dcid = client->dcid_len > CID_LEN ? CID_LEN : client->dcid_len;
	u32 pos = s->pos & BUFFER_MASK, length, total;
	u8 *p = &s->out[(s->start + 1 + dcid) & 127];

	p[0] = number >> 24;
	p[1] = number >> 16;
	p[2] = number >> 8;
	p[3] = number;
	if (client->priority_cid)
		s->out[(s->start + CID_LEN) & 127] = s->priority;
	p = &s->out[pos];
	store64(p, 0);
	store64(p + 8, 0);
	store64(p + 16, 0); /* for the checksum */
	total = pos + TAG_LEN;
	length = total - s->start;
	s->record.number = number;
	s->record.size = length;
	charge_budget(c->space, s->record.time, length);
	if (s->failed || length > MAX_PACKET_SIZE)
		return -1;
	write_headers(s->out, client, link, length);
	if (bpf_skb_change_tail(c->skb, total, 0))
		return -1;
	total &= BUFFER_MASK;
	if (!total)
		return -1;
	return bpf_skb_store_bytes(c->skb, 0, s->out, at_least_one(total), 0);
}

SEC("tc")
int client_egress(struct __sk_buff *skb)
{
	struct egress c = {.skb = skb};
	struct client *client;
	struct record *record;
	struct scratch *s;
	struct link *link;
	u32 mark = skb->mark, key;
	int verdict = TC_ACT_SHOT;
	u64 generation;

	if (mark >> 24 != MARK_MAGIC)
		return TCX_NEXT;
	s = get_scratch();
	if (!s || s->mark != mark)
		return TCX_NEXT;
	s->mark = 0;
	skb->mark = 0;
	c.s = s;
	c.generation = mark >> 16 & 0xff;
	key = s->client;
	c.space = bpf_map_lookup_elem(&spaces, &key);
	link = bpf_map_lookup_elem(&links, &key);
	if (!c.space || !link)
		return TC_ACT_SHOT;
	generation = *(volatile u64 *)&c.space->words[WORD_GENERATION];
	key = 2 * key + !!(generation & GENERATION_HALF);
	client = bpf_map_lookup_elem(&clients, &key);
	if (!client || (generation & 0xff) != c.generation) {
		count(REASON_STALE_CLIENT, 1);
		return TC_ACT_SHOT;
	}
	record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record) {
		count(REASON_RING_FULL, 1);
		return TC_ACT_SHOT;
	}
	begin(&c, client);
	bpf_loop(s->walk.media & 7, egress_frame, &c, 0);
	if (!s->record.frames) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return TC_ACT_SHOT;
	}
	if (s->appended) {
		int failed = finish(&c, client, link);

		if (failed) {
			s->record.reason = REASON_SEND_FAILED;
			count(REASON_SEND_FAILED, s->appended);
		} else {
			s->record.reason = FORWARDED;
			s->sending = s->appended; /* ingress counts them, when it knows how it went */
			verdict = TCX_NEXT;
		}
	}
	__builtin_memcpy(record, &s->record, sizeof(*record));
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return verdict;
}
