package quicadapt

import "bytes"

// Sizes of a streamMemory. At 10 Mbit/s the bytes are those of the last fifth of a second, which is longer than most publishers
// take to send anything again.
const (
	memoryBytes  = 256 << 10
	memoryFrames = 1024
)

// streamMemory holds the last stream bytes of an upstream, to find those that are sent again and differ. quic-go and the
// relay keep what came first. The datapath forwards what comes, so that a subscriber who lost that would have another
// stream than the rest; so it is an error of the connection, as RFC 9000, section 2.2, allows. It is a state machine without I/O.
type streamMemory struct {
	frames [memoryFrames]memoryFrame
	n      uint64 // frames that were put in
	data   [memoryBytes]byte
	at     uint64 // where the next bytes go, modulo memoryBytes
	newest uint64 // highest stream ID + 1
	ends   [256]streamEnd
}

type memoryFrame struct {
	stream, lo, hi uint64
	at             uint64 // of lo
}

// streamEnd is how far a stream has come; the place is the stream's ID modulo their number.
type streamEnd struct{ stream, end uint64 }

// put takes the data of a STREAM frame. It returns false if bytes of it came before and were others.
func (m *streamMemory) put(stream, offset uint64, data []byte) bool {
	if len(data) == 0 || len(data) > memoryBytes {
		return true
	}
	hi := offset + uint64(len(data))
	e := &m.ends[stream>>2%uint64(len(m.ends))]
	known := e.stream == stream+1
	// Media come once and in order, almost always.
	if isNew := stream >= m.newest || known && offset >= e.end; !isNew && !m.agrees(stream, offset, hi, data) {
		return false
	}
	m.newest = max(m.newest, stream+1)
	if !known {
		*e = streamEnd{stream + 1, 0}
	}
	e.end = max(e.end, hi)
	m.keep(memoryFrame{stream: stream, lo: offset, hi: hi}, data)
	return true
}

func (m *streamMemory) keep(f memoryFrame, data []byte) {
	if m.at%memoryBytes+uint64(len(data)) > memoryBytes {
		m.at += memoryBytes - m.at%memoryBytes
	}
	f.at = m.at
	m.at += uint64(len(data))
	copy(m.data[f.at%memoryBytes:], data)
	m.frames[m.n%memoryFrames] = f
	m.n++
}

// agrees compares bytes [lo, hi) of a stream with those that are remembered.
func (m *streamMemory) agrees(stream, lo, hi uint64, data []byte) bool {
	for i := range m.frames {
		f := &m.frames[i]
		if f.stream != stream || f.hi <= lo || f.lo >= hi || f.at+memoryBytes < m.at {
			continue
		}
		from, to := max(lo, f.lo), min(hi, f.hi)
		at := f.at%memoryBytes + from - f.lo
		if !bytes.Equal(data[from-lo:to-lo], m.data[at:at+to-from]) {
			return false
		}
	}
	return true
}
