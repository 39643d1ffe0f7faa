package wire_test

import (
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/fastrelay/fastrelay/internal/wire"
)

var drafts = []wire.Draft{wire.Draft14, wire.Draft16}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goodMessages are messages that must pass, as the library writes them: type and payload.
var goodMessages = map[wire.Draft][]struct {
	typ     uint64
	payload string
}{
	wire.Draft14: {
		{wire.MsgSubscribe, "00 01 0161 0176 80 01 01 02 00"},
		{wire.MsgSubscribe, "03 01 0161 0176 80 01 01 04 01 02 03 01 03 02 aabb"},
		{wire.MsgSubscribeOK, "00 07 00 01 01 03 04 00"},
		{wire.MsgRequestError, "0a 01 02 6e6f"},
		{wire.MsgSubscribeUpdate, "05 00 01 02 03 80 01 00"},
		{wire.MsgUnsubscribe, "00"},
		{wire.MsgPublishDone, "00 02 03 00"},
		{wire.MsgPublishNamespace, "07 01 0161 00"},
		{wire.MsgRequestOK, "04"},
		{wire.MsgNamespace, "04 01 00"},
		{wire.MsgPublishNamespaceDone, "01 0161"},
		{wire.MsgPublishNamespaceCancel, "01 0161 01 00"},
		{wire.MsgTrackStatus, "09 01 0161 0176 80 01 01 02 00"},
		{wire.MsgNamespaceDone, "08 00 00 01 01 02 03 00"},
		{wire.MsgTrackStatusError, "08 01 00"},
		{wire.MsgGoaway, "02 6161"},
		{wire.MsgSubscribeNamespace, "0b 01 0161 00"},
		{wire.MsgSubscribeNamespaceOK, "06"},
		{wire.MsgSubscribeNamespaceErr, "06 01 00"},
		{wire.MsgUnsubscribeNamespace, "01 0161"},
		{wire.MsgMaxRequestID, "4800"},
		{wire.MsgRequestsBlocked, "10"},
		{wire.MsgFetch, "06 80 01 01 01 0161 0176 00 00 01 00 00"},
		{wire.MsgFetch, "0c 80 01 02 00 01 00"},
		{wire.MsgFetchOK, "02 01 00 00 00 00"},
		{wire.MsgFetchError, "02 01 00"},
		{wire.MsgFetchCancel, "06"},
		{wire.MsgPublish, "0d 01 0161 0176 07 01 00 01 00"},
		{wire.MsgPublishOK, "0d 01 80 01 02 00"},
		{wire.MsgPublishError, "0d 01 00"},
		{0x3f, "ffff"},
	},
	wire.Draft16: {
		{wire.MsgSubscribe, "00 01 0161 0176 04 10 01 10 80000080 01 01 02 01 01"},
		{wire.MsgSubscribeOK, "00 07 01 09 02 03 04 0e 05"},
		{wire.MsgRequestError, "0a 01 00 02 6e6f"},
		{wire.MsgSubscribeUpdate, "05 00 03 10 01 10 07 01 04 04 01 02 03"},
		{wire.MsgRequestOK, "04 01 08 00"},
		{wire.MsgRequestOK, "04"},
		{wire.MsgNamespace, "01 0161"},
		{wire.MsgPublishNamespace, "07 01 0161 01 03 01 aa"},
		{wire.MsgFetch, "0c 80 01 02 00 01 00"},
	},
}

// badMessages panic the library or make it allocate without bound (checked below), or are wrong in a way that it reports.
var badMessages = []struct {
	name    string
	d       wire.Draft
	typ     uint64
	payload string
	panics  bool
}{
	{"parameter longer than the message", wire.Draft14, wire.MsgSubscribe, "00 01 0161 0176 80 01 01 02 01 03 7f aa", true},
	{"parameter of 2^62-1 bytes", wire.Draft14, wire.MsgSubscribeOK, "00 07 00 01 00 01 03 ffffffffffffffff", true},
	{"the same in draft 16", wire.Draft16, wire.MsgSubscribe, "00 01 0161 0176 01 03 ffffffffffffffff", true},
	{"the same in SUBSCRIBE_OK", wire.Draft16, wire.MsgSubscribeOK, "00 07 01 03 7f aa", true},
	{"the same in SUBSCRIBE_UPDATE", wire.Draft14, wire.MsgSubscribeUpdate, "05 00 01 02 03 80 01 01 03 3f", true},
	{"the same in REQUEST_UPDATE", wire.Draft16, wire.MsgSubscribeUpdate, "05 00 01 03 3f", true},
	{"the same in REQUEST_OK", wire.Draft16, wire.MsgRequestOK, "04 01 03 3f", true},
	{"the same in FETCH", wire.Draft16, wire.MsgFetch, "0c 80 01 02 00 01 01 03 3f", true},
	{"the same in FETCH_OK", wire.Draft14, wire.MsgFetchOK, "02 01 00 00 00 01 03 3f", true},
	{"the same in PUBLISH", wire.Draft14, wire.MsgPublish, "0d 01 0161 0176 07 01 00 01 01 03 3f", true},
	{"the same in PUBLISH_OK", wire.Draft14, wire.MsgPublishOK, "0d 01 80 01 02 01 03 3f", true},
	{"the same in TRACK_STATUS", wire.Draft14, wire.MsgTrackStatus, "09 01 0161 0176 80 01 01 02 01 03 3f", true},
	{"the same in TRACK_STATUS_OK", wire.Draft16, wire.MsgNamespaceDone, "08 00 00 01 00 01 03 3f", true},
	{"the same in SUBSCRIBE_NAMESPACE", wire.Draft14, wire.MsgSubscribeNamespace, "0b 01 0161 01 03 3f", true},
	{"the same in PUBLISH_NAMESPACE", wire.Draft16, wire.MsgPublishNamespace, "07 01 0161 01 03 3f", true},
	{"namespace of 2^62-1 fields", wire.Draft14, wire.MsgPublishNamespace, "07 ffffffffffffffff", true},
	{"the same in UNSUBSCRIBE_NAMESPACE", wire.Draft14, wire.MsgUnsubscribeNamespace, "ffffffffffffffff", true},
	{"the same in PUBLISH_NAMESPACE_DONE", wire.Draft16, wire.MsgPublishNamespaceDone, "ffffffffffffffff", true},
	{"the same in PUBLISH_NAMESPACE_CANCEL", wire.Draft14, wire.MsgPublishNamespaceCancel, "ffffffffffffffff", true},
	{"the same in FETCH", wire.Draft14, wire.MsgFetch, "06 80 01 01 ffffffffffffffff", true},
	{"33 fields", wire.Draft14, wire.MsgUnsubscribeNamespace, "21" + strings.Repeat("00", 33), false},
	{"reason cut off", wire.Draft14, wire.MsgRequestError, "0a 01 02 6e", false},
	{"request ID that makes the library's allowance overflow", wire.Draft14, wire.MsgFetch, "d000000000000000 80 01 02 00 01 00", false},
	{"the same in SUBSCRIBE", wire.Draft14, wire.MsgSubscribe, "d000000000000000 01 0161 0176 80 01 01 02 00", false},
	{"no payload", wire.Draft14, wire.MsgUnsubscribe, "", false},
	{"SETUP again", wire.Draft14, wire.MsgClientSetup, "01 c0000000ff00000e 00", false},
}

func TestValidateControl(t *testing.T) {
	for _, d := range drafts {
		for _, m := range goodMessages[d] {
			payload := unhex(t, m.payload)
			if err := wire.ValidateControl(m.typ, payload, d, true); err != nil {
				t.Errorf("%v type %#x %s: %v", d, m.typ, m.payload, err)
			}
			if err := wire.ValidateControl(m.typ, payload, d, false); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%v type %#x before SETUP: %v", d, m.typ, err)
			}
			b, err := wire.AppendControl(nil, m.typ, payload)
			if err != nil {
				t.Fatal(err)
			}
			for _, asClient := range []bool{false, true} {
				replay(t, d, asClient, true, b)
			}
		}
		for _, fromClient := range []bool{false, true} {
			s := wire.ControlScanner{Message: func(typ uint64, payload []byte) error {
				for i := range payload {
					if err := wire.ValidateControl(typ, payload[:i], d, false); !errors.Is(err, wire.ErrMalformed) {
						t.Errorf("%v: %d bytes of SETUP: %v", d, i, err)
					}
				}
				return wire.ValidateControl(typ, payload, d, false)
			}}
			if err := s.Write(peerSetup(d, fromClient)); err != nil {
				t.Errorf("%v: %v", d, err)
			}
		}
	}
	for _, m := range badMessages {
		if err := wire.ValidateControl(m.typ, unhex(t, m.payload), m.d, true); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// Validation has a reason only as long as the library fails on these. A panic of its goroutines cannot be recovered from,
// so every message has a process of its own.
func TestLibraryPanicsWithoutValidation(t *testing.T) {
	const env = "FASTRELAY_WIRE_PANIC"
	if name := os.Getenv(env); name != "" {
		for _, m := range badMessages {
			if m.panics && m.name+m.payload == name {
				b, err := wire.AppendControl(nil, m.typ, unhex(t, m.payload))
				if err != nil {
					t.Fatal(err)
				}
				replay(t, m.d, false, true, b)
			}
		}
		return
	}
	if testing.Short() {
		t.Skip("starts a process per message")
	}
	for _, m := range badMessages {
		if !m.panics {
			continue
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLibraryPanicsWithoutValidation$")
		cmd.Env = append(os.Environ(), env+"="+m.name+m.payload)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "panic:") {
			t.Errorf("%s: the library copes now: %v\n%s", m.name, err, out)
		}
	}
}

// The library doubles its allowance of request IDs whenever half of it is used. Sixty honest-looking messages would
// overflow its varint; the last ones must be refused.
func TestValidateControlBoundsRequestIDs(t *testing.T) {
	var accepted []byte
	refused := 0
	for id := uint64(99); id < 1<<62; id = 2*id + 1 {
		p := append(wire.AppendVarint(nil, id), unhex(t, "01 0161 0176 80 01 01 02 00")...)
		if wire.ValidateControl(wire.MsgSubscribe, p, wire.Draft14, true) != nil {
			refused++
			continue
		}
		var err error
		if accepted, err = wire.AppendControl(accepted, wire.MsgSubscribe, p); err != nil {
			t.Fatal(err)
		}
	}
	if refused != 2 {
		t.Errorf("%d refused, want 2", refused)
	}
	replay(t, wire.Draft14, false, true, accepted)
}

// Every message that ValidateControl accepts, in any sequence, leaves a session of the library alive or ends it in order.
func FuzzValidateControl(f *testing.F) {
	for _, d := range drafts {
		var all []byte
		for _, m := range goodMessages[d] {
			b, err := wire.AppendControl(nil, m.typ, unhex(f, m.payload))
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, b...)
			for _, asClient := range []bool{false, true} {
				f.Add(b, d == wire.Draft16, asClient, true)
			}
		}
		f.Add(all, d == wire.Draft16, false, true)
		f.Add(peerSetup(d, true), d == wire.Draft16, false, false)
		f.Add(peerSetup(d, false), d == wire.Draft16, true, false)
	}
	for _, m := range badMessages {
		b, err := wire.AppendControl(nil, m.typ, unhex(f, m.payload))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, m.d == wire.Draft16, len(m.name)%2 == 0, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, draft16, asClient, setupDone bool) {
		d := wire.Draft14
		if draft16 {
			d = wire.Draft16
		}
		var accepted []byte
		done := setupDone
		s := wire.ControlScanner{Message: func(typ uint64, payload []byte) error {
			if err := wire.ValidateControl(typ, payload, d, done); err != nil {
				return err
			}
			done = true
			var err error
			accepted, err = wire.AppendControl(accepted, typ, slices.Clone(payload))
			return err
		}}
		if s.Write(b); len(accepted) > 0 {
			replay(t, d, asClient, setupDone, accepted)
		}
	})
}
