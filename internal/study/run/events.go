package run

// kind is what happens.
type kind uint8

const (
	evArrival  kind = iota // a packet of the publisher reaches the relay
	evDeliver              // a packet reaches a subscriber; arg is its place
	evAck                  // an ACK frame reaches the relay; arg is its place
	evAckTimer             // a subscriber has waited long enough with an ACK
	evTimer                // the relay's timer for a subscriber
	evPolicy               // the heuristic is asked
	evControl              // a control message is sent
	evSample               // queues are looked at
)

// event is something that happens at a time to a client. Of those at the same time, the one that was put in first is first.
type event struct {
	at   int64
	seq  uint64
	arg  int32
	who  int32
	kind kind
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// agenda is a heap of events with four children a node.
type agenda struct {
	heap []event
	seq  uint64
}

func (a *agenda) add(at int64, k kind, who, arg int32) {
	a.seq++
	e := event{at: at, seq: a.seq, arg: arg, who: who, kind: k}
	a.heap = append(a.heap, e)
	i := len(a.heap) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&a.heap[up]) {
			break
		}
		a.heap[i] = a.heap[up]
		i = up
	}
	a.heap[i] = e
}

// next takes the first event out. There must be one.
func (a *agenda) next() event {
	first := a.heap[0]
	n := len(a.heap) - 1
	e := a.heap[n]
	a.heap = a.heap[:n]
	if n == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= n {
			break
		}
		best := child
		for c := child + 1; c < min(child+4, n); c++ {
			if a.heap[c].before(&a.heap[best]) {
				best = c
			}
		}
		if !a.heap[best].before(&e) {
			break
		}
		a.heap[i] = a.heap[best]
		i = best
	}
	a.heap[i] = e
	return first
}
