package congestion

import "math"

// Constants of RFC 9002, sections 7.2 and 7.7.
const (
	initialDatagrams = 10
	initialBytes     = 14720
	minimumDatagrams = 2
	// paceNumerator/paceDenominator is by how much pacing is faster than a window per RTT, so that it does not hold back
	// a sender that could use its window.
	paceNumerator, paceDenominator = 5, 4
)

// maxWindow keeps a window that nothing limits from growing without end. It is more than a second of 1 Gbit/s.
const maxWindow = 1 << 27

// windowed is what controllers have in common that grow a window in slow start up to a threshold, and reduce it at most once per recovery
// period.
type windowed struct {
	datagram  uint64
	least     uint64 // datagrams of the smallest window
	first     uint64 // datagrams of the initial window; 0: those of the RFC
	window    uint64
	threshold uint64 // slow start below
	// recovery is when the recovery period began: packets sent until then neither grow nor reduce the window.
	recovery   int64
	recovering bool // there was a recovery period
}

func newWindowed(n, first, least int) windowed {
	w := windowed{datagram: datagramSize(n), first: uint64(min(max(first, 0), maxInitial)), least: uint64(least), threshold: math.MaxUint64}
	w.window = w.initial()
	return w
}

// maxInitial bounds the initial window, in datagrams.
const maxInitial = 1 << 10

// datagramSize returns a size within the bounds of UDP.
func datagramSize(n int) uint64 { return uint64(min(max(n, 1), 1<<16)) }

// initial returns the initial window (RFC 9002, section 7.2).
func (w *windowed) initial() uint64 {
	if w.first > 0 {
		return max(w.first, w.least) * w.datagram
	}
	return max(min(initialDatagrams*w.datagram, max(initialBytes, minimumDatagrams*w.datagram)), w.minimum())
}

func (w *windowed) minimum() uint64 { return w.least * w.datagram }

// set makes n bytes the window, as far as the bounds allow.
func (w *windowed) set(n uint64) { w.window = max(min(n, maxWindow), w.minimum()) }

// SetDatagramSize implements Controller. A window that is still the initial one is worked out anew.
func (w *windowed) SetDatagramSize(n int) {
	untouched := w.threshold == math.MaxUint64 && w.window == w.initial()
	w.datagram = datagramSize(n)
	if untouched {
		w.window = w.initial()
	}
	w.window = max(w.window, w.minimum())
}

// before says whether a packet was sent before the last reduction.
func (w *windowed) before(p Packet) bool { return w.recovering && p.Sent <= w.recovery }

// slowStart says whether the window is below the threshold.
func (w *windowed) slowStart() bool { return w.window < w.threshold }

// limited says whether the window is what limits the sender. Media come in bursts that are seen as acknowledgments take them
// out of flight, so in slow start half a window in flight counts as used; otherwise all but a burst of three datagrams does.
func (w *windowed) limited(inFlight uint64) bool {
	if w.slowStart() {
		return 2*inFlight >= w.window
	}
	return inFlight+3*w.datagram > w.window
}

// reduce begins a recovery period with a share of the window (RFC 9002, section 7.3.2).
func (w *windowed) reduce(now int64, share float64) {
	w.recovery, w.recovering = now, true
	w.threshold = uint64(share * float64(w.window))
	w.set(w.threshold)
}

// OnSent implements Controller.
func (w *windowed) OnSent(Packet, uint64) {}

// Window implements Controller.
func (w *windowed) Window() uint64 { return w.window }

// Rate implements Controller (RFC 9002, section 7.7).
func (w *windowed) Rate(smoothed int64) uint64 {
	if smoothed <= 0 {
		return 0
	}
	return max(uint64(float64(w.window)*paceNumerator/paceDenominator*1e9/float64(smoothed)), 1)
}
