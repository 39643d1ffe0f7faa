package relay_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/fastrelay/fastrelay/datapath"
	"github.com/fastrelay/fastrelay/internal/netsim"
	"github.com/fastrelay/fastrelay/internal/wire"
	"github.com/quic-go/quic-go"
)

// forger is a socket below a stock quic-go client that has the keys of its connection: it opens the client's 1-RTT packets,
// changes their frames, and seals them again under their numbers.
//
//	quic-go ─► forger ─► network ─► relay
type forger struct {
	*netsim.Host
	to net.Addr

	mu     sync.Mutex
	out    *wire.Keys // that the client seals with; nil until its first 1-RTT packet
	seal   *wire.Keys // the same, which the forger may update by itself
	in     *wire.Keys // that the relay seals with
	secret [2][]byte  // of client and relay
	next   uint64     // number of the client
	got    uint64     // next number of the relay
	keep   func(frame *wire.Frame) bool
	pad    int      // bytes of PADDING before the frames of each packet
	forged [][]byte // payloads that replace those of the next packets
	sent   [][]byte // the last 1-RTT packets as they left
	dcid   []byte
}

// Write implements io.Writer for TLS' key log.
func (f *forger) Write(line []byte) (int, error) {
	label, _, secret, err := wire.ParseKeyLogLine(line)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch label {
	case wire.KeyLogClient1RTT:
		f.secret[0] = secret
	case wire.KeyLogServer1RTT:
		f.secret[1] = secret
	}
	return len(line), nil
}

// start has the keys made, of the cipher suite that opens the client's first packet.
func (f *forger) start(p []byte) bool {
	if f.out != nil {
		return true
	}
	for _, s := range wire.SuitesForSecret(f.secret[0]) {
		k, err := wire.NewKeys(s, wire.Version1, f.secret[0])
		var o wire.Opened
		if err != nil || k.Open(nil, p, datapath.CIDLen, 0, &o) != nil {
			continue
		}
		f.out = k
		f.seal, _ = wire.NewKeys(s, wire.Version1, f.secret[0])
		f.in, _ = wire.NewKeys(s, wire.Version1, f.secret[1])
		return true
	}
	return false
}

// shortAt returns where the 1-RTT packet of a datagram begins.
func shortAt(p []byte) int {
	at := 0
	for at < len(p) && wire.IsLongHeader(p[at]) {
		h, err := wire.ParseLongHeader(p[at:])
		if err != nil || h.PacketLen <= 0 {
			return len(p)
		}
		at += h.PacketLen
	}
	return at
}

// WriteTo implements net.PacketConn.
func (f *forger) WriteTo(p []byte, to net.Addr) (int, error) {
	n := len(p)
	f.mu.Lock()
	if at := shortAt(p); at < n && f.start(p[at:]) {
		p = append(slices.Clone(p[:at]), f.forge(p[at:])...)
	}
	f.mu.Unlock()
	if _, err := f.Host.WriteTo(p, to); err != nil {
		return 0, err
	}
	return n, nil
}

func (f *forger) forge(p []byte) []byte {
	var o wire.Opened
	if f.out.Open(nil, p, datapath.CIDLen, f.next, &o) != nil {
		return p
	}
	f.next = max(f.next, o.PacketNumber+1)
	for f.seal.Generation() < f.out.Generation() {
		f.seal.Update()
	}
	f.dcid = slices.Clone(p[1 : 1+datapath.CIDLen])
	payload := o.Payload
	if len(f.forged) > 0 && hasDatagram(payload) {
		payload, f.forged = f.forged[0], f.forged[1:]
	} else if f.keep != nil {
		payload = nil
		var frame wire.Frame
		for at := 0; at < len(o.Payload); {
			n, err := frame.Parse(o.Payload[at:])
			if err != nil {
				break
			}
			if f.keep(&frame) {
				payload = append(payload, o.Payload[at:at+n]...)
			}
			at += n
		}
	}
	if f.pad > 0 {
		payload = append(wire.AppendPadding(nil, f.pad), payload...)
	}
	if len(payload)+o.PNLen < 4 {
		payload = wire.AppendPadding(slices.Clone(payload), 4-o.PNLen)
	}
	out := f.seal.Seal(nil, f.seal.Generation(), f.dcid, o.PacketNumber, o.PNLen, payload)
	f.sent = append(f.sent, out)
	return out
}

// hasDatagram says whether a packet is one that send has the client send.
func hasDatagram(payload []byte) bool {
	var frame wire.Frame
	for at := 0; at < len(payload); {
		n, err := frame.Parse(payload[at:])
		if err != nil {
			return false
		}
		if frame.IsDatagram() {
			return true
		}
		at += n
	}
	return false
}

// ReadFrom implements net.PacketConn.
func (f *forger) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := f.Host.ReadFrom(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := shortAt(b[:n]); err == nil && at < n && f.in != nil {
		var o wire.Opened
		if f.in.Open(nil, b[at:n], clientCIDLen, f.got, &o) == nil {
			f.got = max(f.got, o.PacketNumber+1)
		}
	}
	return n, from, err
}

// clientCIDLen is the length of the connection IDs of a quic.Transport that dials.
const clientCIDLen = 4

// received returns the number after the largest that the relay has sent here.
func (f *forger) received() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got
}

// with calls a function that may use everything of the forger's.
func (f *forger) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// raw sends a packet as it is.
func (f *forger) raw(p []byte) {
	_, _ = f.Host.WriteTo(p, f.to) // as with UDP, what does not arrive is no error
}

// hostile is a peer with a forger.
type hostile struct {
	*forger
	w    *world
	conn *quic.Conn
}

// hostile connects a client with a forger to the relay.
func (w *world) hostile(d wire.Draft, qc *quic.Config) *hostile {
	w.t.Helper()
	f := &forger{Host: w.hostAt(w.address()), to: w.addr}
	tr := &quic.Transport{Conn: f}
	if qc == nil {
		qc = &quic.Config{MaxIncomingUniStreams: 1000}
	}
	qc.EnableDatagrams = true
	qc.DisablePathMTUDiscovery = true
	c, err := tr.Dial(w.context(), w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{d.ALPN()}, KeyLogWriter: f}, qc)
	must(w.t, err)
	w.t.Cleanup(func() {
		_ = c.CloseWithError(0, "")
		_ = tr.Close()
		_ = f.Close()
	})
	return &hostile{forger: f, w: w, conn: c}
}

// send sends packets with frames of the forger's, each instead of one of the client's.
func (h *hostile) send(payloads ...[]byte) {
	for _, p := range payloads {
		h.with(func() { h.forged = append(h.forged, p) })
		if h.conn.SendDatagram([]byte{0}) != nil {
			return // it is closed: what was sent before has worked
		}
		time.Sleep(time.Millisecond)
	}
}

// end returns why the relay closed the connection, nil if it did not.
func (h *hostile) end() error { return context.Cause(h.conn.Context()) }

// empty sends a packet without any frame.
func (h *hostile) empty() {
	h.with(func() {
		h.raw(h.seal.Seal(nil, h.seal.Generation(), h.dcid, h.next+100, 4, nil))
	})
}

// reserved sends an authentic packet whose reserved bits are set (RFC 9001, section 5).
func (h *hostile) reserved() {
	h.with(func() {
		h.raw(h.sealReserved(h.next + 100))
	})
}

func (h *hostile) sealReserved(number uint64) []byte {
	t := h.w.t
	t.Helper()
	if s := h.out.Suite(); s != wire.SuiteAES128GCM {
		t.Fatalf("cipher suite is %v", s)
	}
	secret := h.secret[0]
	expand := func(label string, n int) []byte {
		label = "tls13 quic " + label
		info := append([]byte{0, byte(n), byte(len(label))}, label...)
		b, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
		must(t, err)
		return b
	}
	block := func(key []byte) cipher.Block {
		b, err := aes.NewCipher(key)
		must(t, err)
		return b
	}
	header := block(expand("hp", 16)) // stays with key updates
	for range h.seal.Generation() {
		secret = expand("ku", sha256.Size)
	}
	aead, err := cipher.NewGCM(block(expand("key", 16)))
	must(t, err)
	nonce := expand("iv", 12)
	p := append([]byte{0x40 | 0x18 | byte(h.seal.Generation()&1)<<2 | 3}, h.dcid...)
	p = binary.BigEndian.AppendUint32(p, uint32(number))
	for i := range 8 {
		nonce[4+i] ^= byte(number >> (56 - 8*i))
	}
	p = aead.Seal(p, nonce, []byte{byte(wire.FramePing), 0, 0, 0}, p)
	at := 1 + len(h.dcid)
	var mask [aes.BlockSize]byte
	header.Encrypt(mask[:], p[at+4:at+4+aes.BlockSize])
	p[0] ^= mask[0] & 0x1f
	for i := range 4 {
		p[at+i] ^= mask[1+i]
	}
	return p
}
