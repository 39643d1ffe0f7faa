package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fastrelay/fastrelay/heuristic"
	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/delay"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/media"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// tailDrop is the heuristic that others are compared with: it looks at nothing but whether there is room.
const tailDrop = "none"

type demoCmd struct {
	Datapath    string        `default:"auto" enum:"auto,ebpf,sim,none" help:"What forwards packets in the fast run: the kernel (ebpf: needs root), its simulation (sim), or nothing (none: only one run). auto takes ebpf where it can, otherwise sim."`
	Subscribers int           `short:"n" default:"3" help:"Number of subscribers (default: ${default})."`
	Hops        int           `default:"1" help:"Relays in a row between publisher and subscribers, each with a datapath of its own: 1 to ${maxhops} (default: ${default})."`
	Input       string        `default:"sample" placeholder:"FILE" help:"MP4 file to send. Default: the clip that comes with fastrelay."`
	Draft       int           `default:"16" enum:"14,16" help:"MoQ transport draft, 14 or 16 (default: ${default})."`
	Duration    time.Duration `help:"Send only the first part of the clip."`
	Layout      string        `default:"per-frame" enum:"per-frame,per-layer" help:"One stream for each frame (per-frame), or for each layer of a group (per-layer)."`
	Cipher      string        `default:"" enum:",aead,null" help:"Packet protection of the fast run: aead or null (labs alone). Default: null with ebpf, which can do nothing else yet, and aead otherwise."`
	Congestion  string        `default:"scream" enum:"${congestion}" help:"What controls how much the datapath may send to a subscriber: ${enum} (default: ${default})."`
	Loss        float64       `default:"0" help:"Share of packets to lose at random between relay and subscribers, in each direction: 0 to 0.5 (default: ${default})."`
	Delay       time.Duration `default:"0s" help:"Delay to add between relay and subscribers, one way: up to 1s. Not available with ebpf (default: ${default})."`
	Rate        bitRate       `placeholder:"RATE" help:"Bottleneck between relay and subscribers, which all share, as in 2Mbit; its queue holds 200 ms, and at least ten packets. The second run is then with --heuristic=none, instead of without the fast path. Default: none."`
	Heuristic   string        `placeholder:"NAME" help:"What to drop when a subscriber's path cannot carry everything: ${heuristics}. Default: live with --rate, and otherwise nothing is dropped."`
	Record      string        `placeholder:"FILE" help:"Write the policies and records of the first run to a file, for fastrelay replay."`
	Out         string        `default:"out" placeholder:"DIR" help:"Directory for the received files and the plot (default: ${default})."`
	Pcap        string        `placeholder:"FILE" help:"Write the packets of the fast run at the publisher and the subscribers, with -publisher and -subscriber put before the extension; with real packet protection the keys too, with the extension .keys."`
}

// Help is shown by --help.
func (*demoCmd) Help() string {
	return `Plays a clip from a publisher through a relay to subscribers, in real time, once with the fast path and again without. It
checks that every object arrives unchanged, measures how long the relay takes, and writes the received files and a plot.

  fastrelay demo --datapath=sim       in this process, by simulation of the kernel's part: what demo does without root
  sudo fastrelay demo -n 20           in the kernel, in network namespaces of its own

  fastrelay demo --loss 0.02 --delay 10ms --datapath=sim
  sudo fastrelay demo --hops 2 -n 1

  fastrelay demo --rate 500kbit -n 1 --heuristic live

With --hops each relay subscribes at the one before it. --rate, --loss, --delay and --heuristic are of the last one and its subscribers.

--rate limits what reaches the subscribers; the second run is then tail drop, with the datapath too. What is dropped is no failure if the relay says why; the report has what became of the
frames of each priority, and how many of those that arrived can be decoded.

--loss loses packets in both directions between relay and subscribers, at the far end of the link, in every run. With ebpf that
is a program of XDP, in the simulation a lossy path before the subscribers' sockets.

The delay is that of each byte, from when it leaves the publisher to when it reaches a subscriber. It fails if anything
that was expected is missing or changed.`
}

func (c *demoCmd) Validate() error {
	if c.Subscribers < 1 || c.Subscribers > 500 {
		return fmt.Errorf("--subscribers must be 1 to 500, not %d", c.Subscribers)
	}
	if c.Hops < 1 || c.Hops > netlab.MaxHops {
		return fmt.Errorf("--hops must be 1 to %d, not %d", netlab.MaxHops, c.Hops)
	}
	if c.Duration < 0 {
		return errors.New("--duration must not be negative")
	}
	if !(c.Loss >= 0 && c.Loss <= netlab.MaxLoss) { // not a number is neither
		return fmt.Errorf("--loss must be a share of 0 to %v, not %v", netlab.MaxLoss, c.Loss)
	}
	if c.Delay < 0 || c.Delay > time.Second {
		return fmt.Errorf("--delay must be 0 to 1s, not %v", c.Delay)
	}
	if err := checkHeuristic(c.Heuristic); err != nil {
		return err
	}
	if c.Datapath == datapathNone && (c.Rate > 0 || c.Heuristic != "" || c.Record != "") {
		return errors.New("--rate, --heuristic and --record need a datapath, which --datapath=none is not: use sim or ebpf")
	}
	if c.Delay > 0 && c.Datapath == datapathEBPF {
		return errors.New("--delay is not available with --datapath=ebpf: use --datapath=sim")
	}
	return nil
}

// chooseDemo returns the datapath that demo takes and why, if that was not asked for.
func (c *demoCmd) chooseDemo() (name, why string) {
	if c.Datapath != datapathAuto {
		return c.Datapath, ""
	}
	if c.Delay > 0 {
		return datapathSim, "ebpf cannot be used: it has no --delay"
	}
	if err := ableEBPF(cipherNull); err != nil {
		return datapathSim, "ebpf cannot be used: " + oneLine(err)
	}
	if err := ableLab(); err != nil {
		return datapathSim, "ebpf cannot be used: " + oneLine(err)
	}
	return datapathEBPF, ""
}

// mode is how one run of the clip is relayed.
type mode struct {
	name      string
	datapath  string
	cipher    string
	heuristic string // empty: none, nothing is dropped
}

// modes returns the runs, the one that the report is about first.
func (c *demoCmd) modes(datapath, cipher string) []mode {
	fast := mode{"fast", datapath, cipher, c.Heuristic}
	aead, null := mode{"slow-aead", datapathNone, cipherAEAD, ""}, mode{"slow-null", datapathNone, cipherNull, ""}
	switch {
	case c.Rate > 0 && c.Heuristic == tailDrop:
		return []mode{fast}
	case c.Rate > 0:
		return []mode{fast, {"tail-drop", datapath, cipher, tailDrop}}
	case datapath == datapathNone && cipher == cipherNull:
		return []mode{null}
	case datapath == datapathNone:
		return []mode{aead}
	case cipher == cipherNull:
		return []mode{fast, aead, null}
	default:
		return []mode{fast, aead}
	}
}

// demo is what the runs have in common.
type demo struct {
	demoCmd
	app     *app
	clip    *media.Clip
	objects int // of the clip, as far as it is sent
}

// trial is what one run yields.
type trial struct {
	published *endpoint.Published
	received  []*endpoint.Received
	relays    []*relay.Stats     // from the publisher on
	upstream  *capture.Recording // at the publisher
	down      *capture.Recording // at the subscribers
	keylog    []byte
	lost      uint64 // packets, by --loss
	port      uint16 // of the last relay
}

// last returns the counters of the relay that serves the subscribers.
func (t *trial) last() *relay.Stats { return t.relays[len(t.relays)-1] }

func (c *demoCmd) Run(ctx context.Context, a *app) (err error) {
	clip, err := openClip(c.Input, c.Layout)
	if err != nil {
		return err
	}
	name, why := c.chooseDemo()
	cipher, err := c.cipher(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if c.Rate > 0 && c.Heuristic == "" {
		c.Heuristic = heuristic.Default
	}
	d := &demo{demoCmd: *c, app: a, clip: clip}
	for _, t := range append(clip.Tracks, clip.CatalogTrack()) {
		for i := range t.Objects {
			if c.Duration == 0 || t.Objects[i].Time < c.Duration {
				d.objects++
			}
		}
	}
	report := &demoReport{
		Datapath: name, DatapathWhy: why, Cipher: cipher, Draft: c.Draft, Subscribers: c.Subscribers, Hops: c.Hops, Input: c.Input, Layout: c.Layout,
		Loss: c.Loss, PathDelay: c.Delay.Microseconds(), Rate: uint64(c.Rate), Heuristic: c.Heuristic,
		DelayFrom: "socket", SlowModes: map[string]delay.Distribution{},
	}
	length := "clip of " + clip.Duration.Round(time.Millisecond).String()
	if c.Duration > 0 && c.Duration < clip.Duration {
		length = fmt.Sprintf("first %v of a %s", c.Duration, length)
	}
	a.say("datapath %s, cipher %s, draft %d, %s, %s; %s, %d objects", name, cipher, c.Draft, relays(c.Hops), subscribers(c.Subscribers), length, d.objects)
	if why != "" {
		a.say("%s", why)
	}
	try := d.tryLocal
	if name == datapathEBPF {
		report.DelayFrom = "kernel"
		lab, err := newDemoLab(ctx, d)
		if err != nil {
			return err
		}
		defer closing(lab, &err)
		try = lab.try
	}
	for _, m := range c.modes(name, cipher) {
		t, err := try(ctx, m)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return fmt.Errorf("run %s: %w", m.name, err)
		}
		if d.captured(m) {
			report.Pcap = d.pcapFiles(m)
		}
		run, err := d.evaluate(ctx, m, t)
		if err != nil {
			return fmt.Errorf("run %s: %w", m.name, err)
		}
		report.Runs = append(report.Runs, *run)
	}
	if err := d.finish(report); err != nil {
		return err
	}
	if !report.OK {
		if a.json || a.quiet {
			fmt.Fprintln(a.err, "fastrelay:", report.problems())
		}
		return errReported
	}
	return nil
}

// cipher checks and completes --cipher.
func (c *demoCmd) cipher(datapath string) (string, error) {
	switch {
	case datapath == datapathEBPF && c.Cipher == cipherAEAD:
		return "", errNeedsNull
	case c.Cipher != "":
		return c.Cipher, nil
	case datapath == datapathEBPF:
		return cipherNull, nil
	}
	return cipherAEAD, nil
}

// relays names a number of relays.
func relays(n int) string {
	if n == 1 {
		return "1 relay"
	}
	return fmt.Sprintf("%d relays in a row", n)
}

// subscribers names a number of subscribers.
func subscribers(n int) string {
	if n == 1 {
		return "1 subscriber"
	}
	return fmt.Sprintf("%d subscribers", n)
}

// relayName names a relay in messages, counted from the publisher.
func (c *demoCmd) relayName(hop int) string {
	if c.Hops == 1 {
		return "relay"
	}
	return fmt.Sprintf("relay %d", hop+1)
}

// heuristicOf returns what a relay drops by, counted from the publisher: the last one has the bottleneck.
func (d *demo) heuristicOf(m mode, hop int) string {
	if hop < d.Hops-1 {
		return ""
	}
	return m.heuristic
}

// startDelay grows with the subscribers, who all have to come before the clip starts, and with the relays that they go through.
func (c *demoCmd) startDelay() time.Duration {
	return endpoint.DefaultStartDelay + time.Duration(c.Hops-1)*250*time.Millisecond + time.Duration(c.Subscribers)*30*time.Millisecond + 10*c.Delay + c.lossTime()
}

// lossTime is how much longer handshakes and last repairs may take because packets are lost: 0 without loss.
func (c *demoCmd) lossTime() time.Duration {
	if c.Loss == 0 {
		return 0
	}
	return time.Second + time.Duration(c.Loss*40*float64(time.Second))
}

// patience is how long subscribers wait for the handshake and, at the end, for the last streams.
func (c *demoCmd) patience() time.Duration {
	return endpoint.DefaultTimeout + 10*c.Delay + c.lossTime()
}

// recorded reports whether what the datapath does in a run is to be written to --record: that of the first, in the last relay.
func (d *demo) recorded(m mode, hop int) bool {
	return d.Record != "" && m.name == "fast" && hop == d.Hops-1
}

func (c *demoCmd) draft() wire.Draft { return wire.Draft(c.Draft) }

// file returns the name of the file that a subscriber writes in a run.
func (c *demoCmd) file(m mode, i int) string {
	return numbered(filepath.Join(c.Out, "received-"+m.name+".mp4"), i, c.Subscribers)
}
