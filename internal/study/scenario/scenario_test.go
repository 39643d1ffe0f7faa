package scenario

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// TestShipped: the shipped scenarios are there, are of the promised length, and say what they are for.
func TestShipped(t *testing.T) {
	want := []string{
		"audio-first", "bursty-publisher", "cellular", "crowd", "half-rate", "layers", "long-rtt", "lossy", "sawtooth", "step-down",
	}
	if got := Names(); !slices.Equal(got, want) {
		t.Errorf("shipped are %v, want %v", got, want)
	}
	for _, n := range Names() {
		s, err := Shipped(n)
		if err != nil {
			t.Error(err)
			continue
		}
		if d := time.Duration(s.Duration); d < 20*time.Second || d > time.Minute || s.Description == "" || s.Name != n {
			t.Errorf("%s: called %q, %v long: %q", n, s.Name, d, s.Description)
		}
	}
	s, err := Shipped("half-rate")
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Media; s.Links[0].Rate != 0.55*m.Bitrate || m.Group != 30 || m.Key != 6 || m.Reference != 1 || m.NonReference != 0.5 || *m.Every != 3 || *m.Audio != 0.05 {
		t.Errorf("half-rate is %+v over %v", m, s.Links[0].Rate)
	}
	if s, err := Shipped("crowd"); err != nil || s.Clients() != 30 || len(s.Links) != 1 {
		t.Errorf("crowd has %d subscribers on %d links: %v", s.Clients(), len(s.Links), err)
	}
	if _, err := Load("nonsense"); err == nil || !strings.Contains(err.Error(), "half-rate") {
		t.Errorf("an unknown scenario: %v; want what there is", err)
	}
}

const valid = `
description = "for tests"
duration = "10s"

[media]
bitrate = "1Mbit"

[[link]]
name = "near"
rate = "2Mbit"

[[link]]
name = "far"
rate = "1Mbit"

[[subscribers]]
link = "far"
count = 3
`

func TestDefaults(t *testing.T) {
	s, err := Parse("dir/my.toml", valid)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "my" || s.Playout != Duration(time.Second) || s.Timeout != s.Playout || s.Media.FPS != 30 || *s.Media.Variation != 0.15 ||
		*s.Links[0].Delay != Duration(20*time.Millisecond) || s.Links[0].Queue.Time != Duration(200*time.Millisecond) {
		t.Errorf("%+v", s)
	}
	if g := s.Subscribers[0]; g.LinkIndex() != 1 || g.Count != 3 || *g.Priority != 128 || *g.AudioPriority != 128 {
		t.Errorf("%+v", g)
	}
	s, err = Parse("my.toml", valid+"audio_priority = 0\n")
	if err != nil || *s.Subscribers[0].AudioPriority != 0 {
		t.Errorf("a priority of 0 is one: %v", err)
	}
}

// TestBad: what is not understood or not possible is refused with file, line and key, and what is allowed.
func TestBad(t *testing.T) {
	for _, tc := range []struct{ name, old, new, want string }{
		{"no TOML", `[media]`, `[media`, `my.toml:5: expected '.' or ']' to end table name`},
		{"no TOML in a later table", `[[subscribers]]`, `[[subscribers]`, `my.toml:16: expected end of table array name`},
		{"two values", `count = 3`, `count = 3 4`, `my.toml:18: expected a top-level item to end with a newline`},
		{"no value", `rate = "2Mbit"`, `rate =`, `my.toml:10: link.rate: expected value but found '\n'`},
		{"string without an end", `"for tests"`, `"for tests`, `my.toml:2: description: strings cannot contain newlines`},
		{"comma", `rate = "2Mbit"`, "trace = { kind = \"steps\", steps = [\n{ at = \"0s\" rate = \"1Mbit\" }] }", `my.toml:11: link.trace.steps.at: expected a comma`},
		{"single table", `[[subscribers]]`, `[subscribers]`, `my.toml:16: subscribers: it is a single table; write [[subscribers]]`},
		{"value for a table", `[media]` + "\nbitrate", "media = 5\n[medium]\nbitrate", `my.toml:5: media: it is no table`},
		{"unknown key", `bitrate`, `bit_rate`, `my.toml:6: media.bit_rate: there is no such key; allowed are file, bitrate, streams, fps`},
		{"unknown key at the top", `description`, `describe`, `my.toml:2: describe: there is no such key; allowed are description, duration`},
		{"unknown key in a later table", `count = 3`, "count = 3\nnumber = 4", `my.toml:19: subscribers.number: there is no such key; allowed are count, link`},
		{"unknown table", `[media]`, "[medium]\nx = 1\n[media]", `my.toml:5: medium: there is no such key; allowed are description`},
		{"wrong type", `count = 3`, `count = "3"`, `my.toml:18: subscribers.count: it is of type string; allowed is integer`},
		{"wrong type in the first of two", `rate = "2Mbit"`, "rate = \"2Mbit\"\nloss = \"no\"", `my.toml:11: link.loss: it is of type string; allowed is float`},
		{"no time", `"10s"`, `"10"`, `my.toml:3: duration: "10" is no time: write a number and ns, us, ms, s or m`},
		{"too long", `"10s"`, `"11m"`, `my.toml:3: duration: 11m0s is not possible; allowed is 1s to 10m0s`},
		{"no duration", `duration = "10s"`, ``, `my.toml: duration: 0s is not possible; allowed is 1s to 10m0s`},
		{"no rate", `"1Mbit"`, `"fast"`, `my.toml:6: media.bitrate: "fast" is no rate: write a number and bit, kbit, Mbit or Gbit`},
		{"rate that is not a number", `"2Mbit"`, `"NaNMbit"`, `my.toml:10: link.rate: "NaNMbit" is no rate`},
		{"negative rate", `"2Mbit"`, `"-2Mbit"`, `my.toml:10: link.rate: "-2Mbit" is no rate`},
		{"rate of nothing", `"2Mbit"`, `"0Mbit"`, `my.toml:10: link.rate: 0 is not possible; allowed is 1000 to 1e+11`},
		{"rate of nothing of the second", `name = "far"` + "\n" + `rate = "1Mbit"`, `name = "far"` + "\n" + `rate = "1bit"`, `my.toml:14: link.rate: 1 is not possible`},
		{"queue", `rate = "2Mbit"`, `rate = "2Mbit"` + "\n" + `queue = "much"`, `my.toml:11: link.queue: "much" is no depth of a queue: write a time, as "100ms", or bytes`},
		{"loss", `rate = "2Mbit"`, `rate = "2Mbit"` + "\nloss = 0.6", `my.toml:11: link.loss: 0.6 is not possible; allowed is 0 to 0.5`},
		{"loss that is not a number", `rate = "2Mbit"`, `rate = "2Mbit"` + "\nloss = nan", `my.toml:11: link.loss: NaN is not possible; allowed is 0 to 0.5`},
		{"no link", `link = "far"`, `link = "wide"`, `my.toml:17: subscribers.link: there is no link "wide"; allowed are "near", "far"`},
		{"two links of a name", `"far"` + "\nrate", `"near"` + "\nrate", `my.toml:13: link.name: there are two links called "near"`},
		{"nobody", `count = 3`, `count = -1`, `my.toml:18: subscribers.count: -1 is not possible; allowed is 1 to 1000`},
		{"priority", `count = 3`, `priority = 256`, `my.toml:18: subscribers.priority: 256 is not possible; allowed is 0 to 255`},
		{"fps", `bitrate = "1Mbit"`, `bitrate = "1Mbit"` + "\nfps = 1000", `my.toml:7: media.fps: 1000 is not possible; allowed is 1 to 240`},
		{"every frame", `bitrate = "1Mbit"`, `bitrate = "1Mbit"` + "\nevery = 1", `my.toml:7: media.every: 1 is not possible; allowed are 0 and 2 to 1000`},
		{"every and layers", `bitrate = "1Mbit"`, `bitrate = "1Mbit"` + "\nlayers = 2\nevery = 3", `my.toml:8: media.every: it cannot be given together with layers`},
		{"streams", `bitrate = "1Mbit"`, `bitrate = "1Mbit"` + "\nstreams = \"one\"", `my.toml:7: media.streams: unknown layout "one": use frame`},
		{"missing file", `bitrate = "1Mbit"`, `file = "none.mp4"`, `my.toml:6: media.file: open none.mp4: no such file or directory; allowed are sample and MP4 files`},
		{"file and model", `bitrate = "1Mbit"`, `file = "sample"` + "\nfps = 30", `my.toml:7: media.fps: it is the model's, and there is a file; allowed beside file are bitrate`},
		{"trace without kind", `rate = "2Mbit"`, `trace.low = "2Mbit"`, `my.toml:8: link.trace.kind: it is missing; allowed are steps, sawtooth, cellular and file`},
		{"kind of trace", `rate = "2Mbit"`, `trace.kind = "sine"`, `my.toml:10: link.trace.kind: "sine" is not known; allowed are steps, sawtooth, cellular and file`},
		{"rate and trace", `rate = "2Mbit"`, `rate = "2Mbit"` + "\ntrace.kind = \"sawtooth\"", `my.toml:10: link.rate: it cannot be given together with link.trace`},
		{"key of another kind", `rate = "2Mbit"`, `trace = { kind = "cellular", middle = "1Mbit", low = "1Mbit", high = "1Mbit", period = "1s" }`, `my.toml:10: link.trace.period: it is not of kind cellular; allowed are middle, low`},
		{"no steps", `rate = "2Mbit"`, `trace.kind = "steps"`, `my.toml:8: link.trace.steps: the first step must be at 0s`},
		{"steps out of order", `rate = "2Mbit"`, `trace = { kind = "steps", steps = [{ at = "0s", rate = "1Mbit" }, { at = "0s", rate = "2Mbit" }] }`, `my.toml:10: link.trace.steps: the step at 0s comes after that at 0s; allowed are steps in the order of time`},
		{"nothing passes in the end", `rate = "2Mbit"`, `trace = { kind = "steps", steps = [{ at = "0s", rate = "1Mbit" }, { at = "1s", rate = "0bit" }] }`, `my.toml:10: link.trace.steps: 0bit passes in the end; allowed is 1kbit and more, or repeat`},
		{"repeat", `rate = "2Mbit"`, `trace = { kind = "steps", repeat = "1s", steps = [{ at = "0s", rate = "1Mbit" }, { at = "1s", rate = "2Mbit" }] }`, `my.toml:10: link.trace.repeat: 1s is not possible; allowed is what is after the last step, 1s, and at least 10ms`},
		{"nothing passes", `rate = "2Mbit"`, `trace = { kind = "steps", repeat = "1s", steps = [{ at = "0s", rate = "1Mbit" }, { at = "1ns", rate = "0bit" }] }`, `my.toml:10: link.trace.steps: 0 bit/s pass on average; allowed is 1kbit and more`},
		{"high below low", `rate = "2Mbit"`, `trace = { kind = "sawtooth", low = "2Mbit", high = "1Mbit", period = "4s" }`, `my.toml:10: link.trace.high: 1e+06 is not possible; allowed is 2e+06 to 1e+11`},
		{"missing trace", `rate = "2Mbit"`, `trace = { kind = "file", file = "none.txt" }`, `my.toml:10: link.trace.file: open none.txt: no such file or directory; allowed is a file with lines of a time and a rate`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(valid, tc.old, tc.new, 1)
			if text == valid {
				t.Fatal("nothing was changed")
			}
			_, err := Parse("my.toml", text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is\n\t%v\nwant\n\t%s", err, tc.want)
			}
		})
	}
	if _, err := Read("none.toml"); err == nil || !strings.Contains(err.Error(), "none.toml: the scenario cannot be read: no such file or directory; shipped are audio-first") {
		t.Errorf("a missing scenario: %v", err)
	}
	if _, err := Parse("my.toml", `duration = "10s"`+"\n[media]\nbitrate = \"1Mbit\"\n"); err == nil || !strings.Contains(err.Error(), "link: there is none") {
		t.Errorf("without a link: %v", err)
	}
}

// TestDocumented: the example of docs/study.md is a scenario, and names each key but those of files and layers.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../../docs/study.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```toml\n")
	text, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("there is no example")
	}
	if _, err := Parse("docs.toml", text); err != nil {
		t.Error(err)
	}
	for _, table := range []toml.Key{{}, {"media"}, {"link"}, {"subscribers"}, {"link", "trace"}} {
		for _, key := range allowed(table) {
			if !regexp.MustCompile("(^|[^a-z_])" + key + "([^a-z_]|$)").MatchString(string(b)) {
				t.Errorf("docs/study.md does not name %v.%s", table, key)
			}
		}
	}
}

// TestRateFile: rates come from a file beside the scenario.
func TestRateFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("my.toml", strings.Replace(valid, `rate = "2Mbit"`, `trace = { kind = "file", file = "rates.txt", repeat = "9s" }`, 1))
	write("rates.txt", "# a comment\n0s 1Mbit\n\n2.5s 300kbit # slower\n")
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	steps, repeat := s.Links[0].RateSteps(time.Minute, 1)
	if want := []Step{{0, 1e6}, {Duration(2500 * time.Millisecond), 3e5}}; !slices.Equal(steps, want) || repeat != Duration(9*time.Second) {
		t.Errorf("steps %v, again after %v", steps, repeat)
	}
	if _, err := Parse("elsewhere/my.toml", strings.Replace(valid, `rate = "2Mbit"`, fmt.Sprintf(`trace = { kind = "file", file = %q }`, filepath.Join(dir, "rates.txt")), 1)); err != nil {
		t.Errorf("a file with its whole path: %v", err)
	}
	write("rates.txt", "0s 1Mbit\n1s\n")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), `my.toml:10: link.trace.file: rates.txt:2: "1s"; allowed are lines of a time and a rate`) {
		t.Errorf("a bad line: %v", err)
	}
}

func TestSawtooth(t *testing.T) {
	l := Link{Trace: Trace{Kind: "sawtooth", Low: 1e6, High: 3e6, Period: Duration(4 * time.Second)}}
	steps, repeat := l.RateSteps(time.Minute, 1)
	sum := Rate(0)
	for i, s := range steps {
		sum += s.Rate
		if i > 0 && (s.Rate <= steps[i-1].Rate || s.At-steps[i-1].At != Duration(100*time.Millisecond)) {
			t.Fatalf("step %d is %v after %v", i, s, steps[i-1])
		}
	}
	if mean := sum / Rate(len(steps)); math.Abs(float64(mean)-2e6) > 1 || steps[0].Rate < 1e6 || steps[len(steps)-1].Rate > 3e6 || repeat != l.Trace.Period {
		t.Errorf("from %v to %v, %v on average, again after %v", steps[0].Rate, steps[len(steps)-1].Rate, mean, repeat)
	}
}

// TestCellular: the recipe stays within its bounds around its middle, has gaps, and is the same for the same seed.
func TestCellular(t *testing.T) {
	l := Link{Trace: Trace{
		Kind: "cellular", Middle: 2e6, Low: 1e5, High: 2e7, Spread: 0.5, Memory: Duration(2 * time.Second),
		Handover: Duration(20 * time.Second), HandoverTime: Duration(300 * time.Millisecond),
	}}
	steps, _ := l.RateSteps(time.Hour, 7)
	again, _ := l.RateSteps(time.Hour, 7)
	other, _ := l.RateSteps(time.Hour, 8)
	if !slices.Equal(steps, again) || slices.Equal(steps, other) {
		t.Error("a trace is not its seed's")
	}
	gone, logs, square, n := Duration(0), 0.0, 0.0, 0.0
	for i, s := range steps {
		if i > 0 && s.At < steps[i-1].At {
			t.Fatalf("step %d is at %v, after %v", i, s.At, steps[i-1].At)
		}
		if s.Rate == 0 {
			gone += steps[i+1].At - s.At
			continue
		}
		if s.Rate < l.Trace.Low || s.Rate > l.Trace.High {
			t.Fatalf("rate %v", s.Rate)
		}
		x := math.Log(float64(s.Rate / l.Trace.Middle))
		logs, square, n = logs+x, square+x*x, n+1
	}
	if mean, deviation := logs/n, math.Sqrt(square/n); math.Abs(mean) > 0.1 || math.Abs(deviation-0.5) > 0.1 {
		t.Errorf("the rate's logarithm is %.3f from the middle's, with a deviation of %.3f", mean, deviation)
	}
	if share := float64(gone) / float64(time.Hour); share < 0.010 || share > 0.020 {
		t.Errorf("%.3f of the time is handovers, want 0.3 s of 20.3", share)
	}
}

// FuzzParse: no text makes Parse panic, and what it takes is within bounds.
func FuzzParse(f *testing.F) {
	f.Add(valid)
	for _, n := range Names() {
		b, err := shipped.ReadFile("shipped/" + n + ".toml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("[[link]]\nname=\"a\"\n[[link.trace.steps]]\nat=\"0s\"")
	f.Add("duration=1\n\"a b\".c=2\n[ x . \"y\" ]\nz=[\n1,\n]")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") { // whatever it names is not to be opened
			return
		}
		s, err := Parse("fuzz.toml", text)
		if err != nil {
			return
		}
		if n := s.Clients(); n < 1 || n > maxClients || len(s.Links) == 0 || time.Duration(s.Duration) > maxDuration {
			t.Errorf("%+v", s)
		}
		for i := range s.Links {
			if steps, _ := s.Links[i].RateSteps(10*time.Second, 1); len(steps) == 0 || steps[0].At != 0 {
				t.Errorf("link %d has the steps %v", i, steps)
			}
		}
	})
}
