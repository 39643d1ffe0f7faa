package heuristic_test

import (
	"fmt"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/heuristic"
)

// slideshow sends nothing but what is most important and second most, audio and key frames, on paths below a rate.
type slideshow struct{ plan heuristic.Planner }

func (s *slideshow) Name() string { return "slideshow" }

func (s *slideshow) Policy(v *heuristic.View) datapath.Policy {
	p, ok := s.plan.Plan(v, time.Second)
	if ok && p.Rate < v.Offered()/2 && len(v.Classes) > 2 {
		p.Bands = []datapath.Band{{UpTo: v.Classes[1].Importance}, {UpTo: datapath.MaxImportance, Drop: 1}}
	}
	return p
}

// A heuristic is a type with two methods. Registered, it is known to the relay and to fastrelay study by its name.
func ExampleHeuristic() {
	if err := heuristic.Register("slideshow", func() heuristic.Heuristic { return &slideshow{} }); err != nil {
		fmt.Println(err)
	}
	h, err := heuristic.New("slideshow")
	if err != nil {
		fmt.Println(err)
	}
	p := h.Policy(&heuristic.View{Rate: 100_000, Classes: []heuristic.Class{
		{Importance: 16, Rate: 10_000}, {Importance: 32, Rate: 60_000}, {Importance: 64, Rate: 200_000},
	}})
	for _, b := range p.Bands {
		fmt.Printf("up to %d: %.0f %% dropped\n", b.UpTo, 100*b.Drop)
	}
	// Output:
	// up to 32: 0 % dropped
	// up to 65535: 100 % dropped
}

// A Meter makes the classes of a view out of what the datapath tells of each frame.
func ExampleMeter() {
	var m heuristic.Meter
	m.Offer(0, 32, 1, 7, 100, 1200, datapath.Forwarded)        // the first packet of a key frame
	m.Offer(0, 32, 1, 7, 100, 800, datapath.ReasonPaced)       // its second, which has to wait
	m.Offer(0, 64, 1, 7, 101, 500, datapath.ReasonDropReserve) // a frame that the policy drops
	v := heuristic.View{Now: heuristic.Interval}
	m.View(&v)
	for _, c := range v.Classes {
		fmt.Printf("importance %d: %d bytes, %d dropped\n", c.Importance, c.Offered.Bytes, c.Dropped.Bytes)
	}
	// Output:
	// importance 32: 2000 bytes, 0 dropped
	// importance 64: 500 bytes, 500 dropped
}
