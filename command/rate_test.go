package command

import (
	"strings"
	"testing"
)

func TestBitRate(t *testing.T) {
	for _, tc := range []struct {
		text  string
		bytes uint64
		says  string
	}{
		{"2Mbit", 250_000, "2Mbit"}, {"800kbit", 100_000, "800kbit"}, {"1.5gbit", 187_500_000, "1.5Gbit"}, {"64000bit", 8000, "64kbit"},
	} {
		var r bitRate
		if err := r.UnmarshalText([]byte(tc.text)); err != nil || r.bytes() != tc.bytes || r.String() != tc.says {
			t.Errorf("%s: %d bytes/s, %s, %v", tc.text, r.bytes(), r, err)
		}
	}
	for text, want := range map[string]string{
		"": "as in 2Mbit", "2": "as in 2Mbit", "2MB": "as in 2Mbit", "xMbit": "as in 2Mbit", "-2Mbit": "not between", "0kbit": "not between", "NaNbit": "not between", "1e9Gbit": "not between",
	} {
		var r bitRate
		if err := r.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
