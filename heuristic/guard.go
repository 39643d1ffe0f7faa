package heuristic

// NewGuard is a stand-in until the real one is merged.
func NewGuard(h Heuristic, refused func(error)) Heuristic { return h }
