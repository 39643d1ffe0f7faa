package command

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/lab/netlab"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/relay"
)

// lockedBuffer is a key log that several connections write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// localRelay starts the relay at a place in the row, counted from the publisher; upstream is that before it, nil for the first.
func (d *demo) localRelay(m mode, hop int, cert tls.Certificate, upstream *relay.Upstream) (*runningRelay, error) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		return nil, fmt.Errorf("cannot open a UDP socket: %w", err)
	}
	r := &runningRelay{socket: pc, keylog: nopCloser{}, recording: nopCloser{}}
	if r.backend, err = openBackend(m.datapath, m.cipher, pc, nil); err != nil {
		return nil, errors.Join(err, closeUDP(pc))
	}
	cfg := relay.Config{
		Heuristic: heuristicNamed(d.heuristicOf(m, hop)), Conn: r.backend.conn, Datapath: r.backend.dp, Null: m.cipher == cipherNull, Logger: d.app.log.With("party", d.relayName(hop)),
		Congestion: d.Congestion, Upstream: upstream,
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
	}
	if d.recorded(m, hop) {
		if r.recording, err = record(&cfg, d.Record, r.backend.why); err != nil {
			return nil, errors.Join(err, r.backend.Close(), closeUDP(pc))
		}
	}
	if r.relay, err = relay.New(cfg); err != nil {
		return nil, errors.Join(err, r.backend.Close(), closeUDP(pc), r.recording.Close())
	}
	return r, nil
}

var loopback = net.IPv4(127, 0, 0, 1)

// tryLocal runs the clip with all parties in this process, over loopback.
func (d *demo) tryLocal(ctx context.Context, m mode) (t *trial, err error) {
	cert, err := endpoint.SelfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	tc, err := endpoint.Trust{CA: endpoint.PEM(cert)}.TLS("127.0.0.1")
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	var served sync.WaitGroup
	var relays []*runningRelay // the publisher's first
	defer func() {
		stop()
		served.Wait()
		for _, r := range slices.Backward(relays) {
			closing(r, &err)
		}
	}()
	for i := range d.Hops {
		var upstream *relay.Upstream
		if i > 0 {
			upstream = &relay.Upstream{Addr: relays[i-1].socket.LocalAddr().String(), TLS: tc.Clone()}
		}
		r, err := d.localRelay(m, i, cert, upstream)
		if err != nil {
			return nil, err
		}
		relays = append(relays, r)
		served.Go(func() {
			if err := r.relay.Serve(serving); err != nil && serving.Err() == nil {
				d.app.log.Error(d.relayName(i)+" ended", "err", err)
			}
		})
	}
	top, edge := relays[0].socket.LocalAddr(), relays[d.Hops-1].socket.LocalAddr()
	keys := &lockedBuffer{}
	tc.KeyLogWriter = keys
	taps := make([]*tap, 1+d.Subscribers) // the publisher's first
	var paths []*netsim.Shaped
	var bottleneck *netsim.Bottleneck // of all subscribers
	if d.Rate > 0 {
		bottleneck = netsim.NewBottleneck(d.Rate.bytes(), netlab.QueueBytes(d.Rate.bytes()))
	}
	for i := range taps {
		if taps[i], err = newTap(loopback); err != nil {
			return nil, err
		}
		defer func() { _ = taps[i].Close() }() // its connection may have closed it
		if i > 0 && (d.Loss > 0 || d.Delay > 0 || d.Rate > 0) {
			paths = append(paths, taps[i].shape(netsim.Shape{Loss: d.Loss, Delay: d.Delay}, uint64(i), bottleneck))
		}
	}
	dial := func(i int) endpoint.DialConfig {
		addr := edge
		if i == 0 {
			addr = top
		}
		return endpoint.DialConfig{
			Addr: addr, TLS: tc, Draft: d.draft(), Null: m.cipher == cipherNull, PacketConn: taps[i], Timeout: d.patience(),
		}
	}
	t = &trial{port: uint16(edge.(*net.UDPAddr).Port)}
	if err := d.parties(ctx, m, t, dial); err != nil {
		return nil, err
	}
	for _, r := range relays {
		stats := r.relay.Stats()
		t.relays = append(t.relays, &stats)
	}
	for _, p := range paths {
		t.lost += p.Dropped()
	}
	if t.upstream, err = recording(taps[0]); err != nil {
		return nil, err
	}
	if t.down, err = recording(taps[1:]...); err != nil {
		return nil, err
	}
	t.keylog = keys.b.Bytes()
	return t, d.writePcap(m, t)
}

// parties runs publisher and subscribers in this process until the clip is over.
func (d *demo) parties(ctx context.Context, m mode, t *trial, dial func(i int) endpoint.DialConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bar := d.app.progress(m.name)
	defer bar.finish()
	announced, published := make(chan struct{}), make(chan error, 1)
	publishing, received := context.WithCancel(ctx)
	defer received()
	go func() {
		conn, err := endpoint.Dial(ctx, dial(0))
		if err == nil {
			// It stays until everybody has everything: what it sent last may be lost, or wait long on a machine that is busy.
			t.published, err = endpoint.Publish(publishing, conn, endpoint.PublishConfig{
				Clip: d.clip, StartDelay: d.startDelay(), Limit: d.Duration, Linger: d.patience(), Logger: d.app.log.With("party", "publisher"),
				OnAnnounced: func() { close(announced) },
			})
			_ = conn.Close() // nothing more to send
		}
		if err != nil {
			err = fmt.Errorf("publisher: %w", err)
		}
		published <- err
	}()
	select {
	case <-announced:
	case err := <-published:
		return err
	}
	var objects atomic.Int64
	var err error
	t.received, err = subscribeAll(ctx, d.Subscribers, func(i int) (endpoint.DialConfig, endpoint.SubscribeConfig) {
		return dial(i + 1), endpoint.SubscribeConfig{
			Subscriber: i, File: d.file(m, i), Grace: d.patience(), Logger: d.app.log.With("party", "subscriber", "subscriber", i),
			OnObject: func(*endpoint.Object) { bar.set(int(objects.Add(1)), d.objects*d.Subscribers) },
		}
	})
	if err != nil {
		cancel()
		return errors.Join(err, <-published)
	}
	received()
	return <-published
}
