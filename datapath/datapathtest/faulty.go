package datapathtest

import (
	"fmt"
	"sync"

	"github.com/fastrelay/fastrelay/datapath"
)

// Plan says which calls of a datapath fail. It is asked before each call, by the method's name and the number of earlier
// calls of that method, and returns the error to give instead, or nil. The datapath is not called then.
type Plan func(method string, call int) error

// Faulty returns dp with calls that fail as planned. Close always closes dp.
func Faulty(dp datapath.Datapath, plan Plan) datapath.Datapath {
	return &faulty{dp: dp, plan: plan, calls: make(map[string]int)}
}

type faulty struct {
	dp   datapath.Datapath
	plan Plan

	mu    sync.Mutex
	calls map[string]int
}

func (f *faulty) fail(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.calls[method]
	f.calls[method]++
	if err := f.plan(method, n); err != nil {
		return fmt.Errorf("injected into %s, call %d: %w", method, n, err)
	}
	return nil
}

func (f *faulty) SetUpstream(id datapath.UpstreamID, u *datapath.Upstream) error {
	if err := f.fail("SetUpstream"); err != nil {
		return err
	}
	return f.dp.SetUpstream(id, u)
}

func (f *faulty) SetTrack(id datapath.TrackID, t *datapath.Track) error {
	if err := f.fail("SetTrack"); err != nil {
		return err
	}
	return f.dp.SetTrack(id, t)
}

func (f *faulty) SetClient(id datapath.ClientID, c *datapath.Client) (*datapath.Space, error) {
	if err := f.fail("SetClient"); err != nil {
		return nil, err
	}
	return f.dp.SetClient(id, c)
}

func (f *faulty) SetSubscription(t datapath.TrackID, c datapath.ClientID, s *datapath.Subscription) error {
	if err := f.fail("SetSubscription"); err != nil {
		return err
	}
	return f.dp.SetSubscription(t, c, s)
}

func (f *faulty) Evict(keys []datapath.StreamKey) error {
	if err := f.fail("Evict"); err != nil {
		return err
	}
	return f.dp.Evict(keys)
}

func (f *faulty) Drain(fn func(*datapath.Record)) error {
	if err := f.fail("Drain"); err != nil {
		return err
	}
	return f.dp.Drain(fn)
}

func (f *faulty) Counters() (datapath.Counters, error) {
	if err := f.fail("Counters"); err != nil {
		return datapath.Counters{}, err
	}
	return f.dp.Counters()
}

func (f *faulty) Close() error {
	err := f.fail("Close")
	if e := f.dp.Close(); err == nil {
		err = e
	}
	return err
}
