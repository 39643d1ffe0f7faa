package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/moq"
)

type subscribeCmd struct {
	clientFlags
	Out      string        `type:"path" placeholder:"FILE" help:"MP4 file to write; with --count, a number is put before its extension. Default: nothing is written."`
	Count    int           `default:"1" help:"Number of subscribers, each with a connection and a socket of its own (default: ${default})."`
	Track    []string      `help:"Track to receive; may be repeated. Default: all."`
	Start    string        `default:"next-group" enum:"next-group,next-object" help:"Where to start: at the next group, which can be decoded, or at the next object."`
	Duration time.Duration `help:"Stop after that time. Default: at the end of the tracks."`
	Grace    time.Duration `default:"5s" help:"How long the last streams may come after the end of the tracks (default: ${default})."`
	Priority uint8         `default:"128" help:"Priority of the subscriptions, 0 to 255, lower is more important (default: ${default})."`
}

// Help is shown by --help.
func (*subscribeCmd) Help() string {
	return `Receives all tracks of a namespace until they end, and checks them.

  fastrelay subscribe --ca relay.pem --out received.mp4

It fails if the relay goes away, if streams are missing at the end, or if what comes breaks the protocol. With --json it
prints what each subscriber received: every object with its hash.`
}

func (c *subscribeCmd) Validate() error {
	if err := c.clientFlags.Validate(); err != nil {
		return err
	}
	if c.Duration < 0 {
		return fmt.Errorf("--duration must not be negative, and is %v", c.Duration)
	}
	if c.Count < 1 || c.Count > 1000 {
		return fmt.Errorf("--count must be 1 to 1000, not %d", c.Count)
	}
	if c.Grace <= 0 {
		return fmt.Errorf("--grace must be more than 0, not %v", c.Grace)
	}
	return nil
}

func (c *subscribeCmd) Run(ctx context.Context, a *app) (err error) {
	d, err := c.dialer(a)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	bar := a.progress("receiving")
	var objects atomic.Int64
	filter := moq.FilterNextGroup
	if c.Start == "next-object" {
		filter = moq.FilterLargestObject
	}
	var subscribed atomic.Int64
	received, err := subscribeAll(ctx, c.Count, func(i int) (endpoint.DialConfig, endpoint.SubscribeConfig) {
		return d.cfg, endpoint.SubscribeConfig{
			Subscriber: i, Namespace: c.Namespace, Tracks: c.Track, Filter: filter, Priority: c.Priority,
			File: numbered(c.Out, i, c.Count), Duration: c.Duration, Grace: c.Grace, Logger: a.log.With("subscriber", i),
			OnObject: func(*endpoint.Object) { bar.set(int(objects.Add(1)), 0) },
			OnSubscribed: func() {
				if subscribed.Add(1) == int64(c.Count) && a.json {
					a.event(event{Event: "subscribed", Namespace: c.Namespace})
				}
			},
		}
	})
	bar.finish()
	if a.json {
		if err := json.NewEncoder(a.out).Encode(received); err != nil {
			return err
		}
	}
	var bad []string
	for _, r := range received {
		if !a.json && !a.quiet && len(r.Objects) > 0 {
			fmt.Fprintf(a.out, "subscriber %d: %d objects, %d bytes, %d streams reset", r.Subscriber, len(r.Objects), r.Bytes, len(r.Resets)+r.UnknownReset)
			if r.File != "" {
				fmt.Fprintf(a.out, ", written to %s", r.File)
			}
			fmt.Fprintln(a.out)
		}
		for _, t := range r.Tracks {
			if t.Failed != "" {
				bad = append(bad, fmt.Sprintf("subscriber %d: %s %s", r.Subscriber, t.Track, t.Failed))
			}
			if t.Incomplete {
				bad = append(bad, fmt.Sprintf("subscriber %d: %d of %d streams of %s did not come", r.Subscriber, t.Announced-t.Streams, t.Announced, t.Track))
			}
		}
		for _, v := range r.Violations {
			bad = append(bad, fmt.Sprintf("subscriber %d: %s", r.Subscriber, v))
		}
	}
	if err == nil && len(bad) > 0 {
		err = errors.New(strings.Join(bad, "; "))
	}
	return err
}

// numbered puts a subscriber's number before the extension.
func numbered(file string, i, of int) string {
	if file == "" || of == 1 {
		return file
	}
	ext := filepath.Ext(file)
	return fmt.Sprintf("%s-%d%s", strings.TrimSuffix(file, ext), i, ext)
}

// subscribeAll runs n subscribers at once, numbered from 0. They are independent: one that fails does not end the others.
// What was received is returned in any case.
func subscribeAll(ctx context.Context, n int, config func(i int) (endpoint.DialConfig, endpoint.SubscribeConfig)) ([]*endpoint.Received, error) {
	received := make([]*endpoint.Received, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			dc, sc := config(i)
			conn, err := endpoint.Dial(ctx, dc)
			if err != nil {
				errs[i] = err
				return
			}
			defer func() { _ = conn.Close() }() // nothing is lost: all was read
			received[i], errs[i] = endpoint.Subscribe(ctx, conn, sc)
		})
	}
	wg.Wait()
	var got []*endpoint.Received
	for _, r := range received {
		if r != nil {
			got = append(got, r)
		}
	}
	return got, firstOf(errs)
}

// firstOf returns the first error, and how many more there are.
func firstOf(errs []error) error {
	var first error
	more := 0
	for _, e := range errs {
		switch {
		case e == nil:
		case first == nil:
			first = e
		default:
			more++
		}
	}
	if more > 0 {
		return fmt.Errorf("%w (and %d more subscribers failed)", first, more)
	}
	return first
}
