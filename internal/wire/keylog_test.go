package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestParseKeyLogLine(t *testing.T) {
	random, secret := bytes.Repeat([]byte{0xab}, 32), bytes.Repeat([]byte{0x01}, 48)
	r, s := strings.Repeat("ab", 32), strings.Repeat("01", 48)
	for _, tc := range []struct {
		name, in, label string
		err             error
	}{
		{"whole line", KeyLogClient1RTT + " " + r + " " + s + "\n", KeyLogClient1RTT, nil},
		{"no line end, capitals", KeyLogServer1RTT + " " + strings.ToUpper(r) + " " + s, KeyLogServer1RTT, nil},
		{"CRLF", KeyLogServer1RTT + " " + r + " " + s + "\r\n", KeyLogServer1RTT, nil},
		{"blank", "\n", "", nil},
		{"comment", "# SSL key log\n", "", nil},
		{"two fields", KeyLogClient1RTT + " " + r, "", ErrKeyLog},
		{"four fields", KeyLogClient1RTT + " " + r + " " + s + " 00", "", ErrKeyLog},
		{"short client random", KeyLogClient1RTT + " abab " + s, "", ErrKeyLog},
		{"client random not hex", KeyLogClient1RTT + " x" + r[1:] + " " + s, "", ErrKeyLog},
		{"secret not hex", KeyLogClient1RTT + " " + r + " 0", "", ErrKeyLog},
	} {
		t.Run(tc.name, func(t *testing.T) {
			label, gotRandom, gotSecret, err := ParseKeyLogLine([]byte(tc.in))
			if !errors.Is(err, tc.err) || label != tc.label {
				t.Fatalf("label %q, error %v; want %q, %v", label, err, tc.label, tc.err)
			}
			if label != "" && (!bytes.Equal(gotRandom, random) || !bytes.Equal(gotSecret, secret)) {
				t.Errorf("random %x, secret %x", gotRandom, gotSecret)
			}
		})
	}
}
