package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/internal/moq"
)

// key makes a map key of a namespace and perhaps a track name. Fields may hold any bytes.
func key(fields ...string) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%d:%s", len(f), f)
	}
	return b.String()
}

func trackKey(namespace []string, track string) string { return key(namespace...) + "/" + key(track) }

func (r *Relay) announce(p *peer, namespace []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key(namespace...)
	if _, ok := p.namespaces[k]; ok {
		return nil
	}
	p.namespaces[k] = struct{}{}
	r.namespaces[k] = append(r.namespaces[k], p)
	p.log.Info("namespace announced", "namespace", strings.Join(namespace, "/"))
	return nil
}

func (r *Relay) unannounce(p *peer, namespace []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withdraw(p, key(namespace...))
}

// withdraw needs r.mu.
func (r *Relay) withdraw(p *peer, k string) {
	delete(p.namespaces, k)
	left := slices.DeleteFunc(r.namespaces[k], func(q *peer) bool { return q == p })
	if len(left) == 0 {
		delete(r.namespaces, k)
		return
	}
	r.namespaces[k] = left
}

func (r *Relay) removePeer(p *peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, p)
	p.ledger.settle("connection_closed")
	p.ledger.merge(&r.ended)
	for k := range p.namespaces {
		r.withdraw(p, k)
	}
}

// publisher returns who announced the longest prefix of a namespace, and of those the one who did so last: a publisher
// that comes back is there before the relay notices that it was gone. If nobody did, it is the upstream relay, as far as it is
// connected. It needs r.mu.
func (r *Relay) publisher(namespace []string) *peer {
	for n := len(namespace); n > 0; n-- {
		if ps := r.namespaces[key(namespace[:n]...)]; len(ps) > 0 {
			return ps[len(ps)-1]
		}
	}
	if r.up != nil {
		return r.up.peer
	}
	return nil
}

// subscribe serves a subscription from its beginning to its end.
func (r *Relay) subscribe(p *peer, req *moq.Request) {
	o := req.Options()
	if o.Filter == moq.FilterAbsoluteRange && o.EndGroup < o.Start.Group {
		_ = req.Reject(moq.SubscribeInvalidRange, "the range ends before it starts")
		return
	}
	if err := r.admit(p, req.Namespace, req.Track, req.Unsubscribed()); err != nil {
		_ = req.Reject(err.Code, err.Reason)
		return
	}
	t := r.enter(req.Namespace, req.Track)
	if t == nil {
		_ = req.Reject(moq.SubscribeTrackDoesNotExist,
			fmt.Sprintf("track does not exist: nobody publishes namespace %q", strings.Join(req.Namespace, "/")))
		return
	}
	defer t.exit()
	if err := t.await(req.Unsubscribed()); err != nil {
		code, reason := t.refusal(err)
		_ = req.Reject(code, reason)
		return
	}
	t.serve(p, req)
}

// admit waits for the upstream relay, if a track may be its, and returns why it is not to be asked.
func (r *Relay) admit(p *peer, namespace []string, track string, gone <-chan struct{}) *moq.SubscribeError {
	if r.up == nil {
		return nil
	}
	timeout := time.NewTimer(r.cfg.SetupTimeout)
	defer timeout.Stop()
	return r.up.admit(p, namespace, track, gone, timeout.C)
}

// await waits for the publisher's answer, and returns why the track cannot be had.
func (t *track) await(gone <-chan struct{}) error {
	timeout := time.NewTimer(t.relay.cfg.SetupTimeout)
	defer timeout.Stop()
	select {
	case <-t.ready:
		return t.err
	case <-timeout.C:
		return context.DeadlineExceeded
	case <-gone:
		return errLeft
	}
}

// refusal returns what is said to who wants something of a track, in codes of SUBSCRIBE_ERROR and FETCH_ERROR.
func (t *track) refusal(err error) (code uint64, reason string) {
	var subscribe *moq.SubscribeError
	var fetch *moq.FetchError
	switch {
	case errors.As(err, &subscribe):
		return subscribe.Code, subscribe.Reason
	case errors.As(err, &fetch):
		return fetch.Code, fetch.Reason
	case errors.Is(err, context.DeadlineExceeded):
		return moq.SubscribeTimeout, t.publisher.silent()
	case errors.Is(err, errLeft):
		return moq.SubscribeInternal, "unsubscribed"
	}
	return moq.SubscribeInternal, "publisher cannot be reached"
}

// enter returns the track, subscribing to it upstream if nobody has yet, and counts the caller in until it calls
// exit. It returns nil if nobody publishes the track.
func (r *Relay) enter(namespace []string, name string) *track {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := trackKey(namespace, name)
	if t := r.tracks[k]; t != nil {
		t.users++
		if t.linger != nil {
			t.linger.Stop()
			t.linger = nil
		}
		return t
	}
	p := r.publisher(namespace)
	if p == nil || r.stopped {
		return nil
	}
	t := newTrack(r, p, namespace, name, k)
	r.lastTrack++
	t.users, t.number = 1, r.lastTrack
	r.tracks[k] = t
	r.running.Go(t.run)
	return t
}

// exit counts a caller of enter out. The last one leaves the track subscribed to for a while.
func (t *track) exit() {
	r := t.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.users--; t.users > 0 || r.tracks[t.key] != t {
		return
	}
	if r.cfg.Linger <= 0 || t.failed() {
		r.drop(t)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(r.cfg.Linger, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t.linger == timer { // and not stopped too late
			r.drop(t)
		}
	})
	t.linger = timer
}

// drop takes a track out of the relay: later subscriptions make a new one. It needs r.mu.
func (r *Relay) drop(t *track) {
	if r.tracks[t.key] == t {
		delete(r.tracks, t.key)
	}
	t.cancel()
}
