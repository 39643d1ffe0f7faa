package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/delay"
	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/relay"
)

// evaluate turns what a run yielded into its report.
func (d *demo) evaluate(ctx context.Context, m mode, t *trial) (*demoRun, error) {
	for _, c := range []interface{ Err() error }{t.upstream, t.down} {
		if err := c.Err(); err != nil {
			return nil, err
		}
	}
	last := t.last()
	c := endpoint.Compare(t.published, t.received)
	r := &demoRun{
		Mode: m.name, Datapath: m.datapath, Cipher: m.cipher,
		ObjectsPublished: c.Published, ObjectsExpected: c.Expected, ObjectsDelivered: c.Delivered,
		ObjectsCorrupt: c.Corrupt, ObjectsMissing: c.Missing, ObjectsReset: c.Reset,
		PacketsForwarded: last.Boundary.ForwardedPackets, BytesForwarded: last.Boundary.ForwardedBytes, Repairs: last.Boundary.RepairPackets,
		Reasons: last.Reasons, PacketsLost: t.lost,
		Files: []string{}, Problems: []string{}, comparison: c, boundary: last.Boundary,
	}
	for _, s := range t.received {
		r.BytesMedia += s.WireBytes
	}
	if r.BytesMedia > 0 {
		r.ForwardedShare = float64(r.BytesForwarded) / float64(r.BytesMedia)
	}
	r.Relays = relayRuns(t, r.ForwardedShare)
	if own := shortHeaders(t.down, t.port); own > r.PacketsForwarded {
		r.PacketsSlow = own - r.PacketsForwarded
	}
	r.Heuristic = m.heuristic
	became := becameOf(last)
	for _, l := range endpoint.Layers(t.published, t.received) {
		r.Media = append(r.Media, mediaLayer{Layer: l, Relay: became[l.Priority]})
	}
	d.problems(r, t)
	var err error
	r.delays, err = delay.Analyze(&delay.Input{
		Publisher: t.upstream.Packets, Subscriber: t.down.Packets, Draft: d.draft(), KeyLog: t.keylog, Null: m.cipher == cipherNull,
	})
	if err != nil {
		return nil, fmt.Errorf("delay: %w", err)
	}
	if err := r.delays.Err(); err != nil {
		r.Problems = append(r.Problems, "delay: "+oneLine(err))
	}
	r.Delay = r.delays.Total
	for _, s := range t.received {
		if s.File == "" {
			continue
		}
		r.Files = append(r.Files, s.File)
		if r.excused() > 0 {
			continue // frames that others refer to may be missing
		}
		if err := verifyFile(ctx, s.File); err != nil {
			r.Problems = append(r.Problems, oneLine(err))
		}
	}
	return r, nil
}

// relayRuns tells the relays of a run apart; share is that of the last one. What one relay sends to the next is what a subscriber gets, once.
func relayRuns(t *trial, share float64) []relayRun {
	once := t.published.Bytes // without the headers, but with what the last relay dropped
	for _, s := range t.received {
		once = max(once, s.WireBytes)
	}
	var runs []relayRun
	for i, s := range t.relays {
		b := &s.Boundary
		r := relayRun{
			PacketsForwarded: b.ForwardedPackets, BytesForwarded: b.ForwardedBytes, Repairs: b.RepairPackets, ForwardedShare: share, Reasons: s.Reasons,
		}
		if i < len(t.relays)-1 {
			r.ForwardedShare = min(1, float64(b.ForwardedBytes)/float64(max(once, 1)))
		}
		runs = append(runs, r)
	}
	return runs
}

// problems lists why a run is not whole.
func (d *demo) problems(r *demoRun, t *trial) {
	c := &r.comparison
	add := func(n int, what string) {
		if n > 0 {
			r.Problems = append(r.Problems, fmt.Sprintf("%d objects %s", n, what))
		}
	}
	add(c.Corrupt, "arrived changed")
	if m := r.excused(); m > 0 && d.Layout == "per-frame" {
		add(c.Missing+c.Reset-min(m, c.Missing+c.Reset), "did not arrive without a reason to drop them")
	} else if m == 0 {
		add(c.Missing, "are missing")
		add(c.Reset, "were on streams that were reset")
	}
	add(c.Duplicate, "arrived more than once")
	add(c.Unexpected, "arrived that were not sent, or not to that subscriber")
	add(d.objects-c.Published, "of the clip were not published")
	if c.Expected < c.Published*d.Subscribers {
		r.Problems = append(r.Problems, "a subscriber came after the first group had begun: the machine is too slow for so many")
	}
	for _, s := range t.received {
		for _, v := range s.Violations {
			r.Problems = append(r.Problems, fmt.Sprintf("subscriber %d: %s", s.Subscriber, v))
		}
	}
}

// verifyFile asks ffmpeg to decode a file if it is installed, and otherwise checks the file's structure.
func verifyFile(ctx context.Context, path string) error {
	if _, err := media.Verify(path); err != nil {
		return err
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, ffmpeg, "-nostdin", "-v", "error", "-xerror", "-i", "file:"+path, "-f", "null", "-")
	out, err := cmd.CombinedOutput()
	if msg := strings.TrimSpace(string(out)); err != nil || msg != "" {
		if msg == "" {
			msg = err.Error()
		}
		line, _, _ := strings.Cut(msg, "\n")
		return fmt.Errorf("%s: ffmpeg: %s", path, line)
	}
	return nil
}

// finish fills in what concerns all runs, writes the plot and prints the report.
func (d *demo) finish(r *demoReport) error {
	first := &r.Runs[0]
	c := &first.comparison
	r.ObjectsPublished, r.ObjectsExpected, r.ObjectsDelivered = c.Published, c.Expected, c.Delivered
	r.ObjectsCorrupt, r.ObjectsMissing, r.ObjectsReset = c.Corrupt, c.Missing, c.Reset
	r.ObjectsDuplicate, r.ObjectsUnexpected, r.BytesDelivered = c.Duplicate, c.Unexpected, c.Bytes
	r.PacketsForwarded, r.PacketsSlow, r.ForwardedShare = first.PacketsForwarded, first.PacketsSlow, first.ForwardedShare
	r.Reasons, r.Repairs, r.PacketsLost = first.Reasons, first.Repairs, first.PacketsLost
	r.RepairDelay = newRepairDelay(&first.boundary.RepairDelay)
	r.RepairsWithinRTT = first.boundary.RepairDelayRTT.Within(soonRTT)
	r.OK = true
	var slow *demoRun // the better one
	for i := range r.Runs {
		run := &r.Runs[i]
		r.OK = r.OK && len(run.Problems) == 0
		if run.Mode == "fast" {
			r.RelayDelay.Fast = run.Delay
			continue
		}
		r.SlowModes[run.Mode] = run.Delay
		if slow == nil || run.Delay.P50 < slow.Delay.P50 {
			slow = run
		}
	}
	if slow != nil {
		r.RelayDelay.Slow = slow.Delay
	}
	var err error
	if r.Plot, err = d.plot(r); err != nil {
		return errors.Join(errors.New("cannot write the plot"), err)
	}
	if d.app.json {
		d.app.event(r)
		return nil
	}
	d.print(r)
	return nil
}

// problems returns what went wrong, in one line.
func (r *demoReport) problems() string {
	var out []string
	for i := range r.Runs {
		for _, p := range r.Runs[i].Problems {
			out = append(out, r.Runs[i].Mode+": "+p)
		}
	}
	const most = 5
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return strings.Join(out, "; ")
}

// excused returns how many streams the relay did not deliver whole by its policy, or since they came too late.
func (r *demoRun) excused() (n int) {
	for i := range r.Media {
		for _, ended := range []map[string]uint64{r.Media[i].Relay.Dropped, r.Media[i].Relay.Reset} {
			for why, m := range ended {
				if strings.HasPrefix(why, "drop_") || why == "delivery_timeout" {
					n += int(m)
				}
			}
		}
	}
	return n
}

// becameOf returns what became of all streams of a relay's subscriptions, by priority.
func becameOf(s *relay.Stats) map[uint8]relay.Tally {
	sum := make(map[uint8]relay.Tally)
	add := func(m map[uint8]relay.Tally) {
		for priority, t := range m {
			all := sum[priority]
			all.Add(&t)
			sum[priority] = all
		}
	}
	add(s.Ended)
	for i := range s.Tracks {
		for j := range s.Tracks[i].Subscribers {
			add(s.Tracks[i].Subscribers[j].Media)
		}
	}
	return sum
}
