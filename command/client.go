package command

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/internal/wire"
)

// clientFlags are common to publish and subscribe.
type clientFlags struct {
	Relay       string        `default:"127.0.0.1:4433" placeholder:"ADDR" help:"Address of the relay, host:port (default: ${default})."`
	Namespace   string        `default:"clip" help:"MoQ namespace; slashes divide its parts (default: ${default})."`
	Draft       int           `default:"16" enum:"14,16" help:"MoQ transport draft, 14 or 16 (default: ${default})."`
	Cipher      string        `default:"aead" enum:"aead,null" help:"Packet protection: aead, or null, which leaves packets on the wire unprotected, for labs alone; the relay must use the same (default: ${default})."`
	PriorityCID bool          `name:"priority-cid" help:"Tell the priority of each packet in its connection ID; the relay needs the same option."`
	CA          string        `name:"ca" type:"existingfile" xor:"trust" placeholder:"FILE" help:"PEM file with the relay's certificate (relay --write-cert writes it), or with its authority. Default: the system's authorities."`
	Fingerprint string        `xor:"trust" placeholder:"SHA256" help:"Take the certificate with this fingerprint for the relay's; relay prints it."`
	Insecure    bool          `xor:"trust" help:"Take anybody for the relay."`
	Timeout     time.Duration `default:"5s" help:"How long to wait for the relay when connecting (default: ${default})."`
	Keylog      string        `placeholder:"FILE" help:"Append the connections' secrets to a file, for Wireshark."`
}

// dialer makes connections as the flags say.
type dialer struct {
	cfg    endpoint.DialConfig
	keylog io.Closer
}

// Validate is that of publish and subscribe, too.
func (f *clientFlags) Validate() error {
	if f.Timeout <= 0 {
		return fmt.Errorf("--timeout must be more than 0, not %v", f.Timeout)
	}
	if _, _, err := net.SplitHostPort(f.Relay); err != nil {
		return fmt.Errorf("--relay %s: give a host and a port, as in 127.0.0.1:4433", f.Relay)
	}
	if slices.Contains(strings.Split(f.Namespace, "/"), "") {
		return fmt.Errorf("--namespace %q has an empty part: give names with slashes between them, as in live/camera", f.Namespace)
	}
	return nil
}

func (f *clientFlags) dialer(a *app) (*dialer, error) {
	addr, err := net.ResolveUDPAddr("udp", f.Relay)
	if err != nil {
		return nil, fmt.Errorf("--relay %s: %w", f.Relay, err)
	}
	if addr.IP == nil || addr.Port == 0 {
		return nil, fmt.Errorf("--relay %s: give a host and a port, as in 127.0.0.1:4433", f.Relay)
	}
	trust := endpoint.Trust{Fingerprint: f.Fingerprint, Insecure: f.Insecure}
	if f.CA != "" {
		if trust.CA, err = os.ReadFile(f.CA); err != nil {
			return nil, err
		}
	}
	host, _, err := net.SplitHostPort(f.Relay)
	if err != nil {
		return nil, fmt.Errorf("--relay %s: %w", f.Relay, err)
	}
	tc, err := trust.TLS(host)
	if err != nil {
		return nil, err
	}
	d := &dialer{}
	if d.keylog, err = keylog(tc, f.Keylog); err != nil {
		return nil, err
	}
	warnNull(a, f.Cipher)
	d.cfg = endpoint.DialConfig{Addr: addr, TLS: tc, Draft: wire.Draft(f.Draft), Null: f.Cipher == cipherNull, PriorityCID: f.PriorityCID, Timeout: f.Timeout}
	return d, nil
}

func (d *dialer) Close() error { return d.keylog.Close() }

const (
	cipherAEAD = "aead"
	cipherNull = "null"
)

func warnNull(a *app, cipher string) {
	if cipher == cipherNull {
		a.say("packets are not protected on the wire (--cipher=null): anybody on the path can read and change them")
	}
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// keylog makes a configuration log its secrets to a file, if there is one.
func keylog(tc *tls.Config, path string) (io.Closer, error) {
	if path == "" {
		return nopCloser{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--keylog: %w", err)
	}
	tc.KeyLogWriter = f
	return f, nil
}

// closing joins the error of a Close to that of a command.
func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }
