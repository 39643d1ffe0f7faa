package delay

import (
	"github.com/fastrelay/fastrelay/internal/wire"
)

// Where the random number of a ClientHello is: after the handshake type, the length and the legacy version
// (RFC 8446, sections 4 and 4.1.2).
const (
	helloRandomAt  = 1 + 3 + 2
	helloRandomLen = 32
	helloLen       = helloRandomAt + helloRandomLen
)

// hello is the start of a ClientHello, which may come in any number of CRYPTO frames in any order.
type hello struct {
	bytes [helloLen]byte
	seen  uint64 // bit i: byte i
}

func (h *hello) whole() bool { return h.seen == 1<<helloLen-1 }

func (h *hello) random() [helloRandomLen]byte { return [helloRandomLen]byte(h.bytes[helloRandomAt:]) }

func (h *hello) add(offset uint64, data []byte) {
	for i, b := range data {
		if offset+uint64(i) >= helloLen {
			return
		}
		h.bytes[offset+uint64(i)] = b
		h.seen |= 1 << (offset + uint64(i))
	}
}

// readHello reads the CRYPTO frames of a client's Initial packet at the start of b. One that does not open is left alone:
// then the connection has no secrets.
func (c *conn) readHello(buf, b []byte, h *wire.LongHeader) {
	// After a Retry the keys are those of the ID that the server chose (RFC 9001, section 5.2).
	for _, dcid := range [][]byte{c.odcid, h.DCID} {
		secret, _ := wire.InitialSecrets(h.Version, dcid)
		k, err := wire.NewKeys(wire.SuiteAES128GCM, h.Version, secret)
		if err != nil {
			return
		}
		var o wire.Opened
		if k.OpenLong(buf, b, h, 0, &o) != nil {
			continue
		}
		var f wire.Frame
		for rest := o.Payload; len(rest) > 0; {
			n, err := f.Parse(rest)
			if err != nil {
				return
			}
			rest = rest[n:]
			if f.Type == wire.FrameCrypto {
				c.hello.add(f.Offset, f.Data)
			}
		}
		return
	}
}
