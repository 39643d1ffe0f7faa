package quicadapt

import (
	"github.com/fastrelay/fastrelay/internal/wire"
)

// keyLimits are the usage limits of packet protection (RFC 9001, section 6.6).
type keyLimits struct {
	// update is after how many packets sealed with one key the boundary begins a key update, confidentiality after how many
	// the key may not be used any more. 0: never.
	update, confidentiality uint64
	// integrity is how many packets of a connection may fail authentication.
	integrity uint64
}

// keyLimitsOf returns the limits of a cipher suite. Keys are updated at half the limit: packets that the datapath
// seals count, and are known a little later.
func keyLimitsOf(s wire.Suite) keyLimits {
	switch s {
	case wire.SuiteAES128GCM, wire.SuiteAES256GCM:
		return keyLimits{1 << 22, 1 << 23, 1 << 52}
	case wire.SuiteChaCha20Poly1305: // its confidentiality limit is more than there are packet numbers
		return keyLimits{0, 0, 1 << 36}
	default:
		return keyLimits{}
	}
}

// limitKeys begins a key update on the wire in time. All packets since the last count, the datapath's too: they share their
// numbers. An update waits until the peer has followed the last one (RFC 9001, section 6.1); when that takes
// until the limit, the connection ends.
func (c *conn) limitKeys() {
	l := &c.keyLimits
	used := c.space.Next() - c.wireOutFirst
	if l.update == 0 || used < l.update || c.fatal != 0 {
		return
	}
	if c.wireIn.Generation() == c.wireOutGen && c.loss.Largest() > c.wireOutFirst {
		c.wireOut.Update()
		c.sealFrom(c.wireOutGen + 1)
		c.stats.KeyUpdates++
		return
	}
	if used >= l.confidentiality {
		c.fail(wire.CodeAEADLimitReached)
	}
}

// sealFrom seals packets on the wire with another generation from now on, and has the datapath told at once. Until it knows it
// does not send: a packet may not be protected with older keys than those with lower numbers (RFC 9001, section 6.4), and the
// peer could not open it. Packets that are under way in the datapath at this moment are lost, and repaired.
func (c *conn) sealFrom(generation uint64) {
	c.wireOutGen, c.wireOutFirst = generation, c.space.Next()
	if c.joined {
		c.stale, c.dirty = true, true
		c.tellBudget()
		c.b.wake()
	}
}

// unconfirmed says that nothing has been sent with the keys that the peer updated to, or the boundary did, so that the peer has no
// leave to update them again (RFC 9001, sections 6.1 and 6.2). Of keys from before the boundary translates it is not known.
func (c *conn) unconfirmed() bool {
	return c.wireOutFirst > c.firstNumber && c.space.Next() == c.wireOutFirst
}

// authFailed counts a packet that failed authentication. Every packet passes here, also those that the datapath failed to
// open, so each counts once.
func (c *conn) authFailed() {
	c.failedAuth++
	if l := c.keyLimits.integrity; l > 0 && c.failedAuth >= l && c.translate {
		c.fail(wire.CodeAEADLimitReached)
	}
}

// fail closes the connection with a transport error. quic-go closes it, and its CONNECTION_CLOSE gets the code on its way out.
func (c *conn) fail(code wire.TransportCode) {
	if c.fatal != 0 {
		return
	}
	c.fatal = code
	c.startTranslating() // so that packets are sealed here
	if qc := c.qc.Load(); qc != nil {
		go func() { _ = qc.CloseWithError(0, "") }() // c.mu is held, and closing sends
	}
}

// fatalClose returns the CONNECTION_CLOSE that replaces quic-go's payload, nil if it is to go as it is.
func (c *conn) fatalClose(payload []byte) []byte {
	f := &c.frame
	for at := 0; at < len(payload); {
		n, err := f.Parse(payload[at:])
		if err != nil {
			return nil
		}
		if f.Type == wire.FrameConnectionCloseApp {
			return wire.AppendConnectionClose(payload[:0], c.fatal, 0, "")
		}
		at += n
	}
	return nil
}
