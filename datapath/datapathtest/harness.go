package datapathtest

import (
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
)

// Harness gives a case a datapath with empty tables and two interfaces of it.
type Harness interface {
	// Datapath returns the datapath. The harness closes it.
	Datapath() datapath.Datapath
	// Port returns the relay's UDP port.
	Port() uint16
	// Publish puts a frame in at the publisher's interface, where server ingress is attached, and returns when it has been
	// processed.
	Publish(frame []byte)
	// Subscribe does so at the subscriber's interface, where client ingress is attached.
	Subscribe(frame []byte)
	// SetClock stops the datapath's clock at a time in nanoseconds, from a second on. The time does not go back.
	SetClock(ns uint64)
	// Collect returns the frames that came out at the subscriber's interface since the last call.
	Collect() [][]byte
	// Supports says whether the datapath has a cipher.
	Supports(c datapath.Cipher) bool
	// FailSends makes sending of what the datapath lets go fail, or work again.
	FailSends(fail bool)
}

// Case is one case of the suite.
type Case struct {
	Name   string
	Limits datapath.Limits
	Run    func(r *Rig)
}

// Run runs all cases on a backend, each over IPv4 and IPv6 and on a harness of its own.
func Run(t *testing.T, newHarness func(t *testing.T, limits datapath.Limits) Harness) {
	for _, family := range []string{"ipv4", "ipv6"} {
		t.Run(family, func(t *testing.T) {
			for _, c := range Cases() {
				t.Run(c.Name, func(t *testing.T) {
					c.On(t, newHarness(t, c.Limits), family == "ipv6")
				})
			}
		})
	}
}

// On runs the case on a harness.
func (c *Case) On(t *testing.T, h Harness, v6 bool) { c.Run(newRig(t, h, v6)) }

// Cases returns all cases.
func Cases() []Case {
	var all []Case
	for _, list := range [][]Case{forwardCases, packetCases, frameCases, clientCases, budgetCases, policyCases, priorityCases, lifeCases, cipherCases} {
		all = append(all, list...)
	}
	return all
}
