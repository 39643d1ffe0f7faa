package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time as Go writes it: "1s", "250ms".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 || v > 24*time.Hour {
		return fmt.Errorf(`%q is no time: write a number and ns, us, ms, s or m, as "250ms"`, b)
	}
	*d = Duration(v)
	return nil
}

// Nanoseconds returns it in nanoseconds.
func (d Duration) Nanoseconds() int64 { return int64(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// Rate is bits per second: "2.5Mbit".
type Rate float64

// maxRate bounds rates: 100 Gbit/s.
const maxRate = 100e9

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) error {
	v, ok := parseUnit(string(b), []unit{{"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}, {"bit", 1}})
	if !ok || v > maxRate {
		return fmt.Errorf(`%q is no rate: write a number and bit, kbit, Mbit or Gbit (per second, up to 100 Gbit), as "2.5Mbit"`, b)
	}
	*r = Rate(v)
	return nil
}

func (r Rate) String() string {
	switch {
	case r >= 1e6:
		return strconv.FormatFloat(float64(r)/1e6, 'f', -1, 64) + "Mbit"
	case r >= 1e3:
		return strconv.FormatFloat(float64(r)/1e3, 'f', -1, 64) + "kbit"
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64) + "bit"
}

// Queue is the depth of a queue: a time, or bytes. The zero Queue is neither.
type Queue struct {
	Time  Duration
	Bytes uint64
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *Queue) UnmarshalText(b []byte) error {
	if v, ok := parseUnit(string(b), []unit{{"kB", 1e3}, {"MB", 1e6}, {"B", 1}}); ok && v >= 1 && v <= 1e9 {
		*q = Queue{Bytes: uint64(v)}
		return nil
	}
	var d Duration
	if d.UnmarshalText(b) != nil || d <= 0 {
		return fmt.Errorf(`%q is no depth of a queue: write a time, as "100ms", or bytes with B, kB or MB, as "64kB"`, b)
	}
	*q = Queue{Time: d}
	return nil
}

func (q Queue) String() string {
	if q.Bytes > 0 {
		return strconv.FormatUint(q.Bytes, 10) + "B"
	}
	return q.Time.String()
}

type unit struct {
	name string
	size float64
}

// parseUnit reads a number with the first unit that fits. Numbers are finite and not negative.
func parseUnit(s string, units []unit) (float64, bool) {
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v >= 0 && v <= 1e18) {
			return 0, false
		}
		return v * u.size, true
	}
	return 0, false
}
