package sim_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
)

const port = 4443

var now = time.Unix(1700000000, 0)

// harness runs the suite on a Sim: interface 1 faces the publisher, 2 the subscribers.
type harness struct {
	t    *testing.T
	s    *sim.Sim
	sent [][]byte
	fail bool
	at   time.Time
}

func newHarness(t *testing.T, limits datapath.Limits) datapathtest.Harness {
	h := &harness{t: t, at: now}
	h.s = sim.New(sim.Config{Limits: limits, Port: port, Now: func() time.Time { return h.at }, Send: func(frame []byte, ifindex int, at time.Time) error {
		if h.fail {
			return errors.New("injected")
		}
		if ifindex != 2 || !at.Equal(h.at) {
			t.Errorf("frame went out at interface %d at %v", ifindex, at)
		}
		h.sent = append(h.sent, bytes.Clone(frame))
		return nil
	}})
	return h
}

func (h *harness) Datapath() datapath.Datapath     { return h.s }
func (h *harness) Port() uint16                    { return port }
func (h *harness) Subscribe(frame []byte)          { h.s.ClientIngress(frame, 2, h.at) }
func (h *harness) Supports(_ datapath.Cipher) bool { return true }

// SetClock counts from the second at which the clock of a Sim starts.
func (h *harness) SetClock(ns uint64) { h.at = now.Add(time.Duration(ns) - time.Second) }

func (h *harness) FailSends(fail bool) { h.fail = fail }

func (h *harness) Publish(frame []byte) {
	before := bytes.Clone(frame)
	h.s.ServerIngress(frame, 1, h.at)
	if !bytes.Equal(before, frame) {
		h.t.Error("the frame was altered")
	}
}

func (h *harness) Collect() [][]byte {
	out := h.sent
	h.sent = nil
	return out
}

func TestConformance(t *testing.T) { datapathtest.Run(t, newHarness) }
