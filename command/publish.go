package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/media"
)

type publishCmd struct {
	clientFlags
	File       string        `arg:"" optional:"" default:"sample" help:"MP4 file, progressive or fragmented, or \"sample\" for the clip that comes with fastrelay (default)."`
	Layout     string        `default:"per-frame" enum:"per-frame,per-layer" help:"One stream for each frame (per-frame), or for the frames of a group that others need and for those that none needs (per-layer)."`
	Loop       bool          `help:"Play the clip again and again."`
	StartDelay time.Duration `default:"1s" help:"Time from the first subscription to the start of the clip (default: ${default})."`
	Duration   time.Duration `help:"Publish only the first part of the clip."`
	Datagrams  bool          `help:"Send audio in datagrams."`
}

// Help is shown by --help.
func (*publishCmd) Help() string {
	return `Plays the file in real time once somebody subscribes, and ends when it is over.

  fastrelay publish --ca relay.pem video.mp4

With --json it prints what it published: every object with its hash.`
}

func (c *publishCmd) Validate() error {
	if err := c.clientFlags.Validate(); err != nil {
		return err
	}
	if c.StartDelay < 0 || c.Duration < 0 {
		return errors.New("--start-delay and --duration must not be negative")
	}
	return nil
}

// openClip reads a clip and sets its layout.
func openClip(file, layout string) (*media.Clip, error) {
	var clip *media.Clip
	var err error
	if file == "" || file == "sample" {
		clip, err = media.Sample()
	} else {
		clip, err = media.Open(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; give an MP4 file, or sample for the clip that comes with fastrelay", err)
	}
	if err != nil {
		return nil, err
	}
	if layout == "per-layer" {
		clip.SetLayout(media.PerLayer)
	}
	return clip, nil
}

func (c *publishCmd) Run(ctx context.Context, a *app) (err error) {
	clip, err := openClip(c.File, c.Layout)
	if err != nil {
		return err
	}
	d, err := c.dialer(a)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	for _, n := range clip.Notes {
		a.say("note: %s", n)
	}
	conn, err := endpoint.Dial(ctx, d.cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // what is left of the connection is of no interest
	bar := a.progress("publishing")
	p, err := endpoint.Publish(ctx, conn, endpoint.PublishConfig{
		Namespace: c.Namespace, Clip: clip, StartDelay: c.StartDelay, Limit: c.Duration, Loop: c.Loop, AudioDatagrams: c.Datagrams,
		Logger: a.log, OnObject: bar.set,
		OnAnnounced: func() {
			if a.json {
				a.event(event{Event: "announced", Namespace: c.Namespace})
			} else {
				a.say("announced %q at %s (%s, cipher %s); the clip starts when somebody subscribes", c.Namespace, c.Relay, conn.Draft(), conn.Cipher())
			}
		},
	})
	bar.finish()
	if p != nil && a.json {
		if err := json.NewEncoder(a.out).Encode(p); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if !a.json && !a.quiet {
		fmt.Fprintf(a.out, "published %d objects, %d bytes, on %d streams\n", len(p.Objects), p.Bytes, p.Streams)
	}
	return nil
}

// event is a line of JSON that says what happened; others follow.
type event struct {
	Event     string `json:"event"`
	Namespace string `json:"namespace,omitempty"`
}
