package sim

import "sync"

// cpu is one CPU's part of the packet path: its scratch. Ingress and egress nest, so they have their own.
type cpu struct {
	*Sim
	in    ingress
	out   egress
	turns uint64 // odd while a packet is under way that may open a stream, or has a datagram
}

// awaitFanOuts returns when those fan-outs have ended that are under way now. With a lock around each packet there are none.
func (s *Sim) awaitFanOuts(call string) {
	for _, c := range s.cpus {
		was := c.turns
		pending := func() bool { return was%2 == 1 && c.turns == was }
		switch {
		case !pending():
		case s.cfg.Await != nil:
			s.cfg.Await(call, pending)
		default:
			for pending() {
				s.cfg.Step(true)
			}
		}
	}
}

// takeCPU returns a CPU that forwards nothing. Without Config.Step it is always the same one.
func (s *Sim) takeCPU() *cpu {
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return c
	}
	c := &cpu{Sim: s}
	s.cpus = append(s.cpus, c)
	return c
}

func (s *Sim) giveCPU(c *cpu) { s.idle = append(s.idle, c) }

// step lets other CPUs and userspace run (Config.Step).
func (s *Sim) step() {
	if s.cfg.Step != nil {
		s.cfg.Step(false)
	}
}

// lock is a mutex, but with Config.Step, where one goroutine runs at a time: then it is either off or, where it is held over
// steps, waits by them.
type lock struct {
	sync.Mutex
	off  bool
	wait func(waiting bool)
	held bool
}

func (l *lock) Lock() {
	switch {
	case l.off:
	case l.wait != nil:
		for l.held {
			l.wait(true)
		}
		l.held = true
	default:
		l.Mutex.Lock()
	}
}

func (l *lock) Unlock() {
	switch {
	case l.off:
	case l.wait != nil:
		l.held = false
	default:
		l.Mutex.Unlock()
	}
}
