package endpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// ErrFingerprint says that a relay's certificate is another than the one that was pinned.
var ErrFingerprint = errors.New("certificate does not have the expected fingerprint")

// SelfSigned makes a certificate for a relay: ECDSA P-256, two weeks from a day ago on, for localhost and the given
// addresses. It is its own authority, so clients take its PEM form as --ca.
func SelfSigned(now time.Time, addrs ...net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a serial number: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "fastrelay"},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.Add(13 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, addrs...),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// PEM returns the chain of a certificate, without the key.
func PEM(c tls.Certificate) []byte {
	var out []byte
	for _, der := range c.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// Fingerprint returns the SHA-256 of a certificate, hexadecimal.
func Fingerprint(c tls.Certificate) string {
	h := sha256.Sum256(c.Certificate[0])
	return hex.EncodeToString(h[:])
}

// Trust says whom a client takes for the relay. The zero value trusts the system's authorities.
type Trust struct {
	// CA is PEM: authorities, or the relay's own certificate.
	CA []byte
	// Fingerprint pins the relay's certificate: SHA-256, hexadecimal, colons allowed. Names and authorities are not looked at.
	Fingerprint string
	// Insecure trusts anybody.
	Insecure bool
}

// TLS returns a client's configuration, to be used with DialConfig.
func (t Trust) TLS(serverName string) (*tls.Config, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName}
	switch {
	case t.Insecure:
		tc.InsecureSkipVerify = true
	case t.Fingerprint != "":
		want, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(t.Fingerprint), ":", ""))
		if err != nil || len(want) != sha256.Size {
			return nil, fmt.Errorf("fingerprint %q is not a SHA-256 in hexadecimal; the relay prints its own", t.Fingerprint)
		}
		tc.InsecureSkipVerify = true // the pin replaces the chain
		tc.VerifyConnection = func(cs tls.ConnectionState) error {
			if got := sha256.Sum256(cs.PeerCertificates[0].Raw); string(got[:]) != string(want) {
				return ErrFingerprint
			}
			return nil
		}
	case t.CA != nil:
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, errors.New("the CA file holds no PEM certificate; fastrelay relay --write-cert FILE writes one")
		}
	}
	return tc, nil
}
