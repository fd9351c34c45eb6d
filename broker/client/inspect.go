package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Inspection is what stands at an address, and whether it would be trusted.
// Nothing in Chain is verified where Err is set.
type Inspection struct {
	Server  string
	Version string // "TLS 1.3"
	Chain   []*x509.Certificate
	Peer    Peer
	Err     error // why it would not be trusted; nil where it would
}

// Inspect connects once, sends nothing but the handshake, and says whom a client
// with this configuration would trust, and why not. The error is set only where
// nobody answered with TLS; an empty Trust is allowed and trusts nobody.
func Inspect(ctx context.Context, cfg Config) (Inspection, error) {
	base, err := baseURL(cfg.Server)
	if err != nil {
		return Inspection{}, err
	}
	var td spiffeid.TrustDomain
	if cfg.TrustDomain != "" {
		if td, err = spiffeid.TrustDomainFromString(cfg.TrustDomain); err != nil {
			return Inspection{}, fmt.Errorf("client: trust domain: %w", err)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, fmt.Errorf("no answer within %s", cfg.Timeout))
	defer cancel()
	found := Inspection{Server: base.String()}
	address := base.Host
	if base.Port() == "" {
		address = net.JoinHostPort(base.Hostname(), "443")
	}
	// TLS 1.2 is let in here to be able to say so; nothing is sent over it.
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, ServerName: base.Hostname(),
		InsecureSkipVerify: true, // the point is to look at whoever is there
		VerifyConnection: func(state tls.ConnectionState) error {
			found.Version, found.Chain = tls.VersionName(state.Version), state.PeerCertificates
			return nil
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	if found.Chain == nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return found, &UnreachableError{Server: found.Server, err: err}
	}
	if found.Version != "TLS 1.3" {
		found.Err = errors.New("the server does not speak TLS 1.3")
		return found, nil
	}
	found.Peer, found.Err = cfg.Trust.Verify(found.Chain, td, cfg.Now())
	return found, nil
}
