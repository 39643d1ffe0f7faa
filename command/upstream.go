package command

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/fastrelay/fastrelay/internal/endpoint"
	"github.com/fastrelay/fastrelay/relay"
)

// upstreamFlags name another relay, and say how to know it.
type upstreamFlags struct {
	Upstream            string `placeholder:"ADDR" help:"Subscribe at another relay, host:port, to what nobody announced here. It must use the same --cipher. Default: none."`
	UpstreamCA          string `name:"upstream-ca" type:"existingfile" xor:"upstream-trust" placeholder:"FILE" help:"PEM file with its certificate, or with its authority. Default: the system's authorities."`
	UpstreamFingerprint string `xor:"upstream-trust" placeholder:"SHA256" help:"Take the certificate with this fingerprint for its."`
	UpstreamInsecure    bool   `xor:"upstream-trust" help:"Take anybody for it."`
}

// upstream returns the relay that is named, nil for none.
func (f *upstreamFlags) upstream() (*relay.Upstream, error) {
	trust := endpoint.Trust{Fingerprint: f.UpstreamFingerprint, Insecure: f.UpstreamInsecure}
	if f.Upstream == "" {
		if f.UpstreamCA != "" || trust.Fingerprint != "" || trust.Insecure {
			return nil, errors.New("whose certificate? Name the relay with --upstream HOST:PORT")
		}
		return nil, nil
	}
	host, _, err := net.SplitHostPort(f.Upstream)
	if err != nil {
		return nil, fmt.Errorf("--upstream %s: give a host and a port, as in 127.0.0.1:4433", f.Upstream)
	}
	if f.UpstreamCA != "" {
		if trust.CA, err = os.ReadFile(f.UpstreamCA); err != nil {
			return nil, fmt.Errorf("--upstream-ca: %w", err)
		}
	}
	tc, err := trust.TLS(host)
	if err != nil {
		return nil, err
	}
	return &relay.Upstream{Addr: f.Upstream, TLS: tc}, nil
}
