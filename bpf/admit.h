/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What a frame for a client needs before it can be sent: a stream of the client, the policy's leave, room in the budget, credit. Nothing is
 * taken from the client's space before it is known that it can be used.
 */
#ifndef FASTRELAY_ADMIT_H
#define FASTRELAY_ADMIT_H

#include "maps.h"

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
static __always_inline u8 keep_stream(struct egress *c, struct client_stream_key *key, struct frame *f, struct step *t, u8 dropped)
{
	u64 *own = &c->space->words[WORD_STREAMS];
	struct client_stream v = {.stream = t->stream, .alias = t->alias, .track = f->track, .slot = t->slot,
		.old_prefix = t->old, .new_prefix = t->new, .dropped = dropped};

	if (t->started) {
		bpf_map_update_elem(&client_streams, key, &v, BPF_EXIST);
		return RULE_OK;
	}
	if (!take_entry(own, REST_CLIENT_STREAMS, CLIENT_STREAM_PART, CLIENT_STREAM_REST))
		return REASON_CLIENT_STREAMS;
	if (bpf_map_update_elem(&client_streams, key, &v, BPF_NOEXIST)) {
		give_entry(own, REST_CLIENT_STREAMS, CLIENT_STREAM_PART);
		return REASON_CLIENT_STREAMS;
	}
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
		reason = keep_stream(c, key, f, t, !!dropped);
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

#endif
