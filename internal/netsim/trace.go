package netsim

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Event is a packet that was sent.
type Event struct {
	At       time.Time
	From, To netip.AddrPort
	Data     []byte // UDP payload; not to be changed
	Fate     Fate
	Arrivals []time.Time
}

// Trace keeps the packets of a network, for when something goes wrong. A nil Trace keeps nothing.
type Trace struct {
	mu     sync.Mutex
	events []Event
}

func (t *Trace) add(e Event) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

// Events returns what was sent so far, in order.
func (t *Trace) Events() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events[:len(t.events):len(t.events)]
}

// Write writes a line per packet, with times since start.
func (t *Trace) Write(w io.Writer, start time.Time) error {
	for _, e := range t.Events() {
		kind := "short"
		if len(e.Data) > 0 && e.Data[0]&0x80 != 0 { // RFC 9000, section 17.2
			kind = "long"
		}
		if _, err := fmt.Fprintf(w, "%10.3f ms  %v > %v  %4d bytes %-5s %v", ms(e.At.Sub(start)), e.From, e.To, len(e.Data), kind, e.Fate); err != nil {
			return err
		}
		for _, a := range e.Arrivals {
			if _, err := fmt.Fprintf(w, "  arrives %.3f", ms(a.Sub(start))); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// WritePcap writes the packets as they were sent, lost ones too, as a capture of IP packets.
func (t *Trace) WritePcap(w io.Writer) error {
	p := pcapgo.NewWriterNanos(w)
	if err := p.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		return err
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	for _, e := range t.Events() {
		udp := &layers.UDP{SrcPort: layers.UDPPort(e.From.Port()), DstPort: layers.UDPPort(e.To.Port())}
		var ip interface {
			gopacket.NetworkLayer
			gopacket.SerializableLayer
		}
		if src, dst := e.From.Addr(), e.To.Addr(); src.Is4() && dst.Is4() {
			ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		} else {
			s, d := src.As16(), dst.As16()
			ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: s[:], DstIP: d[:]}
		}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			return err
		}
		if err := gopacket.SerializeLayers(buf, opts, ip, udp, gopacket.Payload(e.Data)); err != nil {
			return err
		}
		b := buf.Bytes()
		if err := p.WritePacket(gopacket.CaptureInfo{Timestamp: e.At, CaptureLength: len(b), Length: len(b)}, b); err != nil {
			return err
		}
	}
	return nil
}
