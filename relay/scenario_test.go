package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/moq"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// lossyRouter loses, duplicates and delays packets by a seed.
type lossyRouter struct {
	simnet.Router
	mu              sync.Mutex
	rnd             *rand.Rand
	loss, dup, late float64
	silent          string // address of a host that sends nothing any more
}

func (r *lossyRouter) SendPacket(p simnet.Packet) error {
	r.mu.Lock()
	lost, dup, late := p.From.String() == r.silent || r.rnd.Float64() < r.loss, r.rnd.Float64() < r.dup, r.rnd.Float64() < r.late
	r.mu.Unlock()
	if lost {
		return nil
	}
	if dup {
		_ = r.Router.SendPacket(p)
	}
	if late {
		time.AfterFunc(3*time.Millisecond, func() { _ = r.Router.SendPacket(p) })
		return nil
	}
	return r.Router.SendPacket(p)
}

// TestScenarios runs random whole systems: a publisher, the relay with a simulated datapath and real packet protection, and
// subscribers that come at random times with random windows, over a network that loses, reorders and duplicates. Every
// object since each subscriber's first group arrives, identical, and no stream hangs or is reset.
func TestScenarios(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inFastWorld(t, func(w *world, dp *sim.Sim) { scenario(w, uint64(seed)) })
		})
	}
}

// accepted is a subscription that the publisher has accepted.
type accepted struct {
	*moq.Request
	alias uint64
}

func scenario(w *world, seed uint64) {
	t := w.t
	rnd := rand.New(rand.NewPCG(seed, 99))
	d := []wire.Draft{wire.Draft14, wire.Draft16}[rnd.IntN(2)]
	w.lossy = &lossyRouter{Router: &w.net, rnd: rand.New(rand.NewPCG(seed, 3))}
	groups, frames := uint64(3+rnd.IntN(3)), uint64(4+rnd.IntN(8))
	payload := func(g, f uint64) []byte {
		r := rand.New(rand.NewPCG(g<<32|f, seed))
		b := make([]byte, 50+r.IntN(8000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	start := make(chan accepted, 1)
	var once sync.Once
	conn := w.dial(d, nil)
	pub, err := moq.Connect(t.Context(), conn, moq.Handlers{Subscribe: func(r *moq.Request) {
		first := false
		once.Do(func() { first = true })
		if !first { // the track is over
			if err := r.Reject(4, "over"); err != nil {
				t.Error(err)
			}
			return
		}
		alias, err := r.Accept(nil)
		if err != nil {
			t.Error(err)
		}
		start <- accepted{r, alias}
	}})
	must(t, err)
	must(t, pub.Announce(t.Context(), []string{"live"}))

	subscribers := 1 + rnd.IntN(4)
	var wg sync.WaitGroup
	for i := range subscribers {
		qc := &quic.Config{MaxIncomingUniStreams: 100}
		if rnd.IntN(2) == 0 {
			qc.MaxIncomingUniStreams = int64(3 + rnd.IntN(20))
			qc.InitialStreamReceiveWindow, qc.MaxStreamReceiveWindow = 16<<10, 16<<10
			qc.InitialConnectionReceiveWindow, qc.MaxConnectionReceiveWindow = 64<<10, 64<<10
		}
		join := time.Duration(rnd.IntN(800)) * time.Millisecond
		if i == 0 {
			join = 0
		}
		wg.Go(func() {
			time.Sleep(join)
			subscribe(w, i, d, qc, groups, frames, payload)
		})
	}
	req := <-start
	w.lossy.mu.Lock()
	w.lossy.loss, w.lossy.dup, w.lossy.late = rnd.Float64()*0.06, rnd.Float64()*0.02, rnd.Float64()*0.05
	w.lossy.mu.Unlock()
	time.Sleep(300 * time.Millisecond)
	streams := uint64(0)
	for g := range groups {
		for f := range frames {
			s, err := pub.OpenDataStream(t.Context())
			must(t, err)
			h := wire.SubgroupHeader{TrackAlias: req.alias, Group: g, Subgroup: f, SubgroupMode: wire.SubgroupExplicit, Priority: 64}
			b := h.Append(nil, d)
			p := payload(g, f)
			b = wire.AppendObjectHeader(b, d, false, f, nil, uint64(len(p)), 0)
			_, err = s.Write(append(b, p...))
			must(t, err)
			must(t, s.Close())
			streams++
			time.Sleep(20 * time.Millisecond)
		}
	}
	must(t, req.Done(moq.DoneTrackEnded, streams, "end"))
	wg.Wait()
	fast, slow := uint64(0), uint64(0)
	for _, tr := range w.relay.Stats().Tracks {
		for _, s := range tr.Subscribers {
			fast, slow = fast+s.FastStreams, slow+s.SlowStreams
		}
	}
	t.Logf("%v, %d subscribers, %d×%d frames, loss %.3f; streams fast %d, slow %d; %v", d, subscribers, groups, frames, w.lossy.loss,
		fast, slow, w.relay.Stats().Reasons)
}

// subscribe reads one subscription to its end and checks it.
func subscribe(w *world, i int, d wire.Draft, qc *quic.Config, groups, frames uint64, payload func(g, f uint64) []byte) {
	t := w.t
	s, _ := w.session(d, qc)
	sub, err := s.Subscribe(t.Context(), []string{"live"}, "video", moq.SubscribeOptions{Filter: moq.FilterNextGroup})
	if err != nil {
		t.Logf("subscriber %d came too late: %v", i, err)
		return
	}
	var mu sync.Mutex
	got := make(map[[2]uint64]bool)
	var readers sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			rs, err := s.AcceptDataStream(t.Context())
			if err != nil {
				return
			}
			readers.Go(func() {
				b, err := io.ReadAll(rs)
				h, herr := wire.ParseSubgroupHeader(b, d)
				if err != nil && herr != nil {
					return // an idle reserved stream, at the end of the connection
				}
				if err != nil || herr != nil {
					t.Errorf("subscriber %d: stream %d after %d bytes: %v %v", i, rs.StreamID(), len(b), err, herr)
					return
				}
				r := rawStream{header: h, data: b}
				mu.Lock()
				defer mu.Unlock()
				for _, o := range r.objects(t, d) {
					k := [2]uint64{o.group, o.id}
					if got[k] {
						t.Errorf("subscriber %d got object %v twice", i, k)
					}
					got[k] = true
					if !bytes.Equal([]byte(o.payload), payload(o.group, o.id)) {
						t.Errorf("subscriber %d: object %v differs", i, k)
					}
				}
			})
		}
	}()
	select {
	case <-sub.Done():
	case <-time.After(5 * time.Minute):
		t.Errorf("subscriber %d hangs", i)
	}
	time.Sleep(20 * time.Second) // repairs
	must(t, s.Close(0, ""))
	<-accepting
	readers.Wait()
	mu.Lock()
	defer mu.Unlock()
	first := groups
	for k := range got {
		first = min(first, k[0])
	}
	missing := 0
	for g := first; g < groups; g++ {
		for f := range frames {
			if !got[[2]uint64{g, f}] {
				missing++
			}
		}
	}
	if missing > 0 || i == 0 && first > 0 {
		t.Errorf("subscriber %d: first group %d, %d of %d objects are missing", i, first, missing, (groups-first)*frames)
	}
}
