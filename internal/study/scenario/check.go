package scenario

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/fastrelay/fastrelay/internal/media"
)

// check completes a scenario with defaults and finds what is impossible. The first problem stays.
type check struct {
	s          *Scenario
	file, text string
	meta       *toml.MetaData
	err        error
}

func (c *check) fail(index int, key, format string, args ...any) {
	if c.err == nil {
		c.err = &Error{File: c.file, Line: locate(c.text, splitKey(key), index), Key: key, Err: fmt.Errorf(format, args...)}
	}
}

func (c *check) within(index int, key string, v, low, high float64) {
	if !(v >= low && v <= high) {
		c.fail(index, key, "%v is not possible; allowed is %v to %v", v, low, high)
	}
}

func (c *check) span(index int, key string, v Duration, low, high time.Duration) {
	if time.Duration(v) < low || time.Duration(v) > high {
		c.fail(index, key, "%v is not possible; allowed is %v to %v", v, low, high)
	}
}

// fallback sets what a key is when it is not given.
func fallback[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *check) all() {
	s := c.s
	fallback(&s.Playout, Duration(time.Second))
	fallback(&s.Timeout, s.Playout)
	fallback(&s.Control, Duration(250*time.Millisecond))
	c.span(0, "duration", s.Duration, minDuration, maxDuration)
	c.span(0, "playout", s.Playout, 10*time.Millisecond, time.Minute)
	c.span(0, "timeout", s.Timeout, 10*time.Millisecond, time.Minute)
	c.span(0, "control", s.Control, 10*time.Millisecond, time.Minute)
	c.media()
	if len(s.Links) == 0 {
		c.fail(0, "link", "there is none; a scenario has at least one [[link]]")
	}
	for i := range s.Links {
		c.link(i)
	}
	c.subscribers()
}

func (c *check) media() {
	m := &c.s.Media
	fallback(&m.Streams, media.PerFrame.String())
	fallback(&m.Uplink, 100e6)
	layout, err := media.ParseLayout(m.Streams)
	if err != nil {
		c.fail(0, "media.streams", "%v", err)
	}
	c.span(0, "media.burst", m.Burst, 0, 10*time.Second)
	c.within(0, "media.uplink", float64(m.Uplink), 1e3, maxRate)
	if m.File != "" {
		for _, k := range [...]string{"fps", "group", "key", "reference", "non_reference", "every", "layers", "audio", "variation"} {
			if c.meta.IsDefined("media", k) {
				c.fail(0, "media."+k, "it is the model's, and there is a file; allowed beside file are bitrate, streams, burst and uplink")
			}
		}
		c.clip(layout)
		return
	}
	fallback(&m.FPS, 30)
	fallback(&m.Group, 30)
	if !c.meta.IsDefined("media", "key") {
		m.Key = 6
	}
	if !c.meta.IsDefined("media", "reference") {
		m.Reference = 1
	}
	if !c.meta.IsDefined("media", "non_reference") {
		m.NonReference = 0.5
	}
	fallback(&m.Layers, 1)
	if m.Every == nil {
		m.Every = ptr(3)
	} else if m.Layers > 1 {
		c.fail(0, "media.every", "it cannot be given together with layers")
	}
	if m.Audio == nil {
		m.Audio = ptr(0.05)
	}
	if m.Variation == nil {
		m.Variation = ptr(0.15)
	}
	c.within(0, "media.bitrate", float64(m.Bitrate), 1e3, 1e9)
	c.within(0, "media.fps", float64(m.FPS), 1, 240)
	c.within(0, "media.group", float64(m.Group), 1, 1000)
	c.within(0, "media.key", m.Key, 0.01, 1000)
	c.within(0, "media.reference", m.Reference, 0.01, 1000)
	c.within(0, "media.non_reference", m.NonReference, 0.01, 1000)
	c.within(0, "media.every", float64(*m.Every), 0, 1000)
	if *m.Every == 1 {
		c.fail(0, "media.every", "1 is not possible; allowed are 0 and 2 to 1000")
	}
	c.within(0, "media.layers", float64(m.Layers), 1, 4)
	c.within(0, "media.audio", *m.Audio, 0, 1)
	c.within(0, "media.variation", *m.Variation, 0, 0.5)
}

func ptr[T any](v T) *T { return &v }

// path returns where a file is that the scenario names.
func (c *check) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.file), name)
}

func (c *check) clip(layout media.Layout) {
	m := &c.s.Media
	var err error
	if m.File == "sample" {
		m.Clip, err = media.Sample()
	} else {
		m.Clip, err = media.Open(c.path(m.File))
	}
	switch {
	case err != nil:
		c.fail(0, "media.file", "%v; allowed are sample and MP4 files", err)
	case m.Clip.Duration < 100*time.Millisecond:
		c.fail(0, "media.file", "it is %v long; allowed are files of 100ms and more", m.Clip.Duration)
	default:
		m.Clip.SetLayout(layout)
	}
	if m.Bitrate != 0 {
		c.within(0, "media.bitrate", float64(m.Bitrate), 1e3, 1e9)
	}
}

func (c *check) link(i int) {
	l := &c.s.Links[i]
	fallback(&l.Name, fmt.Sprintf("link%d", i+1))
	fallback(&l.Queue, Queue{Time: Duration(200 * time.Millisecond)})
	fallback(&l.LossBurst, 1)
	if l.Delay == nil {
		l.Delay = ptr(Duration(20 * time.Millisecond))
	}
	for _, o := range c.s.Links[:i] {
		if o.Name == l.Name {
			c.fail(i, "link.name", "there are two links called %q", l.Name)
		}
	}
	c.span(i, "link.delay", *l.Delay, 0, 10*time.Second)
	c.span(i, "link.jitter", l.Jitter, 0, 10*time.Second)
	c.within(i, "link.loss", l.Loss, 0, 0.5)
	c.within(i, "link.loss_burst", l.LossBurst, 1, 1000)
	if l.Trace.Kind == "" {
		if !reflect.ValueOf(l.Trace).IsZero() {
			c.fail(i, "link.trace.kind", "it is missing; allowed are steps, sawtooth, cellular and file")
		}
		c.within(i, "link.rate", float64(l.Rate), float64(minRate), maxRate)
		return
	}
	if l.Rate != 0 {
		c.fail(i, "link.rate", "it cannot be given together with link.trace")
	}
	c.trace(i, &l.Trace)
}

// traceKeys are the keys of each kind of trace.
var traceKeys = map[string][]string{
	"steps":    {"steps", "repeat"},
	"sawtooth": {"low", "high", "period"},
	"cellular": {"middle", "low", "high", "spread", "memory", "handover", "handover_time"},
	"file":     {"file", "repeat"},
}

func (c *check) trace(i int, t *Trace) {
	keys, ok := traceKeys[t.Kind]
	if !ok {
		c.fail(i, "link.trace.kind", "%q is not known; allowed are steps, sawtooth, cellular and file", t.Kind)
		return
	}
	v := reflect.ValueOf(*t)
	for j := range v.NumField() {
		if name := v.Type().Field(j).Tag.Get("toml"); name != "kind" && !slices.Contains(keys, name) && !v.Field(j).IsZero() {
			c.fail(i, "link.trace."+name, "it is not of kind %s; allowed are %s", t.Kind, strings.Join(keys, ", "))
		}
	}
	switch t.Kind {
	case "sawtooth":
		c.within(i, "link.trace.low", float64(t.Low), 1e3, maxRate)
		c.within(i, "link.trace.high", float64(t.High), float64(t.Low), maxRate)
		c.span(i, "link.trace.period", t.Period, 2*rung, maxDuration)
	case "cellular":
		fallback(&t.Spread, 0.5)
		fallback(&t.Memory, Duration(3*time.Second))
		fallback(&t.HandoverTime, Duration(300*time.Millisecond))
		c.within(i, "link.trace.middle", float64(t.Middle), 1e3, maxRate)
		c.within(i, "link.trace.low", float64(t.Low), 1e3, float64(t.Middle))
		c.within(i, "link.trace.high", float64(t.High), float64(t.Middle), maxRate)
		c.within(i, "link.trace.spread", t.Spread, 0.01, 2)
		c.span(i, "link.trace.memory", t.Memory, rung, time.Minute)
		if t.Handover != 0 {
			c.span(i, "link.trace.handover", t.Handover, time.Second, time.Hour)
		}
		c.span(i, "link.trace.handover_time", t.HandoverTime, 10*time.Millisecond, 10*time.Second)
	case "file":
		c.rateFile(i, t)
		c.steps(i, "link.trace.file", t)
	case "steps":
		c.steps(i, "link.trace.steps", t)
	}
}

func (c *check) steps(i int, key string, t *Trace) {
	if c.err != nil {
		return
	}
	if len(t.Steps) == 0 || t.Steps[0].At != 0 {
		c.fail(i, key, "the first step must be at 0s")
		return
	}
	last := t.Steps[len(t.Steps)-1]
	for j, s := range t.Steps[1:] {
		if s.At <= t.Steps[j].At {
			c.fail(i, key, "the step at %v comes after that at %v; allowed are steps in the order of time", s.At, t.Steps[j].At)
			return
		}
	}
	if t.Repeat == 0 {
		if last.Rate < minRate {
			c.fail(i, key, "%v passes in the end; allowed is %v and more, or repeat", last.Rate, minRate)
		}
		return
	}
	if t.Repeat <= last.At || time.Duration(t.Repeat) < minRepeat {
		c.fail(i, "link.trace.repeat", "%v is not possible; allowed is what is after the last step, %v, and at least %v", t.Repeat, last.At, minRepeat)
	}
	mean := 0.0
	for j, s := range t.Steps {
		until := t.Repeat
		if j+1 < len(t.Steps) {
			until = t.Steps[j+1].At
		}
		mean += float64(s.Rate) * float64(until-s.At) / float64(t.Repeat)
	}
	if mean < float64(minRate) {
		c.fail(i, key, "%.0f bit/s pass on average; allowed is %v and more", mean, minRate)
	}
}

// minRate is the least rate that a link has in the end, minRepeat the shortest time after which it repeats itself.
const (
	minRate   Rate = 1e3
	minRepeat      = 10 * time.Millisecond
)

// maxRateFile bounds the lines of a file of rates.
const maxRateFile = 1 << 20

func (c *check) rateFile(i int, t *Trace) {
	f, err := os.Open(c.path(t.File))
	if err != nil {
		c.fail(i, "link.trace.file", "%v; allowed is a file with lines of a time and a rate, as \"1.5s 2Mbit\"", err)
		return
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var s Step
		if len(fields) != 2 || s.At.UnmarshalText([]byte(fields[0])) != nil || s.Rate.UnmarshalText([]byte(fields[1])) != nil || n > maxRateFile {
			c.fail(i, "link.trace.file", "%s:%d: %q; allowed are lines of a time and a rate, as \"1.5s 2Mbit\", up to %d", t.File, n, line, maxRateFile)
			return
		}
		t.Steps = append(t.Steps, s)
	}
	if err := lines.Err(); err != nil {
		c.fail(i, "link.trace.file", "%v", err)
	}
}

func (c *check) subscribers() {
	s := c.s
	if len(s.Subscribers) == 0 && len(s.Links) > 0 {
		s.Subscribers = []Subscribers{{}}
	}
	for i := range s.Subscribers {
		g := &s.Subscribers[i]
		if !slices.ContainsFunc(s.Links, func(l Link) bool { return l.Name == g.Link }) && g.Link != "" || len(s.Links) == 0 {
			var names []string
			for _, l := range s.Links {
				names = append(names, strconv.Quote(l.Name))
			}
			c.fail(i, "subscribers.link", "there is no link %q; allowed are %s", g.Link, strings.Join(names, ", "))
			return
		}
		g.link = max(slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == g.Link }), 0)
		g.Link = s.Links[g.link].Name
		fallback(&g.Count, 1)
		if g.Priority == nil {
			g.Priority = ptr(128)
		}
		if g.AudioPriority == nil {
			g.AudioPriority = g.Priority
		}
		c.within(i, "subscribers.count", float64(g.Count), 1, maxClients)
		c.within(i, "subscribers.priority", float64(*g.Priority), 0, 255)
		c.within(i, "subscribers.audio_priority", float64(*g.AudioPriority), 0, 255)
		c.span(i, "subscribers.delay", g.Delay, 0, 10*time.Second)
		c.span(i, "subscribers.spread_delay", g.SpreadDelay, 0, 10*time.Second)
	}
	if s.Clients() > maxClients {
		c.fail(0, "subscribers.count", "%d in all; allowed are up to %d", s.Clients(), maxClients)
	}
}

// allowed returns the keys of a table.
func allowed(table toml.Key) []string {
	t := reflect.TypeFor[Scenario]()
	for _, name := range table {
		if t.Kind() != reflect.Struct {
			break // a key within a value
		}
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("toml") == name && name != "-" {
				t = f.Type
				break
			}
		}
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
	}
	var keys []string
	if t.Kind() != reflect.Struct {
		return []string{"none"}
	}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("toml"); name != "" && name != "-" {
			keys = append(keys, name)
		}
	}
	return keys
}
