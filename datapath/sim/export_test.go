package sim

import "github.com/fastrelay/fastrelay/datapath"

// ForgetNumbers empties an upstream's replay window, so that a benchmark can send its packets again.
func (s *Sim) ForgetNumbers(id datapath.UpstreamID) {
	u := s.upstreams[id]
	u.next, u.replay = 0, [datapath.ReplaySlots]uint64{}
}
