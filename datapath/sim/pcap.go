package sim

import (
	"io"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Pcap writes frames to a capture file with timestamps in nanoseconds. Its Tap fits Config.Tap.
type Pcap struct {
	mu  sync.Mutex
	w   *pcapgo.Writer
	err error
}

// NewPcap writes the file header to w and returns a writer of frames. The caller closes w.
func NewPcap(w io.Writer) (*Pcap, error) {
	p := &Pcap{w: pcapgo.NewWriterNanos(w)}
	return p, p.w.WriteFileHeader(1<<16, layers.LinkTypeEthernet)
}

// Tap writes a frame. After a failure it does nothing; Err tells.
func (p *Pcap) Tap(_ Direction, frame []byte, at time.Time) { p.Snap(frame, len(frame), at) }

// Snap writes the first n bytes of a frame, or all if it has fewer, as a capture that keeps no more of it.
func (p *Pcap) Snap(frame []byte, n int, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		n = min(n, len(frame))
		p.err = p.w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: n, Length: len(frame)}, frame[:n])
	}
}

// Err returns the first error of writing.
func (p *Pcap) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
