package relay

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/cache"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/quic-go/quic-go"
)

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("relay is closed")

// Relay is a MoQ relay. Its methods may be called from any goroutine.
type Relay struct {
	cfg     Config
	ln      *listener
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	closing sync.Once
	closed  error
	running sync.WaitGroup // goroutines of sessions, tracks and streams
	counts  counts
	up      *upstream // nil: none

	ended ledger // of the media of sessions that ended

	mu         sync.Mutex
	stopped    bool
	peers      map[*peer]struct{}
	namespaces map[string][]*peer // who publishes it, oldest first
	tracks     map[string]*track
	trackIDs   idPool
	lastTrack  uint64 // number of the newest track

	cache *cache.Cache[body] // nil: there is none
}

// New makes a relay and opens its socket. It accepts connections once Serve is called.
func New(cfg Config) (*Relay, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ln, err := listen(&cfg)
	if err != nil {
		return nil, err
	}
	r := &Relay{
		cfg: cfg, ln: ln, peers: make(map[*peer]struct{}),
		namespaces: make(map[string][]*peer), tracks: make(map[string]*track),
		trackIDs: idPool{limit: datapath.Limits{}.WithDefaults().Tracks},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.up = newUpstream(r)
	if cfg.CacheBytes > 0 {
		r.cache = cache.New[body](cfg.CacheBytes, cfg.CacheAge)
		r.running.Go(r.expireCache)
	}
	return r, nil
}

// Addr returns the address that the relay listens on.
func (r *Relay) Addr() net.Addr { return r.ln.addr }

// Serve accepts publishers and subscribers until ctx ends, and returns its cause, or until Close, and returns ErrClosed.
// Sessions go on until Close.
func (r *Relay) Serve(ctx context.Context) error {
	r.up.start()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(r.ctx, func() { cancel(ErrClosed) })
	defer stop()
	for {
		c, err := r.ln.accept(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, quic.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed):
			return ErrClosed
		case err != nil:
			return err
		}
		if !r.spawn(func() { r.serve(c) }) {
			_ = c.CloseWithError(moq.CodeNoError, "relay is shutting down")
		}
	}
}

// spawn runs f on a goroutine that Close waits for. It returns false when the relay is closed.
func (r *Relay) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	r.running.Go(f)
	return true
}

// begin counts a goroutine in that Close waits for; it ends with running.Done. It returns false when the relay is closed.
func (r *Relay) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.running.Add(1)
	}
	return !r.stopped
}

// Close ends all sessions and closes the socket (see Config.Conn). It is idempotent.
func (r *Relay) Close() error {
	r.closing.Do(func() {
		r.mu.Lock()
		r.stopped = true
		var peers []*peer
		for p := range r.peers {
			peers = append(peers, p)
		}
		r.mu.Unlock()
		for _, p := range peers {
			_ = p.session.Close(moq.CodeNoError, "relay is shutting down")
		}
		r.cancel()
		r.closed = r.ln.close()
		r.running.Wait()
	})
	return r.closed
}

// idPool gives out the lowest numbers that are free.
type idPool struct {
	limit, next uint32
	free        []uint32
}

func (p *idPool) take() (id uint32, ok bool) {
	if n := len(p.free); n > 0 {
		id = p.free[n-1]
		p.free = p.free[:n-1]
		return id, true
	}
	if p.next == p.limit {
		return 0, false
	}
	p.next++
	return p.next - 1, true
}

func (p *idPool) give(id uint32) { p.free = append(p.free, id) }
