package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Eyevinn/moqtransport"
	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/sim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/fastrelay/fastrelay/relay"
)

// inFastWorld is inWorld with a simulated datapath at the relay's socket, and real packet protection.
func inFastWorld(t *testing.T, test func(*world, *sim.Sim)) {
	t.Helper()
	inFastWorldWith(t, relay.Config{}, test)
}

func inFastWorldWith(t *testing.T, cfg relay.Config, test func(*world, *sim.Sim)) {
	t.Helper()
	fastWorld{cfg: cfg}.run(t, test)
}

// fastWorld says how a world's relay and datapath are.
type fastWorld struct {
	cfg     relay.Config
	limits  datapath.Limits
	between func(net.PacketConn) net.PacketConn // the datapath and the relay; nil: nothing
}

func (f fastWorld) run(t *testing.T, test func(*world, *sim.Sim)) {
	t.Helper()
	cfg := f.cfg
	cert := certificate()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pc, addr := w.host()
		w.addr = addr
		s := sim.New(sim.Config{Port: uint16(addr.Port), Limits: f.limits})
		cfg.Conn, cfg.TLS, cfg.Datapath = s.Wrap(pc), &tls.Config{Certificates: []tls.Certificate{cert}}, s
		if f.between != nil {
			cfg.Conn = f.between(cfg.Conn)
		}
		r, err := relay.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.relay = r
		done := make(chan error)
		go func() { done <- r.Serve(context.Background()) }()
		defer func() { // also when the test has failed: what is left over would keep virtual time going
			if err := errors.Join(r.Close(), s.Close()); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, relay.ErrClosed) {
				t.Errorf("Serve returned %v", err)
			}
			_ = pc.Close()
			time.Sleep(time.Minute)
		}()
		test(w, s)
	})
}

// TestStockPeersOnTheFastPath: a publisher and subscribers that are stock quic-go and moqtransport, with real packet
// protection, get every object through the datapath.
func TestStockPeersOnTheFastPath(t *testing.T) {
	for _, d := range []wire.Draft{wire.Draft14, wire.Draft16} {
		t.Run(d.String(), func(t *testing.T) {
			inFastWorld(t, func(w *world, dp *sim.Sim) {
				t := w.t
				const subscribers, groups, frames = 3, 4, 10
				pub := w.stock(d, "live")
				var tracks []*moqtransport.RemoteTrack
				for range subscribers {
					track, err := w.stock(d).Subscribe(t.Context(), []string{"live"}, "video")
					must(t, err)
					tracks = append(tracks, track)
				}
				out := <-pub.subs
				time.Sleep(time.Second) // the subscriptions are bound
				want := make(map[string][]byte)
				rnd := rand.New(rand.NewPCG(1, 2))
				for g := range uint64(groups) {
					for f := range uint64(frames) {
						payload := make([]byte, 200+rnd.IntN(6000))
						for i := range payload {
							payload[i] = byte(rnd.Uint32())
						}
						want[fmt.Sprintf("%d/%d/%d", g, f, f)] = payload
					}
				}
				got := make(chan error, subscribers)
				for i, track := range tracks {
					go func() {
						for range groups * frames {
							o, err := track.ReadObject(t.Context())
							if err != nil {
								got <- fmt.Errorf("subscriber %d: %w", i, err)
								return
							}
							k := fmt.Sprintf("%d/%d/%d", o.GroupID, o.SubGroupID, o.ObjectID)
							if !bytes.Equal(o.Payload, want[k]) {
								got <- fmt.Errorf("subscriber %d: object %s differs", i, k)
								return
							}
						}
						got <- nil
					}()
				}
				for g := range uint64(groups) {
					for f := range uint64(frames) {
						payload := want[fmt.Sprintf("%d/%d/%d", g, f, f)]
						sg, err := out.OpenSubgroup(g, f, 64)
						must(t, err)
						_, err = sg.WriteObject(f, payload)
						must(t, err)
						must(t, sg.Close())
						time.Sleep(40 * time.Millisecond)
					}
				}
				for range subscribers {
					must(t, <-got)
				}
				s := w.relay.Stats()
				for _, sub := range s.Tracks[0].Subscribers {
					t.Logf("%+v", sub)
					if sub.FastStreams < groups*frames*95/100 {
						t.Errorf("only %d of %d streams took the fast path; reasons %v", sub.FastStreams, groups*frames, s.Reasons)
					}
				}
				c, err := dp.Counters()
				must(t, err)
				t.Log(c.Map())
			})
		})
	}
}
