package netsim_test

import (
	"testing"
	"time"

	"github.com/fastrelay/fastrelay/internal/netsim"
)

// TestBurstEnds: a burst that no packet would end passes with time, so that it does not outlast a sender that backs off.
func TestBurstEnds(t *testing.T) {
	p := netsim.NewPath(netsim.Shape{Burst: netsim.Burst{Enter: 1, Loss: 1}}, 1)
	at := time.Unix(0, 0)
	lost := 0
	for ; lost < 100; lost++ {
		if arrivals, _ := p.Send(1200, at); len(arrivals) > 0 {
			break
		}
		at = at.Add(100 * time.Millisecond)
	}
	if lost < 10 || lost > 30 {
		t.Errorf("a burst loses %d packets, one every 100 ms", lost)
	}
}
