/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Server ingress opens a publisher's packet and fans its media frames out: one clone per client that is subscribed to one
 * of their tracks. The packet itself always goes on to userspace, unaltered.
 */
#include "ip.h"

struct ingress {
	struct __sk_buff *skb;
	struct scratch *s;
	struct number_window *numbers;
	struct member_list *members;
	u32 turn; /* index of the track that is being fanned out */
};

static long ingress_walk(u32 i, struct ingress *c)
{
	return walk_item(&c->s->walk, c->s->packet, c->s->frames);
}

/*
 * turn makes this CPU's word in `fan_outs` odd, or even again. What comes before it is seen before it, and what comes after it
 * after it: atomics are full barriers only if their result is used. 0: there is no such CPU, which userspace sees to.
 */
static __always_inline int turn(void)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct fan_out *f = bpf_map_lookup_elem(&fan_outs, &cpu);
	u64 was;

	if (!f)
		return 0;
	was = __sync_fetch_and_add(&f->turns, 1);
	asm volatile("" : : "r"(was));
	return 1;
}

/* open_stream finds the track of a STREAM frame, and decides for a stream that is seen for the first time. */
static __always_inline u8 open_stream(struct ingress *c, struct frame *f)
{
	struct stream_key key = {.stream = f->stream, .upstream = c->s->upstream};
	struct track_key alias = {.upstream = c->s->upstream};
	struct stream *old, new = {};
	struct track *track;
	struct media m = {};
	u8 reason;

	old = bpf_map_lookup_elem(&streams, &key);
	if (old)
		goto known;
	if (f->offset)
		return REASON_NOT_OPENED;
	if (!c->s->deciding || f->stream < *(volatile u64 *)&c->numbers->watermark)
		return REASON_NOT_OPENED;
	reason = parse_subgroup(c->s->packet, f->data, f->data + f->length, &m);
	if (reason)
		goto slow;
	alias.alias = m.alias;
	track = bpf_map_lookup_elem(&tracks, &alias);
	reason = REASON_UNKNOWN_TRACK;
	if (!track)
		goto slow;
	reason = REASON_BAD_HEADER;
	if (!subgroup_type(m.type, track->draft))
		goto slow;
	new.group = m.group;
	new.track = track->track;
	new.priority = m.has_priority ? m.priority : track->priority;
	new.alias_len = m.alias_len;
	reason = REASON_STREAMS_FULL;
	if (take_entry(&c->numbers->streams, REST_STREAMS, STREAM_PART, STREAM_REST)) {
		if (!bpf_map_update_elem(&streams, &key, &new, BPF_NOEXIST)) {
			f->flags |= FRAME_OPENED;
			old = &new;
			goto known;
		}
		give_entry(&c->numbers->streams, REST_STREAMS, STREAM_PART);
	}
	old = bpf_map_lookup_elem(&streams, &key);
	if (old)
		goto known;
slow:
	raise(&c->numbers->watermark, f->stream + 1);
	return reason;
known:
	f->track = old->track;
	f->group = old->group;
	f->priority = old->priority;
	f->alias_len = old->alias_len;
	return RULE_OK;
}

static __always_inline u8 open_datagram(struct ingress *c, struct frame *f)
{
	struct track_key alias = {.upstream = c->s->upstream};
	struct track *track;
	struct media m = {};
	u8 reason = parse_datagram(c->s->packet, f->data, f->data + f->length, &m);

	if (reason)
		return reason;
	alias.alias = m.alias;
	track = bpf_map_lookup_elem(&tracks, &alias);
	if (!track)
		return REASON_UNKNOWN_TRACK;
	if (!datagram_type(m.type, track->draft))
		return REASON_BAD_HEADER;
	f->track = track->track;
	f->group = m.group;
	f->priority = m.has_priority ? m.priority : track->priority;
	f->alias_len = m.alias_len;
	return RULE_OK;
}

static long ingress_frame(u32 i, struct ingress *c)
{
	struct scratch *s = c->s;
	struct frame *f = &s->frames[i & (MAX_FORWARD - 1)];
	struct member_list *m;
	u32 track;
	u8 reason = f->flags & FRAME_DATAGRAM ? open_datagram(c, f) : open_stream(c, f);

	if (!reason) {
		track = f->track;
		m = bpf_map_lookup_elem(&members, &track);
		if (!m || !m->n)
			reason = REASON_NO_SUBSCRIBER;
	}
	if (reason) {
		f->track = NO_TRACK;
		count(reason, 1);
		return 0;
	}
	if (s->priority_cid)
		f->priority = s->cid_priority;
#pragma unroll
	for (int t = 0; t < MAX_FORWARD; t++)
		if (t < s->track_count && s->tracks[t] == track)
			return 0;
	s->tracks[s->track_count & (MAX_FORWARD - 1)] = track;
	s->track_count++;
	return 0;
}

/*
 * handed_over counts the frames of a packet that egress composed and let go, now that it is known whether the kernel took it.
 * Where it did not (a queue is full, the interface is down, a later program shot it) a second record tells so; without room for it
 * the packet is found lost by missing acknowledgments.
 */
static __always_inline void handed_over(struct scratch *s, long failed)
{
	struct record *r;

	count(failed ? REASON_SEND_FAILED : FORWARDED, s->sending);
	if (!failed)
		return;
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r)
		return;
	s->record.reason = REASON_SEND_FAILED;
	s->record.frames = 0;
	__builtin_memcpy(r, &s->record, sizeof(*r));
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

static long ingress_member(u32 i, struct ingress *c)
{
	struct scratch *s = c->s;
	struct __sk_buff *skb = c->skb;
	u32 place = *(volatile u32 *)&c->members->place[i & (MEMBERS_PER_TRACK - 1)];
	struct sub_key key = {.client = place - 1};
	struct link *link;
	struct sub *sub;
	long failed;

	if (!place)
		return 0;
#pragma unroll
	for (int t = 0; t < MAX_FORWARD - 1; t++) {
		if (t >= c->turn)
			break;
		key.track = s->tracks[t];
		if (bpf_map_lookup_elem(&subs, &key))
			return 0;
	}
	key.track = s->tracks[c->turn & (MAX_FORWARD - 1)];
	sub = bpf_map_lookup_elem(&subs, &key);
	link = bpf_map_lookup_elem(&links, &key.client);
	if (!sub || !link)
		return 0;
	if (!link->ifindex) {
		count(REASON_NO_ROUTE, 1);
		return 0;
	}
	s->client = key.client;
	s->mark = (key.client & 0xffff) | (u32)sub->generation << 16 | MARK_MAGIC << 24;
	skb->mark = s->mark;
	s->sending = 0;
	/* A negative error, or a positive NET_XMIT code: also NET_XMIT_CN, which is all that an interface that is down says. */
	failed = bpf_clone_redirect(skb, link->ifindex, 0);
	/* Egress takes the mark off; if it is still there, the clone never came by, and no record tells of it. */
	if (s->mark) {
		s->mark = 0;
		count(REASON_SEND_FAILED, 1);
	} else if (s->sending) {
		handed_over(s, failed);
	}
	return 0;
}

/* check_packet applies rules 2 to 5 and leaves the media frames in the scratch; 0 is to fan them out. */
static __always_inline u8 check_packet(struct ingress *c, struct headers *h)
{
	struct __sk_buff *skb = c->skb;
	struct scratch *s = c->s;
	struct number_window *n;
	struct upstream *u;
	struct cid cid;
	u64 number, *slot, old;
	u32 len = h->udp_length - UDP_LEN, number_len, decides;
	struct cid_owner *owner;
	u8 first;

	if (h->udp_length <= UDP_LEN || h->payload - UDP_LEN + h->udp_length > h->ip_end || h->ip_end > skb->len)
		return REASON_TRUNCATED;
	if (skb->gso_size)
		return REASON_GSO;
	if (bpf_skb_load_bytes(skb, h->payload, &first, 1))
		return REASON_TRUNCATED;
	if (first & 0x80)
		return REASON_LONG_HEADER;
	if (len < 1 + CID_LEN + NUMBER_LEN + TAG_LEN || len > MAX_PACKET_SIZE || !(first & 0x40))
		return REASON_TRUNCATED;
	if (bpf_skb_load_bytes(skb, h->payload, s->packet, len))
		return REASON_TRUNCATED;

	__builtin_memcpy(&cid, s->packet + 1, CID_LEN);
	s->cid_priority = cid.bytes[CID_LEN - 1];
	cid.bytes[CID_LEN - 1] = 0;
	owner = bpf_map_lookup_elem(&cids, &cid);
	if (!owner)
		return REASON_UNKNOWN_CID;
	s->upstream = owner->upstream;
	u = bpf_map_lookup_elem(&upstreams, &s->upstream);
	n = bpf_map_lookup_elem(&numbers, &s->upstream);
	if (!u || !n || !u->valid || (!u->priority_cid && s->cid_priority != owner->last))
		return REASON_UNKNOWN_CID;
	s->priority_cid = u->priority_cid;
	if (__builtin_memcmp(&u->remote, &h->source, sizeof(u->remote)))
		return REASON_ADDRESS;

	/* The null cipher: what would be protected must look as if it had been. */
	if ((first & 0x1c) || load64(s->packet + ((len - 16) & BUFFER_MASK)) || load64(s->packet + ((len - 8) & BUFFER_MASK)))
		return REASON_AUTH;
	number_len = 1 + (first & 3);
	number = load64(s->packet + 1 + CID_LEN) >> (64 - 8 * number_len);
	number = decode_number(*(volatile u64 *)&n->next, number, number_len);

	__builtin_memset(&s->walk, 0, sizeof(s->walk));
	s->walk.pos = 1 + CID_LEN + number_len;
	s->walk.end = len - TAG_LEN;
	s->walk.streams = u->streams;
	bpf_loop(MAX_FRAMES + 1, ingress_walk, c, 0);
	if (s->walk.reason)
		return s->walk.reason;

	/*
	 * Before the window: a duplicate on another CPU, which the window refuses, may take the stream's start or the datagram to userspace
	 * now. And before the watermark is read: who raises it and then waits knows that no entry is made any more.
	 */
	decides = !!s->walk.excess_opened;
#pragma unroll
	for (u32 i = 0; i < MAX_FORWARD; i++)
		decides |= i < s->walk.media && !s->frames[i].offset;
	if (decides)
		s->deciding = turn();

	slot = &n->slots[number & (REPLAY_SLOTS - 1)];
	old = *(volatile u64 *)slot;
	if (replayed(old, number) || __sync_val_compare_and_swap(slot, old, number + 1) != old)
		return REASON_REPLAY;
	raise(&n->next, number + 1);
	if (!s->walk.media)
		return REASON_NO_MEDIA;
	s->number = number;
	s->payload = h->payload;
	s->track_count = 0;
	c->numbers = n;
	return RULE_OK;
}

/* forward applies rules 7 and 8 to the media frames in the scratch. */
static __always_inline void forward(struct ingress *c)
{
	struct __sk_buff *skb = c->skb;
	struct scratch *s = c->s;
	u32 saved, n;

	if (s->walk.excess)
		count(REASON_TOO_MANY_MEDIA, s->walk.excess);
	bpf_loop(s->walk.media & 7, ingress_frame, c, 0);
	if (s->walk.excess_opened)
		raise(&c->numbers->watermark, s->walk.excess_opened);

	saved = skb->mark;
	for (u32 t = 0; t < MAX_FORWARD; t++) {
		u32 track;

		if (t >= s->track_count)
			break;
		track = s->tracks[t];
		c->turn = t;
		c->members = bpf_map_lookup_elem(&members, &track);
		if (!c->members)
			break;
		n = *(volatile u32 *)&c->members->n;
		if (n > MEMBERS_PER_TRACK)
			n = MEMBERS_PER_TRACK;
		bpf_loop(n, ingress_member, c, 0);
	}
	skb->mark = saved;
}

SEC("tc")
int server_ingress(struct __sk_buff *skb)
{
	struct ingress c = {.skb = skb};
	struct headers h = {};
	struct scratch *s;
	int verdict = parse_headers(skb, &h);

	if (verdict == OTHER)
		return TCX_NEXT;
	s = get_scratch();
	if (!s || s->mark) /* inside a fan-out of our own, which no device that we send by does */
		return TCX_NEXT;
	c.s = s;
	s->deciding = 0;
	if (verdict == OURS)
		verdict = check_packet(&c, &h);
	if (verdict)
		count(verdict, 1);
	else
		forward(&c);
	if (s->deciding)
		turn();
	return TCX_NEXT;
}
