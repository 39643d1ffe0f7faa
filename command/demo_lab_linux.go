package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/capture"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
)

// labPort is the relay's port in its own network namespace, where nobody else is.
const labPort = 4433

// labPacketSize is what the lab's interfaces carry and a little less, without the relay having to find out: what the datapath sends to a
// next relay may have to be larger than what came from this one.
const labPacketSize = "1440"

// demoLab runs relay, publisher and subscribers as processes of this program in network namespaces of their own.
type demoLab struct {
	*demo
	lab   *netlab.Lab
	dir   string // for what the processes exchange
	exe   string
	input string
}

// ableLab returns why network namespaces cannot be used, or nil.
func ableLab() error {
	if os.Geteuid() != 0 {
		return netlab.ErrPrivileges
	}
	return nil
}

const labDirPrefix = "fastrelay-demo-"

// newDemoLab removes what earlier runs left, and makes the namespaces. They are removed by Close and when ctx ends.
func newDemoLab(ctx context.Context, d *demo) (*demoLab, error) {
	l := &demoLab{demo: d, input: d.Input}
	removed, err := netlab.Clean()
	if err != nil {
		return nil, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if len(removed) > 0 {
		d.app.say("removed what an earlier run left: %s", strings.Join(removed, ", "))
	}
	cleanDirs()
	if l.exe, err = os.Executable(); err != nil {
		return nil, err
	}
	if l.input != "sample" {
		if l.input, err = filepath.Abs(l.input); err != nil {
			return nil, err
		}
	}
	if l.dir, err = os.MkdirTemp("", labDirPrefix+strconv.Itoa(os.Getpid())+"-"); err != nil {
		return nil, err
	}
	if l.lab, err = netlab.New(ctx, netlab.Options{Hops: d.Hops}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	if l.Rate > 0 {
		if err := l.lab.Downstream.Limit(l.Rate.bytes()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// cleanDirs removes the directories of processes that are gone.
func cleanDirs() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), labDirPrefix+"*"))
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), labDirPrefix), "-")
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(dir) // tidying up is no reason to fail
		}
	}
}

// Close removes everything.
func (l *demoLab) Close() error { return errors.Join(l.lab.Close(), os.RemoveAll(l.dir)) }

// try runs the clip once.
func (l *demoLab) try(ctx context.Context, m mode) (t *trial, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t = &trial{port: labPort}
	up, err := l.capture(l.lab.Upstream.Peer, m, pcapPublisher)
	if err != nil {
		return nil, err
	}
	defer closing(up, &err)
	down, err := l.capture(l.lab.Downstream.Peer, m, pcapSubscriber)
	if err != nil {
		return nil, err
	}
	defer closing(down, &err)

	var loss *netlab.Loss
	if l.Loss > 0 {
		if loss, err = l.lab.Downstream.Lose(l.Loss); err != nil {
			return nil, err
		}
		defer closing(loss, &err)
	}
	keys := filepath.Join(l.dir, m.name+".keys")
	relays := make([]*child, l.Hops)
	for i := range relays {
		if relays[i], err = startChild(ctx, l.lab.Relays[i], l.exe, l.relayArgs(m, i)...); err != nil {
			return nil, fmt.Errorf("%s: %w", l.relayName(i), err)
		}
		defer relays[i].kill()
		if err := relays[i].await(ctx, "listening"); err != nil {
			return nil, fmt.Errorf("%s: %w", l.relayName(i), err)
		}
	}
	client := func(end netip.Addr, hop int) []string {
		return []string{
			"--json", "--relay", labAddr(end), "--ca", l.cert(m, hop), "--keylog", keys,
			"--draft", strconv.Itoa(l.Draft), "--cipher", m.cipher, "--log-level", l.level(),
			"--timeout", l.patience().String(),
		}
	}
	publisher, err := startChild(ctx, l.lab.Publisher, l.exe, append([]string{
		"publish", l.input, "--layout", l.Layout, "--start-delay", l.startDelay().String(), "--duration", l.Duration.String(),
	}, client(l.lab.Upstream.Relay.Addr(), 0)...)...)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	defer publisher.kill()
	if err := publisher.await(ctx, "announced"); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	subscriber, err := startChild(ctx, l.lab.Subscriber, l.exe, append([]string{
		"subscribe", "--count", strconv.Itoa(l.Subscribers), "--out", filepath.Join(l.Out, "received-"+m.name+".mp4"), "--grace", l.patience().String(),
	}, client(l.lab.Downstream.Relay.Addr(), l.Hops-1)...)...)
	if err != nil {
		return nil, fmt.Errorf("subscribers: %w", err)
	}
	defer subscriber.kill()
	stop := l.showTime(m)
	defer stop()
	if err := subscriber.result(ctx, &t.received); err != nil {
		return nil, fmt.Errorf("subscribers: %w", err)
	}
	if err := publisher.result(ctx, &t.published); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	for i, c := range relays {
		var last relayEvent
		if err := c.stop(ctx, &last); err != nil {
			return nil, fmt.Errorf("%s: %w", l.relayName(i), err)
		}
		if last.Stats == nil {
			return nil, fmt.Errorf("%s: its last words have no counters", l.relayName(i))
		}
		t.relays = append(t.relays, last.Stats)
	}
	if loss != nil {
		if t.lost, err = loss.Dropped(); err != nil {
			return nil, err
		}
	}
	if t.upstream, err = up.stop(); err != nil {
		return nil, err
	}
	if t.down, err = down.stop(); err != nil {
		return nil, err
	}
	if t.keylog, err = os.ReadFile(keys); err != nil && m.cipher != cipherNull {
		return nil, err
	}
	return t, nil
}

// level is what the processes log; it goes nowhere but into what is told of a process that fails.
func (l *demoLab) level() string { return "warn" }

// cert is the file with the certificate of a relay, counted from the publisher.
func (l *demoLab) cert(m mode, hop int) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s-%d.pem", m.name, hop))
}

func labAddr(a netip.Addr) string { return netip.AddrPortFrom(a, labPort).String() }

// relayArgs are the arguments of a relay, counted from the publisher.
func (l *demoLab) relayArgs(m mode, hop int) []string {
	args := []string{
		"relay", "--json", "--listen", fmt.Sprintf("0.0.0.0:%d", labPort), "--datapath", m.datapath, "--cipher", m.cipher,
		"--write-cert", l.cert(m, hop), "--log-level", l.level(), "--packet-size", labPacketSize,
		"--congestion", l.Congestion,
	}
	if l.recorded(m, hop) {
		args = append(args, "--record", l.Record)
	}
	if h := l.heuristicOf(m, hop); h != "" {
		args = append(args, "--heuristic", h)
	}
	up, down := l.lab.Upstream.Relay, l.lab.Downstream.Relay // the relay's ends of its two links
	if hop > 0 {
		link := l.lab.Between[hop-1]
		up = link.Peer
		args = append(args, "--upstream", labAddr(link.Relay.Addr()), "--upstream-ca", l.cert(m, hop-1))
	}
	if hop < l.Hops-1 {
		down = l.lab.Between[hop].Relay
	}
	if m.datapath == datapathEBPF {
		args = append(args, "--interface", up.Interface, "--interface", down.Interface)
	}
	return args
}

// showTime shows how far the clip is, by the clock: the parties report at their end.
func (l *demoLab) showTime(m mode) (stop func()) {
	bar := l.app.progress(m.name)
	length := l.clip.Duration
	if l.Duration > 0 {
		length = min(length, l.Duration)
	}
	total := int((l.startDelay() + length + endpoint.DefaultLinger) / (100 * time.Millisecond))
	tick, done := time.NewTicker(100*time.Millisecond), make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-tick.C:
				bar.set(min(n, total), total)
			case <-done:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		bar.finish()
	}
}

// labCapture is a capture with the file that it is written to.
type labCapture struct {
	c    *capture.Capture
	file io.Closer
}

// capture starts to capture at an end of a link.
func (l *demoLab) capture(end netlab.End, m mode, suffix string) (*labCapture, error) {
	opts := capture.Options{Interface: end.Interface, Port: labPort}
	c := &labCapture{file: nopCloser{}}
	if l.captured(m) {
		f, err := os.Create(withSuffix(l.Pcap, suffix))
		if err != nil {
			return nil, fmt.Errorf("--pcap: %w", err)
		}
		opts.Pcap, c.file = f, f
	}
	err := end.Namespace.Do(func() (err error) {
		c.c, err = capture.Start(opts)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, c.file.Close())
	}
	return c, nil
}

func (c *labCapture) stop() (*capture.Recording, error) { return c.c.Stop() }

// Close stops the capture if that has not been done.
func (c *labCapture) Close() error {
	_, err := c.c.Stop()
	return errors.Join(err, c.file.Close())
}
