/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Client egress makes of a clone the packet that its client gets. Nothing is taken from the client's space before it is
 * known that it can be used; the record is written before the packet leaves.
 */
#include "ip.h"

#define TRIES 4

struct egress {
	struct __sk_buff *skb;
	struct scratch *s;
	struct space *space;
	u32 generation;
};

/* A frame on its way through the steps. */
struct step {
	u64 stream; /* client's */
	u64 alias;
	u64 to;     /* offset in the client's stream */
	u64 cut;    /* of the subscription, as the policy saw it */
	u64 plan;   /* its time, as the policy saw it */
	u32 length; /* there */
	u32 rewrite;
	u8 slot, old, new, started, opened;
};

/* at_least_one returns n, 1 to BUFFER_MASK + 1, in a way that verifiers before Linux 6.8 see: a test against 0 teaches them nothing. */
static __always_inline u32 at_least_one(u32 n)
{
	n--;
	asm volatile("" : "+r"(n));
	return (n & BUFFER_MASK) + 1;
}

/* take_stream takes a reserved stream ID from the pool. */
static __always_inline u8 take_stream(struct space *space, struct step *t)
{
	u64 *w = space->words;

	for (int i = 0; i < TRIES; i++) {
		u64 head = *(volatile u64 *)&w[WORD_POOL_HEAD];
		u64 v;

		if (head == *(volatile u64 *)&w[WORD_POOL_TAIL])
			return REASON_POOL_EMPTY;
		v = *(volatile u64 *)&w[WORD_POOL + (head & (POOL_SIZE - 1))];
		if (__sync_val_compare_and_swap(&w[WORD_POOL_HEAD], head, head + 1) != head)
			continue;
		t->stream = v & STREAM_OFFSET;
		t->slot = v >> 48 & (SLOTS - 1);
		return RULE_OK;
	}
	return REASON_CONTENDED;
}

/* find_stream finds a STREAM frame's stream, or that it may be opened. */
static __always_inline u8 find_stream(struct client_stream_key *key, struct frame *f, struct sub *sub, struct step *t)
{
	struct client_stream *old = bpf_map_lookup_elem(&client_streams, key);

	if (old) {
		if (old->dropped)
			return REASON_DROP_STREAM;
		t->stream = old->stream;
		t->alias = old->alias;
		t->slot = old->slot;
		t->old = old->old_prefix;
		t->new = old->new_prefix;
		t->started = 1;
		return RULE_OK;
	}
	if (!(f->flags & FRAME_OPENED))
		return REASON_SLOW_STREAM;
	return selected(sub->first_group, sub->last_group, f->group) ? RULE_OK : REASON_FILTERED;
}

/*
 * keep_stream makes the entry of a stream that opens, or marks that of one which is dropped after it was begun. That is not written in
 * place: userspace may have evicted the entry, and its memory be another stream's.
 */
static __always_inline u8 keep_stream(struct client_stream_key *key, struct frame *f, struct step *t, u8 dropped)
{
	struct client_stream v = {.stream = t->stream, .alias = t->alias, .track = f->track, .slot = t->slot,
		.old_prefix = t->old, .new_prefix = t->new, .dropped = dropped};
	long failed = bpf_map_update_elem(&client_streams, key, &v, t->started ? BPF_EXIST : BPF_NOEXIST);

	if (t->started)
		return RULE_OK;
	if (failed)
		return REASON_CLIENT_STREAMS;
	t->opened = 1;
	return RULE_OK;
}

/* close_stream closes a stream, if its slot was not given to another. The entry says that it is dropped, so a lost race does no harm. */
static __always_inline void close_stream(struct space *space, struct step *t)
{
	u64 *word = &space->words[WORD_SLOTS + 2 * (t->slot & (SLOTS - 1))];

	for (int i = 0; i < TRIES; i++) {
		u64 old = *(volatile u64 *)word;

		if ((old & ~STREAM_OFFSET) != stream_tag(t->stream) || __sync_val_compare_and_swap(word, old, old | STREAM_CLOSED) == old)
			return;
	}
}

/* look_at_budget says whether a packet of the client's largest size fits its budget. */
static __always_inline u8 look_at_budget(struct space *space, u64 now, u64 size)
{
	volatile u64 *w = space->words;

	return check_budget(w[WORD_SENT], w[WORD_SEND_LIMIT], w[WORD_PACE_TIME], w[WORD_PACE_COST], w[WORD_PACE_BURST], now, size);
}

/* draw moves the time at which a token bucket is full again by what size bytes cost. cost 0 is a bucket without a limit. */
static __always_inline void draw(u64 *at, u64 cost, u64 now, u64 size)
{
	if (!cost)
		return;
	for (int i = 0; i < TRIES; i++) {
		u64 old = *(volatile u64 *)at;

		if (__sync_val_compare_and_swap(at, old, pace_after(old, cost, now, size)) == old)
			return;
	}
	__sync_fetch_and_add(at, size * cost >> PACE_SHIFT);
}

/* charge_budget draws a packet of size bytes from the budget, whether it fits or not. */
static __always_inline void charge_budget(struct space *space, u64 now, u64 size)
{
	u64 *w = space->words;

	__sync_fetch_and_add(&w[WORD_SENT], size);
	draw(&w[WORD_PACE_TIME], *(volatile u64 *)&w[WORD_PACE_COST], now, size);
}

/* policy_words are the words of the client's policy. */
static __always_inline u64 *policy_words(struct egress *c)
{
	return &c->space->words[WORD_POLICIES + POLICY_HALF * (c->s->policy & POLICY_SECOND)];
}

/* admit is the policy's decision on a frame. It cuts the frame's group where the policy says so. */
static __always_inline u8 admit(struct egress *c, struct frame *f, struct sub *sub, struct step *t)
{
	struct scratch *s = c->s;
	struct offer o = {.group = f->group, .sample = f->stream >> 2, .size = t->length, .cut = t->cut,
		.importance = importance(sub->priority, f->priority), .started = t->started};
	u32 cut = 0;
	u8 reason;

	if (!(s->policy & POLICY_ON))
		return RULE_OK;
	if (f->flags & FRAME_DATAGRAM)
		o.sample = s->number;
	t->plan = *(volatile u64 *)&c->space->words[WORD_PLAN_TIME];
	reason = check_policy(policy_words(c), t->plan, s->record.time, &o, &cut);
	if (cut)
		raise(&sub->cut, f->group + 1);
	return reason;
}

/* charge_plan draws what was admitted from the plan. */
static __always_inline void charge_plan(struct egress *c, u64 size)
{
	if (c->s->policy & POLICY_ON)
		draw(&c->space->words[WORD_PLAN_TIME], *(volatile u64 *)&policy_words(c)[POLICY_COST], c->s->record.time, size);
}

/* held says why a frame that was admitted is not sent now: the budget, or what is not less important waits in userspace. */
static __always_inline u8 held(struct egress *c, struct frame *f, struct sub *sub)
{
	if (c->s->refused)
		return c->s->refused;
	return importance(sub->priority, f->priority) >= *(volatile u64 *)&c->space->words[WORD_WAITING] ? REASON_WAITING : RULE_OK;
}

/* own_stream is step 2 for a STREAM frame of a stream that find_stream let pass. */
static __always_inline u8 own_stream(struct egress *c, struct client_stream_key *key, struct frame *f, struct sub *sub, struct step *t)
{
	u8 dropped = admit(c, f, sub, t), reason = RULE_OK;

	if (!dropped && !t->started)
		reason = take_stream(c->space, t);
	if (!reason && (dropped || !t->started))
		reason = keep_stream(key, f, t, !!dropped);
	if (reason)
		return reason;
	if (dropped) {
		if (t->started)
			close_stream(c->space, t);
		return dropped;
	}
	charge_plan(c, t->length);
	return held(c, f, sub);
}

/* own_datagram is step 2 for a DATAGRAM frame. */
static __always_inline u8 own_datagram(struct egress *c, struct frame *f, struct sub *sub, struct step *t)
{
	u8 reason = admit(c, f, sub, t);

	if (!reason)
		reason = held(c, f, sub);
	if (!reason)
		charge_plan(c, t->length);
	return reason;
}

/* take_credit is step 5. */
static __always_inline u8 take_credit(struct space *space, struct step *t, int fin)
{
	u64 *w = space->words, *word = &w[WORD_SLOTS + 2 * (t->slot & (SLOTS - 1))];

	for (int i = 0; i < TRIES; i++) {
		u64 old = *(volatile u64 *)word, limit = *(volatile u64 *)(word + 1), next = 0, growth = 0;
		u8 reason = stream_advance(old, limit, t->stream, t->to + t->length, fin, &next, &growth);

		if (reason)
			return reason;
		if (next == old)
			return RULE_OK;
		if (__sync_fetch_and_add(&w[WORD_DATA_USED], growth) + growth > *(volatile u64 *)&w[WORD_DATA_LIMIT]) {
			__sync_fetch_and_add(&w[WORD_DATA_USED], -growth);
			return REASON_CONNECTION_CREDIT;
		}
		if (__sync_val_compare_and_swap(word, old, next) == old)
			return RULE_OK;
		__sync_fetch_and_add(&w[WORD_DATA_USED], -growth);
	}
	return REASON_CONTENDED;
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
