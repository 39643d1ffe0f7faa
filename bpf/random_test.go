//go:build cgo

package bpf

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/rules"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// setting returns a number from the environment; make diff sets them.
func setting(t *testing.T, name string, n uint64) uint64 {
	t.Helper()
	if v := os.Getenv(name); v != "" {
		var err error
		if n, err = strconv.ParseUint(v, 0, 64); err != nil {
			t.Fatalf("%s is %q, not a number", name, v)
		}
	}
	return n
}

// TestRandomPackets takes packets through the rules in C and in Go. Packet i is made of seed FASTRELAY_DIFF_SEED + i, and there
// are FASTRELAY_DIFF_PACKETS.
func TestRandomPackets(t *testing.T) {
	seed, n := setting(t, "FASTRELAY_DIFF_SEED", 1), setting(t, "FASTRELAY_DIFF_PACKETS", 20000)
	var reached [datapath.ReasonCount]int
	failed := 0
	for i := range n {
		c := comparison{Random: datapathtest.NewRandom(seed + i), reached: &reached}
		c.packet()
		if c.diff == "" {
			continue
		}
		t.Errorf("packet of seed %d: %s", seed+i, c.diff)
		if failed++; failed == 10 {
			t.Fatal("no more packets after ten that differ")
		}
	}
	told := fmt.Sprintf("rules in C and in Go: %d packets of seeds %d to %d, %d differ", n, seed, seed+n-1, failed)
	t.Log(told)
	if os.Getenv("FASTRELAY_DIFF_PACKETS") != "" {
		fmt.Fprintln(os.Stderr, told) // go test shows no log of a test that passes
	}
	for _, r := range []datapath.Reason{datapath.Forwarded, datapath.ReasonMalformedFrame, datapath.ReasonTooManyFrames, datapath.ReasonBadHeader,
		datapath.ReasonHeaderSplit, datapath.ReasonPrefixSplit, datapath.ReasonStreamCredit, datapath.ReasonClosedStream,
		datapath.ReasonCongestionWindow, datapath.ReasonPaced, datapath.ReasonDropShare, datapath.ReasonDropReserve, datapath.ReasonDropGroup} {
		if n >= 20000 && reached[r] == 0 {
			t.Errorf("no packet came to %v: the packets are not random enough", r)
		}
	}
}

// comparison is that of one packet.
type comparison struct {
	datapathtest.Random
	reached *[datapath.ReasonCount]int
	diff    string // the first difference
}

func (c *comparison) fail(format string, args ...any) {
	if c.diff == "" {
		c.diff = fmt.Sprintf(format, args...)
	}
}

// reason compares two verdicts, and says whether both are to go on.
func (c *comparison) reason(what string, input []byte, inGo, inC datapath.Reason) bool {
	c.reached[inGo]++
	if inGo != inC {
		c.fail("%s of %x: %v in Go, %v in C", what, input, inGo, inC)
	}
	return inGo == datapath.Forwarded && inC == datapath.Forwarded
}

func (c *comparison) packet() {
	c.number()
	c.budget()
	c.policy()
	frames := c.Frames()
	if c.OneIn(4) {
		frames = c.Damage(frames)
	}
	var m rules.Media
	c.walk(frames, &m)
	for i := range m.Len {
		c.media(&m.Frames[i])
	}
	if c.OneIn(16) && len(frames) < 200 {
		for n := range frames {
			c.walk(frames[:n], &m)
		}
	}
}

// number compares what is recovered of a packet number and the replay window.
func (c *comparison) number() {
	next, n := c.Number(), 1+c.IntN(4)
	full := next + c.Uint64N(70000) - 35000
	if c.OneIn(4) {
		full = c.Number()
	}
	low := full & (1<<(8*n) - 1)
	inGo := wire.DecodePacketNumber(next, low, n)
	if inC := decodeNumber(next, low, n); inGo != inC {
		c.fail("number %#x in %d bytes after %d: %d in Go, %d in C", low, n, next, inGo, inC)
	}
	slot := inGo + c.Uint64N(4) - 1
	if _, fresh := rules.Replay(slot, inGo); fresh == replayed(slot, inGo) {
		c.fail("number %d at slot %d: fresh is %v in Go, not in C", inGo, slot, fresh)
	}
}

// budget compares what a client's budget says of a packet, next to where it is used up.
func (c *comparison) budget() {
	sent, size, now, cost := c.Number(), 1+c.Uint64N(datapath.MaxPacketSize), c.Number(), c.Uint64N(1<<20)*c.Uint64N(3)
	limit := datapathtest.Pick(c.Random, sent+size-1, sent+size, sent+size+1, datapath.Unlimited)
	pace := datapathtest.Pick(c.Random, 0, now-1, now, now+c.Uint64N(1<<20))
	after := datapath.PaceAfter(pace, cost, now, size)
	if got := paceAfter(pace, cost, now, size); got != after {
		c.fail("pace %d, cost %d, now %d, size %d: %d in Go, %d in C", pace, cost, now, size, after, got)
	}
	burst := datapathtest.Pick(c.Random, after-now-1, after-now, after-now+1, c.Number())
	c.reason("budget", nil, datapath.CheckBudget(sent, limit, pace, cost, burst, now, size), checkBudget(sent, limit, pace, cost, burst, now, size))
}

// policy compares the decisions of a policy's words, of one that was accepted or of any, on a frame that is next to the edge of what they say.
func (c *comparison) policy() {
	s := datapath.NewSpace(nil, nil)
	p := c.Policy()
	if s.SetPolicy(&p) != nil {
		return
	}
	half := datapath.WordPolicies + policyHalf*int(*s.Word(datapath.WordPolicy)&1)
	if c.OneIn(3) { // words that no policy has
		*s.Word(half + c.IntN(policyHalf)) = datapathtest.Pick(c.Random, c.Uint64(), c.Number(), 0, 1<<64-1)
	}
	var words [policyHalf]uint64
	for i := range words {
		words[i] = *s.Word(half + i)
	}
	now, group := c.Number(), c.Number()
	o := datapath.Offer{Importance: datapathtest.Pick(c.Random, uint16(c.IntN(1<<16)), uint16(words[8+c.IntN(8)])+uint16(c.IntN(3)-1)), Group: group,
		Sample: datapathtest.Pick(c.Random, c.Uint64N(100), c.Number()), Size: c.Uint64N(datapath.MaxPacketSize), Started: c.OneIn(2),
		Cut: datapathtest.Pick(c.Random, 0, group, group+1, c.Number())}
	// What the frame costs, before the end of one of the depths or behind it.
	depth := datapathtest.Pick(c.Random, words[1], words[8+c.IntN(8)]>>35<<10)
	*s.Word(datapath.WordPlanTime) = datapathtest.Pick(c.Random, 0, c.Number(), now+depth-o.Size*words[0]>>10+c.Uint64N(3)-1)
	inGo, cut := s.Admit(now, &o)
	inC, cutC := datapath.Forwarded, false
	if *s.Word(datapath.WordPolicy)&2 != 0 {
		inC, cutC = checkPolicy(&words, s.PlanTime(), now, &o)
	}
	c.reason("policy", nil, inGo, inC)
	if inGo == inC && cut != cutC {
		c.fail("words %x, plan %d, now %d, %+v: %v cuts %v in Go, %v in C", words, s.PlanTime(), now, o, inGo, cut, cutC)
	}
	a, b := uint8(c.IntN(256)), uint8(c.IntN(256))
	if x, y := datapath.Importance(a, b), importance(a, b); x != y {
		c.fail("importance of %d and %d: %d in Go, %d in C", a, b, x, y)
	}
}

// walk leaves the media frames in m; none if the verdict is not to go on.
func (c *comparison) walk(frames []byte, m *rules.Media) {
	var inC rules.Media
	bits := uint8(2 + c.IntN(2))
	if !c.reason("walk", frames, rules.Walk(frames, bits, m), walk(frames, bits, &inC)) {
		m.Len = 0
		return
	}
	same := m.Len == inC.Len && m.Further == inC.Further && m.Above == inC.Above
	for i := 0; same && i < m.Len; i++ {
		a, b := &m.Frames[i], &inC.Frames[i]
		same = a.Stream == b.Stream && a.Offset == b.Offset && a.Fin == b.Fin && a.Datagram == b.Datagram && bytes.Equal(a.Data, b.Data)
	}
	if !same {
		c.fail("walk of %x: %+v in Go, %+v in C", frames, *m, inC)
	}
}

// media compares what becomes of a frame: its header, at every length, and its place in the client's stream.
func (c *comparison) media(f *rules.Frame) {
	h := c.header(f.Data, f.Datagram)
	c.header(f.Data, !f.Datagram)
	if c.OneIn(8) {
		for n := range min(len(f.Data), datapath.MaxSubgroupBytes+2) {
			c.header(f.Data[:n], f.Datagram)
		}
	}
	if len(f.Data) > 0 {
		for _, draft := range []uint8{14, 16} {
			t := f.Data[0]
			if rules.SubgroupType(t, draft) != subgroupType(t, draft) || rules.DatagramType(t, draft) != datagramType(t, draft) {
				c.fail("type %#x of draft %d", t, draft)
			}
		}
	}
	alias, before := c.Number(), max(h.AliasLen, 1)
	prefix := rules.NewPrefix(before, alias)
	var p rules.Piece
	inGo := prefix.Rewrite(f.Offset, f.Data, &p)
	to, length, inC := translate(f.Offset, uint32(len(f.Data)), uint32(1+before), uint32(1+wire.VarintLen(alias)))
	if c.reason("prefix", f.Data, inGo, inC) && (p.Offset != to || p.Len() != int(length)) {
		c.fail("%d bytes at %d with an alias of %d for %d: %d at %d in Go, %d at %d in C", len(f.Data), f.Offset, alias, before,
			p.Len(), p.Offset, length, to)
	}
	for _, v := range []uint64{alias, f.Stream, f.Offset} {
		b := wire.AppendVarint(nil, v)
		if got := writeVarint(v); !bytes.Equal(b, got) {
			c.fail("%d is written as %x in Go, %x in C", v, b, got)
		}
	}
	c.credit(f.Stream, f.Offset+uint64(len(f.Data)))
	share := datapath.Share{Part: c.Uint64N(4), Rest: c.Uint64N(8)}
	if own, used := c.Uint64N(8), c.Uint64N(8); share.Admits(own, used) != shareAdmits(own, used, share.Part, share.Rest) {
		c.fail("%d entries and %d of %+v: admitted in one of Go and C", own, used, share)
	}
	s := datapath.Subscription{FirstGroup: h.Group + c.Uint64N(3) - 1, LastGroup: datapathtest.Pick(c.Random, 0, h.Group, h.Group+1, c.Number())}
	if rules.Selected(h.Group, &s) != selected(s.FirstGroup, s.LastGroup, h.Group) {
		c.fail("group %d in %d…%d: selected in one of Go and C", h.Group, s.FirstGroup, s.LastGroup)
	}
}

func (c *comparison) header(b []byte, datagram bool) rules.Header {
	var inGo, inC rules.Header
	parse := rules.ParseSubgroup
	if datagram {
		parse = rules.ParseDatagram
	}
	if c.reason("header", b, parse(b, &inGo), header(b, datagram, &inC)) && inGo != inC {
		c.fail("header %x: %+v in Go, %+v in C", b, inGo, inC)
	}
	return inGo
}

// credit compares how a stream's word moves to end.
func (c *comparison) credit(stream, end uint64) {
	if c.OneIn(8) {
		end = datapath.MaxStreamOffset - 1 + c.Uint64N(3)
	}
	limit := datapathtest.Pick(c.Random, end, end+1, end-1, wire.MaxVarint)
	word := datapath.StreamTag(stream) | datapathtest.Pick(c.Random, 0, end, end-1, end+1, c.Number())&datapath.StreamOffset
	if c.OneIn(8) {
		word ^= datapathtest.Pick(c.Random, uint64(datapath.StreamClosed), datapath.StreamTag(4), datapath.StreamTag(1<<16))
	}
	fin := c.OneIn(2)
	inGo := rules.CheckStream(end, limit)
	var next, growth uint64
	if inGo == datapath.Forwarded {
		next, growth, inGo = rules.Advance(word, stream, end, fin)
	}
	nextC, growthC, inC := advance(word, limit, stream, end, fin)
	if c.reason("credit", nil, inGo, inC) && (next != nextC || growth != growthC) {
		c.fail("word %#x of stream %d to %d: %#x by %d in Go, %#x by %d in C", word, stream, end, next, growth, nextC, growthC)
	}
}
