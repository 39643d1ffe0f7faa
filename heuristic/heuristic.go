// Package heuristic decides which of a client's media are worth sending when its path cannot carry all: it turns what is
// known of the path and of the media into a policy, which the datapath applies to every packet.
//
//	congestion control ─┐
//	Meter (what came)  ─┼─► View ─► Heuristic ─► datapath.Policy ─► Space.SetPolicy      every Interval
//	client's reports   ─┘
//
// A heuristic is a type with two methods and runs unchanged in the study tool, in the relay's simulated datapath and in
// the kernel. It does no I/O and reads no clock: what it knows is in the View. docs/heuristics.md compares those that are here.
package heuristic

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
)

// Heuristic makes policies for one client. It may keep state between views; it is never called by two goroutines at once.
type Heuristic interface {
	// Name is the name that New knows it by.
	Name() string
	// Policy returns the policy from now on. v and what it points to are valid during the call only. The zero Policy
	// admits everything; what datapath.Policy.Check refuses is replaced by the default's, see Guard.
	Policy(v *View) datapath.Policy
}

// Interval is how often a client's heuristic is asked, about.
const Interval = 50 * time.Millisecond

// View is what is known of a client when its heuristic is asked. Times are since the client's start, sizes and rates in bytes.
type View struct {
	Now time.Duration

	// The path, as congestion control sees it. Sizes are of UDP payload.
	Rate         uint64        // bytes per second that may be sent now; 0: not known yet
	Window       uint64        // congestion window
	InFlight     uint64        // sent, and neither acknowledged nor lost
	SmoothedRTT  time.Duration // with what queues in the network; 0: not known yet
	MinRTT       time.Duration
	Sent, Lost   uint64        // since the last view
	Backlog      uint64        // admitted, and waiting in userspace for room
	Plan         time.Duration // how far ahead of now the plan is filled: admitted bytes ÷ Policy.Rate
	Reported     *Report       // nil: the client reports nothing
	LastInterval time.Duration // since the last view, 0 at the first

	// The media.
	Timeout time.Duration // delivery timeout, or the subscriber's play-out deadline; 0: none
	Classes []Class       // by importance, the most important first; what came lately
}

// Report is what the client itself measured and told out of band (thesis, 3.4.1).
type Report struct {
	Rate  uint64        // bytes of media per second that arrived
	Delay time.Duration // one way, above the least that it saw
	At    time.Duration // when it was received, as View.Now
}

// Class is what is known of the media of one importance.
type Class struct {
	Importance uint16        // datapath.Importance; lower is more important
	Rate       uint64        // offered bytes per second, smoothed
	Peak       uint64        // bytes of the largest stream (or datagram) lately
	Span       time.Duration // from first to last byte of the longest lasting stream lately

	// Groups of the track; if media of several tracks have this importance, of the one that came first.
	Track          uint64
	Group, Streams uint64        // bytes and streams of the largest group lately
	Begun          time.Duration // when the latest group began, as View.Now
	Period         time.Duration // between the beginnings of groups, smoothed; 0: not known yet
	Deviation      time.Duration // mean deviation from Period
	Shed           uint64        // streams of the latest group that were dropped

	Offered, Admitted, Dropped Count // since the last view; a stream counts when it begins, or is dropped
}

// Count is an amount of media.
type Count struct{ Bytes, Streams uint64 }

// Offered returns the sum of the rates of all classes.
func (v *View) Offered() (rate uint64) {
	for i := range v.Classes {
		rate += v.Classes[i].Rate
	}
	return rate
}

// Default is the heuristic of clients for which none was chosen.
const Default = "live"

var (
	mu       sync.RWMutex
	registry = map[string]func() Heuristic{
		"none":      func() Heuristic { return &TailDrop{} },
		"random":    func() Heuristic { return &Random{} },
		"threshold": func() Heuristic { return &Threshold{} },
		"thesis":    func() Heuristic { return &Thesis{} },
		"budget":    func() Heuristic { return &Budget{} },
		"reserve":   func() Heuristic { return &Reserve{} },
		"group":     func() Heuristic { return &Reserve{Cut: true} },
		"age":       func() Heuristic { return &Age{} },
		"ppd":       func() Heuristic { return &PriorityDrop{} },
		"live":      func() Heuristic { return &Live{} },
	}
)

// Register makes a heuristic of other modules known to New, by a name that nothing else has. create is called once for each client.
func Register(name string, create func() Heuristic) error {
	mu.Lock()
	defer mu.Unlock()
	if name == "" || registry[name] != nil {
		return fmt.Errorf("heuristic %q cannot be registered: the name is empty or taken", name)
	}
	registry[name] = create
	return nil
}

// New returns a heuristic for one client.
func New(name string) (Heuristic, error) {
	mu.RLock()
	f := registry[name]
	mu.RUnlock()
	if f == nil {
		return nil, fmt.Errorf("there is no heuristic %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return f(), nil
}

// Names returns the names that New knows, sorted.
func Names() []string {
	mu.RLock()
	defer mu.RUnlock()
	names := make([]string, 0, len(registry))
	for n := range registry {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
