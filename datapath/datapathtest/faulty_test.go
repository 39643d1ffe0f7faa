package datapathtest_test

import (
	"errors"
	"testing"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/datapath/datapathtest"
	"github.com/fastrelay/fastrelay/datapath/sim"
)

func TestFaulty(t *testing.T) {
	s := sim.New(sim.Config{})
	injected := errors.New("as planned")
	dp := datapathtest.Faulty(s, func(method string, call int) error {
		if method == "Evict" && call == 1 || method == "Close" {
			return injected
		}
		return nil
	})
	for i, want := range []error{nil, injected, nil} {
		if err := dp.Evict(nil); !errors.Is(err, want) {
			t.Errorf("call %d returned %v, want %v", i, err, want)
		}
	}
	if err := dp.Close(); !errors.Is(err, injected) {
		t.Errorf("Close returned %v", err)
	}
	if _, err := s.Counters(); !errors.Is(err, datapath.ErrClosed) {
		t.Errorf("the datapath was not closed: %v", err)
	}
}
