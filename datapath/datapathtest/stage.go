package datapathtest

import (
	"bytes"
	"errors"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// simStart is what a simulator's clock shows, as time.Time, when it is at ClockStart.
var simStart = time.Unix(1700000000, 0)

// ClockStart is what the clock of a datapath shows when a trace begins, in nanoseconds.
const ClockStart = uint64(time.Second)

// Simulator is what a trace needs of a simulated datapath whose tables are read by D.
type Simulator[D any] interface {
	datapath.Datapath
	Ingress(frame []byte, ifindex int, at time.Time)
	Dump(to D)
}

// SimStage is a Stage that runs a simulator. Send, HasInterface and Now are for the simulator's configuration, and its interfaces
// have the indices of a Stage + 1.
type SimStage[D any] struct {
	sim  Simulator[D]
	dump func(*Dump) D
	now  time.Time
	out  [2][][]byte
	fail bool
}

// NewSimStage returns a stage without its simulator. dump makes what the simulator dumps to.
func NewSimStage[D any](dump func(*Dump) D) *SimStage[D] {
	return &SimStage[D]{dump: dump, now: simStart}
}

// Use sets the simulator.
func (s *SimStage[D]) Use(sim Simulator[D]) { s.sim = sim }

// Send is the simulator's.
func (s *SimStage[D]) Send(frame []byte, ifindex int, _ time.Time) error {
	if s.fail && ifindex == Subscribers+1 {
		return errors.New("injected")
	}
	s.out[ifindex-1] = append(s.out[ifindex-1], bytes.Clone(frame))
	return nil
}

// HasInterface is the simulator's.
func (s *SimStage[D]) HasInterface(ifindex int) bool { return ifindex != Gone+1 }

// Now is the simulator's clock.
func (s *SimStage[D]) Now() time.Time { return s.now }

// Datapath implements Stage.
func (s *SimStage[D]) Datapath() datapath.Datapath { return s.sim }

// Inject implements Stage.
func (s *SimStage[D]) Inject(iface int, frame []byte) { s.sim.Ingress(frame, iface+1, s.now) }

// Collect implements Stage.
func (s *SimStage[D]) Collect() [2][][]byte {
	out := s.out
	s.out = [2][][]byte{}
	return out
}

// SetClock implements Stage.
func (s *SimStage[D]) SetClock(ns uint64) { s.now = simStart.Add(time.Duration(ns - ClockStart)) }

// Nanos implements Stage.
func (s *SimStage[D]) Nanos(t time.Time) uint64 { return ClockStart + uint64(t.Sub(simStart)) }

// Dump implements Stage.
func (s *SimStage[D]) Dump(to *Dump) { s.sim.Dump(s.dump(to)) }

// FailSends implements Stage.
func (s *SimStage[D]) FailSends(fail bool) { s.fail = fail }
