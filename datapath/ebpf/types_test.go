package ebpf

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
)

// header returns bpf/types.h, which the programs are built from.
func header(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../bpf/types.h")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReasonsOfC compares the reasons of the programs with those of Go, by name and number.
func TestReasonsOfC(t *testing.T) {
	_, body, ok := strings.Cut(header(t), "enum reason {")
	body, _, end := strings.Cut(body, "};")
	if !ok || !end {
		t.Fatal("types.h has no enum reason")
	}
	var names []string
	for name := range strings.SplitSeq(body, ",") {
		names = append(names, strings.ToLower(strings.TrimPrefix(strings.TrimSpace(name), "REASON_")))
	}
	if len(names) != datapath.ReasonCount+1 || names[datapath.ReasonCount] != "count" {
		t.Fatalf("types.h has %d reasons, Go %d", len(names)-1, datapath.ReasonCount)
	}
	for i, name := range names[:datapath.ReasonCount] {
		if want := datapath.Reason(i).String(); name != want {
			t.Errorf("reason %d is %s in C and %s in Go", i, name, want)
		}
	}
}

// TestNumbersOfC compares the sizes and word indices of the programs with those of Go.
func TestNumbersOfC(t *testing.T) {
	text := header(t)
	for name, want := range map[string]uint64{
		"CID_LEN": datapath.CIDLen, "MAX_FRAMES": datapath.MaxFrames, "MAX_FORWARD": datapath.MaxForward,
		"MEMBERS_PER_TRACK": datapath.MembersPerTrack, "MAX_PACKET_SIZE": datapath.MaxPacketSize,
		"NUMBER_LEN": datapath.NumberLen, "TAG_LEN": datapath.TagLen, "REPLAY_SLOTS": datapath.ReplaySlots,
		"MAX_SUBGROUP_BYTES": datapath.MaxSubgroupBytes, "SPACE_WORDS": datapath.SpaceWords,
		"WORD_NEXT": datapath.WordNext, "WORD_DATA_USED": datapath.WordDataUsed, "WORD_DATA_LIMIT": datapath.WordDataLimit,
		"WORD_POOL_HEAD": datapath.WordPoolHead, "WORD_POOL_TAIL": datapath.WordPoolTail, "WORD_MAX_SIZE": datapath.WordMaxSize,
		"WORD_GENERATION": datapath.WordGeneration, "WORD_POOL": datapath.WordPool, "POOL_SIZE": datapath.PoolSize,
		"WORD_SENT": datapath.WordSent, "WORD_SEND_LIMIT": datapath.WordSendLimit, "WORD_PACE_TIME": datapath.WordPaceTime,
		"WORD_PACE_COST": datapath.WordPaceCost, "WORD_PACE_BURST": datapath.WordPaceBurst,
		"WORD_PLAN_TIME": datapath.WordPlanTime, "WORD_POLICY": datapath.WordPolicy, "WORD_WAITING": datapath.WordWaiting,
		"WORD_POLICIES": datapath.WordPolicies, "WORD_STREAMS": datapath.WordStreams, "BANDS": datapath.Bands,
		"WORD_SLOTS": datapath.WordSlots, "SLOTS": datapath.Slots,
	} {
		m := regexp.MustCompile(`(?m)^#define ` + name + ` (\w+)$`).FindStringSubmatch(text)
		if m == nil {
			t.Errorf("types.h does not define %s", name)
			continue
		}
		if got, err := strconv.ParseUint(m[1], 0, 64); err != nil || got != want {
			t.Errorf("%s is %s in C and %d in Go", name, m[1], want)
		}
	}
}
