package command

import (
	"fmt"
	"strconv"
	"strings"
)

// bitRate is a rate in bits per second, told as tc does: 800kbit, 2Mbit, 1.5Gbit.
type bitRate float64

var bitUnits = []struct {
	suffix string
	bits   float64
}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}}

// Bounds of a rate: what quic-go's handshake needs to come about in time, and more than a lab's interfaces carry.
const minBitRate, maxBitRate = 50e3, 100e9

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *bitRate) UnmarshalText(b []byte) error {
	text := strings.ToLower(string(b))
	for _, u := range bitUnits {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			break
		}
		if v *= u.bits; !(v >= minBitRate && v <= maxBitRate) {
			return fmt.Errorf("rate %s is not between 50kbit and 100Gbit", b)
		}
		*r = bitRate(v)
		return nil
	}
	return fmt.Errorf("rate %q: give a number and kbit, Mbit or Gbit, as in 2Mbit", b)
}

// bytes returns the rate in bytes per second.
func (r bitRate) bytes() uint64 { return uint64(r / 8) }

func (r bitRate) String() string {
	switch {
	case r >= 1e9:
		return fmt.Sprintf("%.4gGbit", float64(r)/1e9)
	case r >= 1e6:
		return fmt.Sprintf("%.4gMbit", float64(r)/1e6)
	}
	return fmt.Sprintf("%.4gkbit", float64(r)/1e3)
}
