package quicadapt

import (
	"errors"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// removeAgainAfter is after what time the datapath is told again to remove what it did not.
const removeAgainAfter = time.Second

// removal is a client or an upstream, in clients or ups, that the datapath is to remove. Until it has, its ID is not given to another, who
// would get what is left of it: subscriptions, streams, a replay window.
type removal struct {
	table []*conn
	id    int
}

// removeID takes an ID out of the datapath and then out of its table. If that fails it is tried again.
func (b *Boundary) removeID(r removal) {
	dp, isUp := b.cfg.Datapath, &r.table[0] == &b.ups[0]
	var err error
	switch {
	case b.blind.Load(): // it was taken out with all
	case isUp:
		err = dp.SetUpstream(datapath.UpstreamID(r.id), nil)
	default:
		_, err = dp.SetClient(datapath.ClientID(r.id), nil)
	}
	if isUp {
		b.forgetUpstream(datapath.UpstreamID(r.id))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && !errors.Is(err, datapath.ErrClosed) {
		b.removals = append(b.removals, r)
		b.cfg.Logger.Warn("datapath did not remove a connection; it is told again", "upstream", isUp, "id", r.id, "err", err)
		return
	}
	r.table[r.id] = nil
}

// removeAgain tries removals that failed, and returns when to come again, 0 for never.
func (b *Boundary) removeAgain() (next int64) {
	b.mu.Lock()
	failed := b.removals
	if len(failed) > 0 && b.now() < b.removeAt {
		defer b.mu.Unlock()
		return b.removeAt
	}
	b.removals = nil
	b.mu.Unlock()
	for _, r := range failed {
		b.removeID(r)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.removals) == 0 {
		return 0
	}
	b.removeAt = b.now() + int64(removeAgainAfter)
	return b.removeAt
}
