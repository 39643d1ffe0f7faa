//go:build cgo

package bpf

/*
#cgo CFLAGS: -O2 -Wall -fno-strict-aliasing
#include <string.h>
#include "parse.h"

static u8 buffer[BUFFER_SIZE];
static struct walk w;
static struct frame kept[MAX_FORWARD];

static void fill(const void *p, u32 n)
{
	memset(buffer, 0xff, sizeof(buffer));
	memcpy(buffer, p, n);
}

static void walk_all(const void *p, u32 n, u8 streams)
{
	fill(p, n);
	memset(&w, 0, sizeof(w));
	w.end = n;
	w.streams = streams;
	for (int i = 0; i < MAX_FRAMES + 1; i++)
		if (walk_item(&w, buffer, kept))
			return;
	w.reason = REASON_COUNT; // the walk must have ended
}

static struct walk walked(void) { return w; }

static struct frame kept_frame(int i) { return kept[i]; }

static u8 subgroup(const void *p, u32 n, struct media *m)
{
	fill(p, n);
	return parse_subgroup(buffer, 0, n, m);
}

static u8 datagram(const void *p, u32 n, struct media *m)
{
	fill(p, n);
	return parse_datagram(buffer, 0, n, m);
}

static u32 varint(const void *p, u32 n, u64 *v)
{
	fill(p, n);
	return read_varint(buffer, 0, n, v);
}

static u32 put_varint(u64 v, void *to)
{
	u32 n = write_varint(buffer, v);

	memcpy(to, buffer, n);
	return n;
}
*/
import "C"

import (
	"unsafe"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/rules"
)

func bytesOf(b []byte) (unsafe.Pointer, C.u32) {
	return unsafe.Pointer(unsafe.SliceData(b)), C.u32(len(b))
}

// walk is walk_item until it ends. It is not safe for concurrent use.
func walk(frames []byte, streams uint8, m *rules.Media) datapath.Reason {
	p, n := bytesOf(frames)
	C.walk_all(p, n, C.u8(streams))
	w := C.walked()
	*m = rules.Media{Len: int(w.media), Further: int(w.excess), Above: uint64(w.excess_opened)}
	for i := range m.Len {
		f := C.kept_frame(C.int(i))
		m.Frames[i] = rules.Frame{Stream: uint64(f.stream), Offset: uint64(f.offset), Data: frames[f.data : f.data+f.length],
			Fin: f.flags&C.FRAME_FIN != 0, Datagram: f.flags&C.FRAME_DATAGRAM != 0}
	}
	return datapath.Reason(w.reason)
}

// header is parse_subgroup or parse_datagram.
func header(b []byte, datagram bool, h *rules.Header) datapath.Reason {
	var m C.struct_media
	p, n := bytesOf(b)
	reason := datapath.Forwarded
	if datagram {
		reason = datapath.Reason(C.datagram(p, n, &m))
	} else {
		reason = datapath.Reason(C.subgroup(p, n, &m))
	}
	*h = rules.Header{Type: uint8(m._type), Alias: uint64(m.alias), AliasLen: int(m.alias_len), Group: uint64(m.group),
		Priority: uint8(m.priority), DefaultPriority: m.has_priority == 0}
	return reason
}

func subgroupType(t, draft uint8) bool { return C.subgroup_type(C.u64(t), C.u8(draft)) != 0 }
func datagramType(t, draft uint8) bool { return C.datagram_type(C.u64(t), C.u8(draft)) != 0 }

func readVarint(b []byte) (v uint64, n int) {
	var c C.u64
	p, size := bytesOf(b)
	n = int(C.varint(p, size, &c))
	return uint64(c), n
}

func writeVarint(v uint64) []byte {
	b := make([]byte, 8)
	p, _ := bytesOf(b)
	return b[:C.put_varint(C.u64(v), p)]
}

func decodeNumber(next, truncated uint64, n int) uint64 {
	return uint64(C.decode_number(C.u64(next), C.u64(truncated), C.u32(n)))
}

func replayed(slot, number uint64) bool { return C.replayed(C.u64(slot), C.u64(number)) != 0 }

// advance is stream_advance, which checks the slot's limit too.
func advance(word, limit, stream, end uint64, fin bool) (next, growth uint64, r datapath.Reason) {
	var n, g C.u64
	last := C.int(0)
	if fin {
		last = 1
	}
	r = datapath.Reason(C.stream_advance(C.u64(word), C.u64(limit), C.u64(stream), C.u64(end), last, &n, &g))
	return uint64(n), uint64(g), r
}

func checkBudget(sent, limit, pace, cost, burst, now, size uint64) datapath.Reason {
	return datapath.Reason(C.check_budget(C.u64(sent), C.u64(limit), C.u64(pace), C.u64(cost), C.u64(burst), C.u64(now), C.u64(size)))
}

// checkPolicy takes a decision by the words of a half of a policy.
func checkPolicy(half *[policyHalf]uint64, plan, now uint64, o *datapath.Offer) (r datapath.Reason, cut bool) {
	var c C.u32
	offer := C.struct_offer{group: C.u64(o.Group), sample: C.u64(o.Sample), size: C.u64(o.Size), cut: C.u64(o.Cut), importance: C.u32(o.Importance)}
	if o.Started {
		offer.started = 1
	}
	r = datapath.Reason(C.check_policy((*C.u64)(unsafe.Pointer(half)), C.u64(plan), C.u64(now), &offer, &c))
	return r, c != 0
}

// policyHalf is the size of half of a policy, in words.
const policyHalf = C.POLICY_HALF

func importance(subscriber, publisher uint8) uint16 {
	return uint16(C.importance(C.u8(subscriber), C.u8(publisher)))
}

func paceAfter(pace, cost, now, size uint64) uint64 {
	return uint64(C.pace_after(C.u64(pace), C.u64(cost), C.u64(now), C.u64(size)))
}

func datagramSize(length uint32, withLength bool) int {
	with := C.u32(0)
	if withLength {
		with = 1
	}
	return int(C.datagram_size(C.u32(length), with))
}

func shareAdmits(own, used, part, rest uint64) bool {
	return C.share_admits(C.u64(own), C.u64(used), C.u64(part), C.u64(rest)) != 0
}

func selected(first, last, group uint64) bool {
	return C.selected(C.u64(first), C.u64(last), C.u64(group)) != 0
}

// translate returns where a frame goes in the client's stream, and its length there.
func translate(offset uint64, length, before, after uint32) (to uint64, size uint32, r datapath.Reason) {
	var t C.u64
	var n, rewrite C.u32
	r = datapath.Reason(C.translate(C.u64(offset), C.u32(length), C.u32(before), C.u32(after), &t, &n, &rewrite))
	return uint64(t), uint32(n), r
}
